"""What one server offers: its models, endpoints, parameters and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Given = Literal["given", "refused", "ignored"]
"""What becomes of a parameter: honoured, a 400, or as if it were not there."""


@dataclass(frozen=True)
class Offer:
    """Defaults: OpenAI's, with everything switched on."""

    models: tuple[str, ...] = ("model",)
    snapshots: Mapping[str, str] = field(default_factory=dict)
    """Model asked for → model named in the reply."""
    endpoints: frozenset[str] = frozenset({"completions", "chat", "batch"})
    """``batch`` is files and batches; a missing endpoint is a 404."""
    echo: Given = "given"
    echo_with_logprobs: Given = "given"
    """OpenAI refuses the pair for its last completions models."""
    logprobs: Given = "given"
    top_logprobs: Given = "given"
    json_schema: Given = "given"
    most_top_logprobs: int = 20
    """Chat."""
    most_logprobs: int = 20
    """Completions; OpenAI allows 5, vLLM 20."""
    most_n: int = 128
    api_key: str | None = None
    """Required of every request; None: any or none."""
    shows_key: Literal["masked", "whole"] = "masked"
    """How the 401 quotes a wrong key."""
    unsupported: tuple[str, ...] = ()
    """Parameters that are a 400, as ``max_tokens`` for reasoning models."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Parameter → its only allowed value, as ``temperature`` 1 for reasoning models."""
    extra: tuple[str, ...] = ()
    """Unknown parameters that are ignored; all others are a 400."""
    rare_is_9999: bool = True
    """Chat: a chosen token outside the 20 likeliest has log-probability -9999, as documented; vLLM: False."""
    offset_from_prompt: bool = True
    """Completions without echo: ``text_offset`` counts from the start of the prompt; vLLM: False."""
    default_max_tokens: int = 256
    """Chat without ``max_tokens``; OpenAI's is the rest of the context window."""
    latency: float = 0.0
    """Seconds before each generation is answered."""
    idempotency: bool = True
    """``Idempotency-Key`` counts on every POST, as Stripe has it; OpenAI promises nothing of the kind."""
