"""Replies in the forms that other servers give them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any


def reshape(kind: str, choice: dict[str, Any]) -> None:
    """Changes ``choice`` into one of ``faults.FORMS``."""
    if kind == "parts":
        said = choice["message"]["content"]
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "B, no, wait"}]}
        choice["message"]["content"] = [thought, {"type": "text", "text": said}]
    elif kind == "thought_only":
        choice["finish_reason"] = "length"
        if "message" in choice:
            choice["message"] |= {"content": None, "reasoning_content": "Well"}
        else:
            choice["text"] = "<think>Well, B"
    else:
        {"null_logprobs": _null, "null_tops": _null_tops, "chat_form": _chat, "token_ids": _ids,
         "tops_twice": _twice, "no_echo": _last}[kind](choice["logprobs"])  # fmt: skip


def _null(logprobs: dict[str, Any]) -> None:
    for entry in logprobs.get("content") or []:
        entry |= {"logprob": None, "top_logprobs": []}
    if "tokens" in logprobs:
        n = len(logprobs["tokens"])
        logprobs |= {"token_logprobs": [None] * n, "top_logprobs": [None] * n}


def _null_tops(logprobs: dict[str, Any]) -> None:
    """One entry more, whose number is null."""
    for entry in logprobs.get("content") or []:
        entry["top_logprobs"].insert(0, {"token": "?", "logprob": None, "bytes": None})
        entry["top_logprobs"].append(None)
    for own in logprobs.get("top_logprobs") or []:
        if own:
            own["?"] = None


def _chat(logprobs: dict[str, Any]) -> None:
    tokens, values, tops = (logprobs.pop(k) for k in ("tokens", "token_logprobs", "top_logprobs"))
    del logprobs["text_offset"]
    logprobs["content"] = [
        {"token": t, "logprob": v, "top_logprobs": [{"token": k, "logprob": x} for k, x in (own or {}).items()]}
        for t, v, own in zip(tokens, values, tops or [None] * len(tokens), strict=True)
    ]  # fmt: skip


def id_of(token: str) -> int:
    return zlib.crc32(token.encode())


def _ids(logprobs: dict[str, Any]) -> None:
    def named(token: str) -> str:
        return f"token_id:{id_of(token)}"

    _each(logprobs, named)


def _each(logprobs: dict[str, Any], named: Callable[[str], str]) -> None:
    for entry in logprobs.get("content") or []:
        for each in (entry, *entry["top_logprobs"]):
            each |= {"token": named(each["token"]), "bytes": None}
    if "tokens" in logprobs:
        logprobs["tokens"] = [named(token) for token in logprobs["tokens"]]
        logprobs["top_logprobs"] = [
            own and {named(k): v for k, v in own.items()} for own in logprobs["top_logprobs"] or []
        ]


def _twice(logprobs: dict[str, Any]) -> None:
    """Chat only: an object of JSON holds a token once."""
    for entry in logprobs.get("content") or []:
        entry["top_logprobs"].append(dict(entry["top_logprobs"][0]))


def _last(logprobs: dict[str, Any]) -> None:
    """As if echo had been ignored, and several tokens written."""
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        logprobs[name] = (logprobs[name] or [])[-1:] * 6
