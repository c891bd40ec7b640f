"""Builds the LLM that the settings name. Within a process, equal settings share one model."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

from pluralism_eval import ranks
from pluralism_eval.api.settings import ANSWER_FIELDS, parse_api
from pluralism_eval.cache import digest
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import batches, embedded
from pluralism_eval.llm.contents import contents_of
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.hf import HFLLM
from pluralism_eval.secrets import is_secret_name
from pluralism_eval.settings import Settings

log = logging.getLogger(__name__)
_EMBEDDED_BATCH = 8  # 1 makes it wait for memory; auto would try out 64 x 8192 tokens first
_alive: WeakValueDictionary[str, HarnessLLM] = WeakValueDictionary()


def load_llm(
    settings: Settings,
    batch_size: int | str | None = None,
    max_batch_size: int | None = None,
    device: str | None = None,
) -> HarnessLLM:
    """The LLM of ``settings``; ``batch_size`` and ``device`` are lm-eval's flags.

    Raises:
        PluralismError: unknown model name, or one of our own methods as its own LLM.
    """
    from pluralism_eval.plugin import METHODS, register_models

    register_models()
    from lm_eval.api.registry import get_model, model_registry

    kind, args = settings.llm, dict(settings.llm_args)
    if kind.removeprefix("pluralism_") in METHODS:
        raise PluralismError(
            f"llm={kind!r} is a method, not an LLM; name the model it should work with"
        )
    if kind == "embedded":
        kind, args = "hf", _arguments(settings)
        if batch_size in (None, 1, "1") or str(batch_size).startswith("auto"):
            batch_size = _EMBEDDED_BATCH
    elif kind == "openai":
        return _openai(settings)
    elif kind not in model_registry:
        raise PluralismError(
            f"llm={kind!r} is unknown. Allowed: embedded, openai, {', '.join(sorted(model_registry.keys()))}"
        )
    if isinstance(batch_size, str) and batch_size.isdigit():
        batch_size = int(batch_size)
    if get_model(kind) is get_model("hf"):
        # lm-eval's own default is cuda, whether there is one or not
        device = device if device and not device.startswith("cuda") else _device(device)
        if device == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # else accelerate sees one process
            # not cpu:0: weights are then loaded, and aligned in memory, as in a single process
            os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    key = digest(
        [kind, args, batch_size, max_batch_size, device, settings.batch_tokens, settings.chat_date]
    )
    if key not in _alive:
        inner = get_model(kind).create_from_arg_obj(
            args, {"batch_size": batch_size, "max_batch_size": max_batch_size, "device": device}
        )
        _join_ranks(inner)
        llm = _wrapper(inner)(inner, _identity(settings, args), settings.batch_tokens)
        llm.contents, llm.chat_date = _contents(settings, args), settings.chat_date
        _alive[key] = llm
        return llm
    return _alive[key]


def _openai(settings: Settings) -> HarnessLLM:
    """A server is asked by one process; it is that process's concurrency that matters."""
    from pluralism_eval.llm.openai_api import OpenAILLM

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise PluralismError(
            "llm=openai runs in one process: start it without a launcher and raise concurrency in llm_args instead"
        )
    api, key = (
        parse_api(settings.llm_args),
        digest([settings.llm_args, settings.batch_tokens, settings.chat_date]),
    )
    if key not in _alive:
        llm = OpenAILLM(api, _identity(settings, dict(settings.llm_args)), settings.batch_tokens)
        llm.contents, llm.chat_date = _contents(settings, settings.llm_args), settings.chat_date
        _alive[key] = llm
        return llm
    return _alive[key]


def shared_llm(settings: Settings) -> HarnessLLM:
    """The LLM of ``settings`` that this process already holds, whatever its batch size and device were;
    else a new one. Raises as :func:`load_llm`."""
    name = _identity(settings, _arguments(settings))
    day = settings.chat_date
    held = [llm for llm in _alive.values() if (llm.name, llm.chat_date) == (name, day)]
    return held[0] if held else load_llm(settings)


def identity_of(settings: Settings, tokenizer: Any = None) -> str:
    """:attr:`HarnessLLM.identity` of the LLM of ``settings``, which is not loaded.

    Args:
        tokenizer: its own, where it has a local one.
    """
    args = _arguments(settings)
    llm = HarnessLLM(SimpleNamespace(tokenizer=tokenizer), _identity(settings, args))
    llm.contents, llm.chat_date = _contents(settings, args), settings.chat_date
    return llm.identity


def held(pretrained: str) -> HFLLM | None:
    """An LLM of this process that holds these weights as they are, in float32 on the CPU."""
    for llm in _alive.values():
        if isinstance(llm, HFLLM) and llm.holds(pretrained):
            model = llm.inner.model
            if (model.device.type, str(model.dtype)) == ("cpu", "torch.float32"):
                return llm
    return None


def _arguments(settings: Settings) -> dict[str, Any]:
    """What the lm-eval model is built from."""
    args = dict(settings.llm_args)
    if settings.llm == "embedded":
        args = {"pretrained": embedded.locate(), "dtype": "float32"} | args
    return args


def _join_ranks(inner: Any) -> None:
    """Processes of one launch work together, see :mod:`pluralism_eval.ranks`: on GPUs and on CPUs."""
    accelerator = getattr(inner, "accelerator", None)
    if {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= set(os.environ) and "WORLD_SIZE" not in os.environ:
        log.warning(
            "accelerate launch has started one process, whatever --num_processes says. Give it --multi_gpu (on CPUs "
            "too, in the place of --cpu), or use torchrun --nproc_per_node N"
        )
    if accelerator is None or accelerator.num_processes < 2:
        return
    batches.join(inner)
    if not ranks.is_first() and os.environ.get("LOCAL_RANK") == "0":
        # the first process of a further machine: lm-eval would write results there as well
        os.environ["LOCAL_RANK"] = str(accelerator.process_index)


def _device(asked: str | None) -> str:
    """``asked``, else what there is; a machine without CUDA never gets ``cuda``."""
    import torch

    if torch.cuda.is_available():
        return asked or "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _wrapper(inner: Any) -> type[HarnessLLM]:
    from lm_eval.models.huggingface import HFLM

    causal = (
        isinstance(inner, HFLM)
        and inner.backend == "causal"
        and not getattr(inner, "MULTIMODAL", False)
    )
    return HFLLM if causal else HarnessLLM


def _contents(settings: Settings, args: Mapping[str, Any]) -> dict[str, str]:
    """What lies behind the names in ``args``. The embedded model has been verified, and its folder's name is its hash."""
    if settings.llm == "embedded" and Path(str(args["pretrained"])).is_dir():
        rest = {k: v for k, v in args.items() if k != "pretrained"}
        return {"pretrained": Path(str(args["pretrained"])).name} | contents_of(rest)
    return contents_of({k: v for k, v in args.items() if not is_secret_name(k)})


def _identity(settings: Settings, args: dict[str, Any]) -> str:
    """Name and arguments, without ``token=true`` and without the cache folder of the embedded model."""
    shown = {k: v for k, v in args.items() if not is_secret_name(k)}
    if settings.llm == "embedded":
        shown["pretrained"] = embedded.HUB_ID
    if settings.llm == "openai":  # how fast and how dear changes no answer
        api = parse_api(args)
        shown = {"model": api.model, "base_url": api.base_url, "api": api.api} | {
            k: v for k, v in shown.items() if k in ANSWER_FIELDS
        }
    rest = ",".join(f"{k}={v}" for k, v in sorted(shown.items()))
    return f"{settings.llm}({rest})"
