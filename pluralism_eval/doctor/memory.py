"""Size of everything that is loaded here, from headers and configurations, against free memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval import ram
from pluralism_eval.doctor.environment import ranks
from pluralism_eval.doctor.findings import Finding
from pluralism_eval.doctor.model import DTYPES, is_causal
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.json_files import safetensors_header

_STORED = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_WIDTH = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
_TIGHT = 0.85  # of free memory: activations and logits come on top
_MESSAGE_PROMPT = 300  # tokens
_SLOW = 2e9  # parameters on a CPU


@dataclass(frozen=True)
class Size:
    """Of a model's weights."""

    parameters: int
    dtype: str
    """As stored, or as the configuration says."""
    stored: float | None = None
    """Bytes in files; None where there are none."""


@dataclass(frozen=True)
class Part:
    """One model that is loaded."""

    what: str
    source: str
    """Folder or Hub id."""
    args: Mapping[str, Any]
    """lm-eval's, for the LLM; for a base model its dtype."""
    writes: bool
    """Messages, in batches."""


def check(run: Run) -> list[Finding]:
    """Weights, and keys and values of a batch, against what is free."""
    from pluralism_eval.llm.linear import copied

    parts = parts_of(run)
    if not parts:
        return [Finding("memory", "ok", "no model is loaded in this process")]
    lines, total, largest = [], 0.0, 0
    for part in parts:
        run.hub.require(part.source)
        config = run.config if part.what == "LLM" else read_config(part.source)
        size = size_of(part, config)
        if size is None:
            lines.append(f"{part.what}: size unknown")
            continue
        weights = weight_bytes(size, config, part.args)
        if run.device == "cpu" and weights == 4 * size.parameters:
            weights += copied(weights)
        kept = _rows(run, part) * cache_bytes(config)
        total += weights + kept
        largest = max(largest, size.parameters)
        lines.append(
            f"{part.what} {size.parameters / 1e9:.2f}B parameters, {weights / 1e9:.1f} GB + {kept / 1e9:.1f} GB cache"
        )
    free, place = free_memory(run.device, bool(run.settings.llm_args.get("parallelize")))
    if run.device == "cpu" and ranks() > 1:
        lines.append(f"in each of {ranks()} processes")
        total *= ranks()
    seen = f"{'; '.join(lines)}; {place} has {free / 1e9:.1f} GB free"
    do = "dtype=bfloat16, load_in_4bit=True, parallelize=True, a smaller model, a lower message_batch"
    if total > free:
        return [Finding("memory", "problem", f"{seen}: {total / 1e9:.1f} GB are needed", do)]
    if total > _TIGHT * free:
        return [Finding("memory", "warning", f"{seen}: tight", do)]
    if run.device == "cpu" and largest > _SLOW:
        do = "a GPU, a smaller model, or a server (llm=openai)"
        return [Finding("memory", "warning", f"{seen}; on a CPU this will take very long", do)]
    return [Finding("memory", "ok", seen)]


def parts_of(run: Run) -> list[Part]:
    """The LLM, and base models of communities; a base that is the LLM is loaded once."""
    from pluralism_eval.communities.adapters import base_model

    s, found = run.settings, {}
    if run.kind in ("transformers", "engine") and "gguf_file" not in s.llm_args:
        args = {"dtype": "float32", **s.llm_args} if s.llm == "embedded" else s.llm_args
        found[run.source] = Part("LLM", run.source, args, False)
    base_dtype = "float32" if run.device == "cpu" else "bfloat16"
    for c in run.communities:
        if not c.base_url:
            source = run.embedded_folder if c.base == "embedded" else base_model(c.base)
            known = found.get(source) or Part(f"base of {c.name}", source, {"dtype": base_dtype}, True)  # fmt: skip
            found[source] = Part(known.what, source, known.args, True)
    return list(found.values())


def _rows(run: Run, part: Part) -> int:
    """Tokens held at a time: one row for answers, a batch for messages (one where it is found by itself: so many
    as fit)."""
    new = run.settings.message_max_tokens or run.preset.message_max_tokens
    return ((run.settings.message_batch or 1) if part.writes else 1) * (new + _MESSAGE_PROMPT)


def read_config(source: str) -> Any:
    """Raises PluralismError if it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of any kind: offline, gated, no such model
        raise PluralismError(
            f"base {source!r}: its configuration cannot be read ({type(error).__name__}); check the name"
        ) from error


def size_of(part: Part, config: Any) -> Size | None:
    """From the headers of weight files that are here, else from the configuration; None: unknown."""
    folder = Path(part.source)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        revision = str(part.args.get("revision", "main"))
        cached = try_to_load_from_cache(part.source, "config.json", revision=revision)
        folder = Path(cached).parent if isinstance(cached, str) else folder
    return of_headers(sorted(folder.glob("*.safetensors"))) or of_config(config)


def of_headers(files: Sequence[Path]) -> Size | None:
    """Counts the tensors of safetensors files by their headers alone."""
    counts: Counter[str] = Counter()
    for path in files:
        try:
            header = safetensors_header(path)
            for name, tensor in header.items():
                if name != "__metadata__":
                    counts[tensor["dtype"]] += math.prod(tensor["shape"])
        except (OSError, ValueError, KeyError, TypeError, MemoryError):
            return None
    if not counts:
        return None
    stored, _ = counts.most_common(1)[0]
    width = sum(_WIDTH.get(name, 1) * n for name, n in counts.items())
    return Size(sum(counts.values()), _STORED.get(stored, stored), float(width))


def of_config(config: Any) -> Size | None:
    """Builds the model without memory for its weights; None for code that is not transformers' own."""
    import torch
    from transformers import AutoModelForCausalLM

    if not is_causal(config):
        return None
    try:
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config)
    except Exception:  # an architecture that needs what is not here
        return None
    dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return Size(sum(p.numel() for p in built.parameters()), dtype)


def weight_bytes(size: Size, config: Any, args: Mapping[str, Any]) -> float:
    """Of the weights in memory."""
    if args.get("load_in_4bit") or args.get("load_in_8bit"):
        return size.parameters * (0.6 if args.get("load_in_4bit") else 1.1)
    asked = str(args.get("dtype") or "auto").removeprefix("torch.")
    if getattr(config, "quantization_config", None) or (asked == "auto" and size.stored):
        return size.stored or float(size.parameters)
    return float(size.parameters * DTYPES.get(size.dtype if asked == "auto" else asked, 2))


def cache_bytes(config: Any) -> float:
    """Of keys and values at 2 bytes, a token; 0 where the configuration does not say."""
    own = getattr(config, "text_config", None) or config
    heads = int(getattr(own, "num_attention_heads", 0) or 0)
    if not heads:
        return 0.0
    width = getattr(own, "head_dim", None) or getattr(own, "hidden_size", 0) // heads
    kept = getattr(own, "num_key_value_heads", None) or heads
    return 2.0 * 2 * (getattr(own, "num_hidden_layers", 0) or 0) * kept * width


def free_memory(device: str, all_gpus: bool = False) -> tuple[float, str]:
    """(bytes, where)."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        if all_gpus:
            count = torch.cuda.device_count()
            return float(sum(torch.cuda.mem_get_info(i)[0] for i in range(count))), f"{count} GPUs"
        return float(torch.cuda.mem_get_info(device if ":" in device else None)[0]), device
    if device.startswith("mps") and torch.backends.mps.is_available():
        limit = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return float(limit), "the GPU (MPS)"
    return ram.free(), "this machine"
