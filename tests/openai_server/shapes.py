"""Replies of the two generation endpoints."""

from __future__ import annotations

import codecs
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tests.openai_server.backend import Answer, Ask, Choice, Token
from tests.openai_server.offer import Offer

RARE = -9999.0


def completion(asks: Sequence[Ask], answers: Sequence[Answer], offer: Offer, id: str) -> dict[str, Any]:  # fmt: skip
    """``text_completion``: the samples of the first prompt, then those of the second, ..."""
    choices: list[dict[str, Any]] = []
    for ask, answer in zip(asks, answers, strict=True):
        for choice in answer.choices:
            choices.append(
                {
                    "text": (answer.prompt_text if ask.echo else "") + choice.text,
                    "index": len(choices),
                    "logprobs": None if ask.top is None else _logprobs(ask, answer, choice, offer),
                    "finish_reason": choice.finish_reason,
                }
            )
    return {
        "id": f"cmpl-{id}",
        "object": "text_completion",
        **_about(asks[0], offer),
        "choices": choices,
        "usage": _usage(answers),
    }


def chat(ask: Ask, answer: Answer, offer: Offer, id: str) -> dict[str, Any]:
    """``chat.completion``."""
    choices = []
    for i, choice in enumerate(answer.choices):
        refused = choice.refusal is not None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if refused else choice.text,
            "refusal": choice.refusal,
            "annotations": [],
        }
        logprobs: dict[str, Any] | None = None
        if ask.top is not None:
            tokens = [_chat_token(token, ask.top, offer) for token in choice.tokens]
            logprobs = {"content": None, "refusal": tokens} if refused else {"content": tokens, "refusal": None}  # fmt: skip
        choices.append(
            {
                "index": i,
                "message": message,
                "logprobs": logprobs,
                "finish_reason": choice.finish_reason,
            }
        )
    usage = _usage([answer]) | {
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                                      "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }  # fmt: skip
    return {
        "id": f"chatcmpl-{id}",
        "object": "chat.completion",
        **_about(ask, offer),
        "choices": choices,
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_tests",
    }


def _about(ask: Ask, offer: Offer) -> dict[str, Any]:
    model = ask.body["model"]
    return {"created": int(time.time()), "model": offer.snapshots.get(model, model)}


def _usage(answers: Sequence[Answer]) -> dict[str, Any]:
    prompt = sum(answer.prompt_tokens for answer in answers)
    new = sum(choice.n_tokens for answer in answers for choice in answer.choices)
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def _logprobs(ask: Ask, answer: Answer, choice: Choice, offer: Offer) -> dict[str, Any]:
    tokens = (*answer.prompt, *choice.tokens) if ask.echo else choice.tokens
    offset = len(answer.prompt_text) if not ask.echo and offer.offset_from_prompt else 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    # a token that ends within a character does not move the offset
    ends = list(accumulate((len(decoder.decode(t.raw)) for t in tokens), initial=offset))
    return {
        "tokens": [_spelled(token.raw) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_alternatives(token, ask.top or 0) for token in tokens]
        if ask.top
        else None,
        "text_offset": ends[:-1],
    }


def _alternatives(token: Token, top: int) -> dict[str, float] | None:
    """The ``top`` likeliest, and the chosen one: up to ``top`` + 1."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for raw, value in token.top[:top]:
        found.setdefault(_spelled(raw), value)
    found.setdefault(_spelled(token.raw), token.logprob)
    return found


def _spelled(raw: bytes) -> str:
    """Parts of a character as OpenAI's completions show them."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _chat_token(token: Token, top: int, offer: Offer) -> dict[str, Any]:
    value = token.logprob
    if offer.rare_is_9999 and token.rank >= 20:
        value = RARE
    return _chat_entry(token.raw, value) | {
        "top_logprobs": [_chat_entry(raw, each) for raw, each in token.top[:top]]
    }


def _chat_entry(raw: bytes, logprob: float | None) -> dict[str, Any]:
    return {
        "token": _spelled(raw).removeprefix("bytes:"),
        "logprob": logprob,
        "bytes": list(raw),
    }
