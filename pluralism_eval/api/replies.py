"""A server's JSON reply → what was said, by how many tokens, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pluralism_eval.distribution import ABOVE_0
from pluralism_eval.errors import PluralismError

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

    Raises:
        PluralismError: JSON of another form, or log-probabilities that are none.
    """
    try:
        return _reply(raw, echo)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise PluralismError(
            f"a server's reply is no completion: {type(error).__name__} {str(error)[:200]}"
        ) from error


def _reply(raw: Mapping[str, Any], echo: bool) -> Reply:
    usage = raw.get("usage") or {}
    choices = sorted(raw.get("choices") or [], key=lambda choice: int(choice.get("index") or 0))
    return Reply(
        tuple(_choice(choice, echo) for choice in choices),
        str(raw.get("model") or ""),
        max(0, int(usage.get("prompt_tokens") or 0)),
        max(0, int(usage.get("completion_tokens") or 0)),
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
    if not isinstance(text, str | None):
        raise TypeError(f"{text!r} is no text")
    if len(tokens) != len(logprobs):
        raise ValueError(f"{len(logprobs)} log-probabilities of {len(tokens)} tokens")
    # a lone surrogate, which JSON may hold, is no text that can be sent or stored
    said = "" if refused else (text or "").encode("utf-8", "replace").decode()
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
        tuple(_nats(t["logprob"]) for t in content),
        (),
        top,
    )


def _text_logprobs(raw: Mapping[str, Any], echo: bool) -> _Logprobs:
    tokens = tuple(map(str, raw.get("tokens") or ()))
    logprobs = tuple(None if v is None else _nats(v) for v in raw.get("token_logprobs") or ())
    tops = raw.get("top_logprobs") or []
    first = tops[0] if tops and not echo else None
    best = tuple(max(map(_nats, t.values())) if t else None for t in tops)
    top = _sorted(first.items()) if first else None
    if raw and not tokens and not echo:
        top = ()
    return tokens, logprobs, best, top


def _nats(value: Any) -> float:
    """A log-probability. Raises ValueError: NaN, or above 0 by more than rounding."""
    number = float(value)
    if not number <= ABOVE_0:
        raise ValueError(f"{value!r} is no log-probability")
    return number


def _sorted(pairs: Any) -> Top:
    """Tokens of which the server does not know the log-probability (NaN) are as good as hidden."""
    known = [(str(token), float(value)) for token, value in pairs]
    kept = [(token, _nats(value)) for token, value in known if not math.isnan(value)]
    return tuple(sorted(kept, key=lambda pair: -pair[1]))
