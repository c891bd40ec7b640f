"""What the scripted server answers: everything follows from the request's own text."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping
from typing import Any

_TOKENS = (*"ABCDEFGH", "1", "2", "yes", "no", "the", "people")
_WHO = ("Neighbours", "Parents", "Some", "Many", "Few", "Others", "Teachers", "Friends")
_DO = ("value", "fear", "respect", "question", "defend", "praise", "doubt", "share")
_WHAT = ("honesty", "freedom", "duty", "care", "fairness", "tradition", "safety", "the law")
_SHORT = 20
"""New tokens up to which a choice or a verdict is asked for, not a text."""


def reply(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A ``chat`` or ``completions`` reply; equal requests get equal ones."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    draw = random.Random(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    choices = [_choice(kind, body, draw, i) for i in range(int(body.get("n") or 1))]
    new = sum(choice.pop("new") for choice in choices)
    sent = len(text) // 4
    return {
        "id": "chaos", "object": "chat.completion" if kind == "chat" else "text_completion",
        "created": 0, "model": body["model"], "choices": choices,
        "usage": {"prompt_tokens": sent, "completion_tokens": new, "total_tokens": sent + new},
    }  # fmt: skip


def _choice(kind: str, body: Mapping[str, Any], draw: random.Random, i: int) -> dict[str, Any]:
    limit = int(body.get("max_completion_tokens") or body.get("max_tokens") or 16)
    weights = [math.exp(4 * draw.random()) for _ in _TOKENS]
    ranked = sorted(zip(_TOKENS, weights, strict=True), key=lambda pair: -pair[1])
    first = [(token, math.log(weight / sum(weights))) for token, weight in ranked]
    if limit == 1:
        text = first[0][0]
    elif limit <= _SHORT:
        text = draw.choice("12")
    else:
        text = " ".join(_sentence(draw) for _ in range(draw.randint(2, 4)))
    words = text.split()
    found = {"index": i, "finish_reason": "length" if limit == 1 else "stop", "new": len(words)}
    asked = body.get("logprobs")
    if kind == "chat":
        top = [{"token": token, "logprob": value} for token, value in first]
        said = {"token": words[0], "logprob": -0.5, "top_logprobs": top[: int(body.get("top_logprobs") or 0)]}  # fmt: skip
        message = {"role": "assistant", "content": text, "refusal": None}
        return found | {"message": message, "logprobs": {"content": [said]} if asked else None}
    known = None
    if asked:
        shown: dict[str, Any] = {"tokens": words, "token_logprobs": [-0.5] * len(words)}
        known = shown | {"top_logprobs": [dict(first[: int(asked)])] * len(words)}
    return found | {"text": text, "logprobs": known}


def _sentence(draw: random.Random) -> str:
    return f"{draw.choice(_WHO)} {draw.choice(_DO)} {draw.choice(_WHAT)}."
