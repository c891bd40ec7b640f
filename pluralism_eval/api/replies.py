"""A server's JSON reply → what was said, by how many tokens, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Top = tuple[tuple[str, float], ...]
"""(token, its log-probability in nats), the likeliest first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a reply."""

    text: str
    finish: str
    """``stop``, ``length``, ``content_filter``, ..."""
    refused: str = ""
    """``refusal`` or ``content_filter``; empty for an answer."""
    tokens: tuple[str, ...] = ()
    """With log-probabilities: its tokens (with ``echo`` the prompt's before them)."""
    logprobs: tuple[float | None, ...] = ()
    """[n_tokens] nats; None for the first of a text."""
    best: tuple[float | None, ...] = ()
    """[n_tokens] nats of the likeliest token at each place, where the server said."""
    first: Top | None = None
    """The likeliest first new tokens; None if the server gave none, empty if the text ended at once."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    choices: tuple[Choice, ...]
    model: str
    """Who says to have answered."""
    prompt_tokens: int = 0
    new_tokens: int = 0
    usage: bool = True
    """False if the server did not say how many tokens it used."""
    stored: bool = False
    """True if it was answered before and cost nothing now."""

    def as_stored(self) -> Reply:
        return replace(self, stored=True)


def read_reply(raw: Mapping[str, Any], echo: bool = False) -> Reply:
    """The reply in a server's JSON; what is missing there is missing here, never invented.

    Args:
        raw: a chat or text completion.
        echo: the prompt's tokens precede the new ones.
    """
    usage = raw.get("usage") or {}
    choices = sorted(raw.get("choices") or [], key=lambda choice: int(choice.get("index") or 0))
    return Reply(
        tuple(_choice(choice, echo) for choice in choices),
        str(raw.get("model") or ""),
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        bool(usage),
    )


def refused_reply(model: str, kind: str) -> Reply:
    """The reply to a prompt that the server's filter rejected."""
    return Reply((Choice("", kind, kind),), model)


def _choice(raw: Mapping[str, Any], echo: bool) -> Choice:
    finish = str(raw.get("finish_reason") or "")
    message = raw.get("message")
    refused = "content_filter" if finish == "content_filter" else ""
    known = raw.get("logprobs") or {}
    if message is not None:
        if message.get("refusal"):
            refused = "refusal"
        tokens, logprobs, best, first = _chat_logprobs(known)
        text = message.get("content")
    else:
        tokens, logprobs, best, first = _text_logprobs(known, echo)
        text = raw.get("text")
    said = "" if refused else str(text or "")
    return Choice(said, finish, refused, tokens, logprobs, best, first)


_Logprobs = tuple[tuple[str, ...], tuple[float | None, ...], tuple[float | None, ...], Top | None]


def _chat_logprobs(raw: Mapping[str, Any]) -> _Logprobs:
    content: Sequence[Mapping[str, Any]] = raw.get("content") or []
    first = content[0].get("top_logprobs") if content else None
    top = _sorted((str(t["token"]), float(t["logprob"])) for t in first) if first else None
    if raw.get("content") == []:
        top = ()
    return (
        tuple(str(t["token"]) for t in content),
        tuple(float(t["logprob"]) for t in content),
        (),
        top,
    )


def _text_logprobs(raw: Mapping[str, Any], echo: bool) -> _Logprobs:
    tokens = tuple(map(str, raw.get("tokens") or ()))
    logprobs = tuple(raw.get("token_logprobs") or ())
    tops = raw.get("top_logprobs") or []
    first = tops[0] if tops and not echo else None
    best = tuple(max(t.values()) if t else None for t in tops)
    top = _sorted(first.items()) if first else None
    if raw and not tokens and not echo:
        top = ()
    return tokens, logprobs, best, top


def _sorted(pairs: Any) -> Top:
    kept = [(str(token), float(value)) for token, value in pairs if not math.isnan(float(value))]
    return tuple(sorted(kept, key=lambda pair: -pair[1]))
