"""The LLM's configuration: can it be read, is it decoder-only, is its number format fit."""

from __future__ import annotations

from typing import Any

from pluralism_eval.doctor.findings import Finding
from pluralism_eval.doctor.run import Run

_OTHER_HEADS = ("MaskedLM", "Classification", "QuestionAnswering", "ForPreTraining")
DTYPES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Name → bytes."""


def model(run: Run) -> list[Finding]:
    """Configuration and architecture of the LLM."""
    check, kind = "model", run.kind
    if kind in ("api", "openai"):
        return [Finding(check, "ok", f"llm={run.settings.llm} is behind an API: see endpoint")]
    if kind == "other" or "gguf_file" in run.settings.llm_args:
        seen = f"llm={run.settings.llm} is built by lm-eval alone; nothing can be said of it beforehand"
        return [Finding(check, "ok", seen)]
    config, found = run.config, []
    named = ", ".join(getattr(config, "architectures", None) or [config.model_type])
    trusted = bool(run.settings.llm_args.get("trust_remote_code"))
    if getattr(config, "auto_map", None) and not is_causal(config) and not trusted:
        do = "--trust_remote_code, if you trust its author"
        found.append(Finding(check, "problem", f"{named} runs code of its repository", do))
    elif getattr(config, "is_encoder_decoder", False):
        seen = f"{named} is an encoder-decoder: options are read by lm-eval's log-likelihoods, which is slower"
        found.append(Finding(check, "warning", seen, "take a decoder-only model where you can"))
    elif not is_causal(config) and not trusted:
        do = "name a decoder-only model (…ForCausalLM)"
        found.append(
            Finding(check, "problem", f"{named} is no language model that writes text", do)
        )
    elif any(part in named for part in _OTHER_HEADS):
        do = "name a decoder-only model (…ForCausalLM)"
        found.append(Finding(check, "problem", f"{named} is an encoder; it writes no text", do))
    found += _of_dtype(run)
    return found or [Finding(check, "ok", f"{named}, decoder-only, window {window(run)} tokens")]


def is_causal(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _of_dtype(run: Run) -> list[Finding]:
    asked = str(run.settings.llm_args.get("dtype", "auto")).removeprefix("torch.")
    if asked not in ("auto", *DTYPES):
        do = f"Allowed: auto, {', '.join(DTYPES)}"
        return [Finding("model", "problem", f"dtype={asked!r} is unknown", do)]
    if run.kind == "transformers" and run.device == "cpu" and asked == "float16":
        do = "dtype=bfloat16 or float32"
        return [Finding("model", "warning", "dtype=float16 on a CPU is slow and may give NaN", do)]
    return []


def window(run: Run) -> int:
    """Context window in tokens, prompt and response together, as the LLM's class decides it."""
    args = run.settings.llm_args
    if run.kind == "openai":
        return int(args.get("max_length") or 8192)
    if run.kind == "api":
        return int(args.get("max_length") or 2048) - 1
    if run.kind == "other":
        return int(args.get("max_length") or 2048)
    given = args.get("max_length") or args.get("max_model_len")
    if given:
        return int(given)
    from lm_eval.models.utils import resolve_max_length

    return int(resolve_max_length(run.config, run.tokenizer, default=2048))


def tokenizer(run: Run) -> list[Finding]:
    """The LLM's tokenizer can be read."""
    if run.kind not in ("transformers", "engine") or "gguf_file" in run.settings.llm_args:
        return [Finding("tokenizer", "ok", "none is read beforehand")]
    seen = f"{type(run.tokenizer).__name__}, {len(run.tokenizer)} tokens"
    return [Finding("tokenizer", "ok", seen)]
