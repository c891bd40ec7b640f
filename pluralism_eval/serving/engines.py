"""The command lines of vLLM and SGLang.

Where each flag was confirmed:

- vLLM: the argument parser in the released package 0.33.0 (``engine/arg_utils.py``,
  ``entrypoints/common/cli_args.py``, ``config/lora.py``); that of the CPU build 0.32.0 took every one, and its server
  ran with those for one model, adapters and key. Documentation: "LoRA Adapters" v0.6.4, "Parallelism and Scaling" main.
- SGLang: the argument parser of the released package 0.5.23 took every one (``srt/arg_groups/fields``). Documentation:
  "LoRA Serving" main. How it names adapters is read from ``srt/entrypoints/openai/serving_base.py``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from pluralism_eval.serving.servers import Server

KEY = "\0key"
"""Stands for the key until the text is written, which then names its variable."""
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # MaxLoRARanks in config/lora.py, 0.33.0
GUESSED_RANK = 64
RAY_PORT = 6379
IMAGES = {"vllm": "vllm/vllm-openai:v0.33.0", "sglang": "lmsysorg/sglang:v0.5.23"}
_HEAD = {
    "vllm": ["vllm", "serve"],
    # `sglang serve` is the recommended spelling since 0.5.x; this one works in older releases too
    "sglang": ["python3", "-m", "sglang.launch_server"],
}


def program(engine: str) -> list[str]:
    return list(_HEAD[engine])


def arguments(server: Server, engine: str, host: str) -> list[str]:
    """What follows the program's name. The API key, where it has to be here, is :data:`KEY`."""
    build = _vllm if engine == "vllm" else _sglang
    return [*build(server), "--host", host, "--port", str(server.port), *server.extra]


def environment(engine: str) -> dict[str, str]:
    """Variables that the server needs."""
    return {"VLLM_API_KEY": KEY} if engine == "vllm" else {}


def shell(words: Sequence[str], key_variable: str) -> list[str]:
    """Words for a shell; the key is named, never written."""
    return [f'"${key_variable}"' if word == KEY else shlex.quote(word) for word in words]


def _vllm(server: Server) -> list[str]:
    # generation-config: else the model's own top_k, repetition penalty, ... would shape messages unseen
    words = [server.model, "--served-model-name", server.served, "--generation-config", "vllm"]
    if server.revision != "main":
        words += ["--revision", server.revision]
    if server.context:
        words += ["--max-model-len", str(server.context)]
    if len(server.gpus) > 1:
        words += ["--tensor-parallel-size", str(len(server.gpus))]
    if server.nodes > 1:
        words += ["--pipeline-parallel-size", str(server.nodes)]
        words += ["--distributed-executor-backend", "ray"]
    if server.loras:
        words += ["--enable-lora", "--max-loras", str(len(server.loras))]
        words += ["--max-lora-rank", str(max_rank(server)), "--lora-modules"]
        words += [_module(lora.served, lora.path) for lora in server.loras]
    return words


def _module(name: str, path: str) -> str:
    """``name=path``; JSON where vLLM would take the path apart."""
    return json.dumps({"name": name, "path": path}) if "," in path else f"{name}={path}"


def max_rank(server: Server) -> int:
    """The smallest rank that vLLM allows and that holds every adapter."""
    highest = max(lora.rank or GUESSED_RANK for lora in server.loras)
    return next((rank for rank in VLLM_RANKS if rank >= highest), highest)


def _sglang(server: Server) -> list[str]:
    words = ["--model-path", server.model, "--served-model-name", server.served]
    words += ["--sampling-defaults", "openai", "--api-key", KEY]
    if server.revision != "main":
        words += ["--revision", server.revision]
    if server.context:
        words += ["--context-length", str(server.context)]
    if len(server.gpus) > 1:
        words += ["--tp-size", str(len(server.gpus))]
    if server.loras:
        # the bare base takes a slot of a batch as well
        words += ["--enable-lora", "--max-loras-per-batch", str(len(server.loras) + 1)]
        words += ["--lora-paths"]
        for lora in server.loras:
            # It answers to `base:adapter`, looks `adapter` up, and lists adapters by the name given here.
            # A client that first looks for `base:adapter` in the list needs that name there too.
            words += [
                f"{lora.served}={lora.path}",
                f"{sglang_name(server, lora.served)}={lora.path}",
            ]
    return words


def sglang_name(server: Server, adapter: str) -> str:
    """The model name of a request for ``adapter``; its own name alone would be answered by the base."""
    return f"{server.served}:{adapter}"
