"""Base models of communities: where they are, and what of them a text depends on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pluralism_eval.chat_date import depends_on_time
from pluralism_eval.llm import embedded
from pluralism_eval.llm.contents import COMMIT, folder_sha256, loaded_commit, weights_sha256
from pluralism_eval.settings import Settings


def base_model(base: str) -> str:
    """What transformers loads for ``base`` (a folder or Hub id)."""
    return embedded.locate() if base == "embedded" else base


def base_identity(base: str, revision: str = "main") -> str:
    """What the content of a base model is, as far as it is known here.

    The embedded model: the hash of the file that its weights, tokenizer, template and configurations were
    unpacked from. A folder: a hash of all of these. A Hub model: its name and commit; before anything of it was
    downloaded its name and revision.
    """
    if base == "embedded":
        located = embedded.locate()
        if Path(located).is_dir():
            return Path(located).name
        base = located
    if Path(base).is_dir():
        return f"sha256:{folder_sha256(Path(base))}"
    return f"{base}@{loaded_commit(base, revision) or revision}"


def named_base(base: str, revision: str = "main") -> str:
    """A base as keys of earlier versions told it: its name and revision; of a folder a hash of the weights alone."""
    if base == "embedded":
        return Path(embedded.locate()).name
    if Path(base).is_dir():
        return f"sha256:{weights_sha256(base)}"
    return base if revision == "main" else f"{base}@{revision}"


# ---------------------------------------------------------------------- the base's number format

_UNREAD_BY_LLM = {
    "pretrained", "revision", "device", "batch_size", "max_batch_size", "max_length",
    "prefix_token_id", "parallelize", "max_memory_per_gpu", "device_map_option",
    "max_cpu_memory", "offload_folder", "logits_cache", "think_end_token", "enable_thinking", "chat_template_args",
    "truncation", "token", "low_cpu_mem_usage",
}  # fmt: skip
"""Arguments of ``llm=hf`` that change no number of its model."""


def number_format(settings: Settings, base: str, revision: str = "main") -> dict[str, Any]:
    """How the weights of a base in this process are held, where that is not the engine's own choice.

    A base of its own is loaded in float32 on CPUs and in bfloat16 on GPUs. A base that is also the LLM is
    loaded as the LLM is: its ``dtype``, its quantisation and whatever else its arguments make of it.

    Returns:
        The arguments that differ from the engine's choice; empty where none does.
    """
    args = dict(settings.llm_args)
    if settings.llm == "embedded":
        same = base == "embedded" or (base == embedded.HUB_ID and embedded.locate() == base)
        args = {"dtype": "float32"} | args
    else:
        own = (args.get("pretrained"), str(args.get("revision") or "main"))
        same = settings.llm == "hf" and own == (base_model(base), revision)
    if not same or args.get("peft") or args.get("delta"):
        return {}
    dtype = str(args.pop("dtype", None) or "auto").removeprefix("torch.")
    dtype = _stored_dtype(base, revision) if dtype == "auto" else dtype
    found = {k: v for k, v in args.items() if k not in _UNREAD_BY_LLM and v not in (None, False)}
    usual = "float32" if base == "embedded" else _chosen_dtype()
    return found if dtype == usual else {"dtype": dtype, **found}


def _chosen_dtype() -> str:
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def _stored_dtype(base: str, revision: str) -> str:
    """What ``dtype=auto`` comes to: what the model's configuration names."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            base_model(base), revision=revision, trust_remote_code=False
        )
    except (OSError, ValueError):
        return "auto"
    text = config.get_text_config()
    found = getattr(config, "dtype", None) or getattr(text, "dtype", None) or "float32"
    return str(found).removeprefix("torch.")


@lru_cache(maxsize=256)
def has_template(base: str, revision: str = "main") -> bool:
    """Whether a base has a chat template. One that is not here yet counts as having one: bases of communities are
    nearly always models that were tuned on instructions."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base_model(base), revision=revision, trust_remote_code=False
        )
    except Exception:  # not here, or damaged: who loads it says so
        return True
    return getattr(tokenizer, "chat_template", None) is not None


def pinned(base: str, revision: str) -> bool:
    """True where the name alone, which keys of earlier versions held, says all of the base's content."""
    if base == "embedded":
        return Path(embedded.locate()).is_dir()
    return not Path(base).is_dir() and bool(COMMIT.fullmatch(revision))


def date_in_template(settings: Settings, base: str, revision: str) -> str:
    """The date that prompts of this base show; empty where its chat template asks for none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base_model(base), revision=revision, trust_remote_code=False
        )
    except Exception:  # not here, or damaged: who loads it says so
        return settings.chat_date  # it may ask
    return settings.chat_date if depends_on_time(tokenizer) else ""
