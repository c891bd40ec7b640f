"""A server's JSON reply → what was said, by how many tokens, and what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pluralism_eval.distribution import ABOVE_0
from pluralism_eval.errors import PluralismError

Top = tuple[tuple[str, float], ...]
"""(token, its log-probability in nats), the likeliest first."""
_SAME = 1e-4
"""Nats by which two entries of one token may differ and still be one entry, listed twice."""
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a reply."""

    text: str
    finish: str
    """``stop``, ``length``, ``content_filter``, ..."""
    refused: str = ""
    """``refusal`` or ``content_filter``; empty for an answer."""
    thought: bool = False
    """True if the server shows words that the model thought before its answer."""
    missing: bool = False
    """True if the server gave no text at all (null), where it should have."""
    tokens: tuple[str, ...] = ()
    """With log-probabilities: its tokens (with ``echo`` the prompt's before them), as :func:`spelled`."""
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
    thought = False
    if message is not None:
        if message.get("refusal"):
            refused = "refusal"
        text, thought = _content(message.get("content"))
        thought = thought or any(message.get(k) for k in ("reasoning_content", "reasoning"))
    else:
        text = raw.get("text")
    if not isinstance(text, str | None):
        raise TypeError(f"{text!r} is no text")
    tokens, logprobs, best, first = _logprobs(raw.get("logprobs") or {}, echo)
    if len(tokens) != len(logprobs):
        raise ValueError(f"{len(logprobs)} log-probabilities of {len(tokens)} tokens")
    # a lone surrogate, which JSON may hold, is no text that can be sent or stored
    said = "" if refused else (text or "").encode("utf-8", "replace").decode()
    missing = text is None and not refused
    if first == () and said:  # it did not end at once: the list is empty for want of numbers
        first = None
    return Choice(said, finish, refused, thought, missing, tokens, logprobs, best, first)


def _content(content: Any) -> tuple[Any, bool]:
    """(text, was there a thought) of a message's ``content``: a text, or a list of parts."""
    if not isinstance(content, list):
        return content, False
    texts, thought = [], False
    for part in content:
        kind = "text" if isinstance(part, str) else part.get("type", "text")
        if kind in ("thinking", "reasoning"):
            thought = True
        elif kind in ("text", "output_text"):
            texts.append(part if isinstance(part, str) else part["text"])
        else:
            raise TypeError(f"a part of type {kind!r} is no text")
    return "".join(texts), thought


# ---------------------------------------------------------------------- log-probabilities

_Logprobs = tuple[tuple[str, ...], tuple[float | None, ...], tuple[float | None, ...], Top | None]


def _logprobs(raw: Mapping[str, Any], echo: bool) -> _Logprobs:
    """Tokens, their nats, the likeliest nats at each place, and the likeliest first tokens.

    Some servers answer text completions in the form of chat completions: the form decides, not the endpoint.
    """
    if "content" in raw:
        tokens, logprobs, tops = _chat_form(raw["content"] or [])
    else:
        tokens, logprobs, tops = _text_form(raw)
    best = tuple(max((v for _, v in top), default=None) for top in tops)
    first = (tops[0] or None) if tops and not echo else None
    ended = raw.get("content") == [] or ("content" not in raw and bool(raw) and not tokens)
    return tokens, logprobs, best, () if ended and not echo else first


_Places = tuple[tuple[str, ...], tuple[float | None, ...], list[Top]]


def _chat_form(content: Sequence[Mapping[str, Any]]) -> _Places:
    return (
        tuple(spelled(t["token"], t.get("bytes")) for t in content),
        tuple(_nats(t.get("logprob")) for t in content),
        [
            _sorted((t["token"], t.get("bytes"), t.get("logprob")) for t in own or () if t)
            for own in (place.get("top_logprobs") for place in content)
        ],
    )


def _text_form(raw: Mapping[str, Any]) -> _Places:
    tops: Sequence[Mapping[str, Any] | None] = raw.get("top_logprobs") or []
    tokens = tuple(spelled(token) for token in raw.get("tokens") or ())
    return (
        tokens,
        tuple(map(_nats, raw.get("token_logprobs") or (None,) * len(tokens))),
        [_sorted((t, None, v) for t, v in (own or {}).items()) for own in tops],
    )


def _nats(value: Any) -> float | None:
    """A log-probability; None: the server gives none. Raises ValueError: above 0 by more than rounding, NaN."""
    if value is None:
        return None
    number = float(value)
    if not number <= ABOVE_0:
        raise ValueError(f"{value!r} is no log-probability")
    return number


def _sorted(entries: Iterable[tuple[Any, Any, Any]]) -> Top:
    """Of (token, its bytes, nats): the likeliest first, an entry that is listed twice once.

    Tokens of which the server does not know the log-probability (null, NaN) are as good as hidden.
    Servers may spell two tokens alike (``▁A`` and ``A``); then their log-probabilities differ, and
    both count, as far as all together are no more than certain.
    """
    found: dict[str, list[float]] = {}
    for token, given, value in entries:
        nats = None if value is None or math.isnan(float(value)) else _nats(value)
        if nats is None:
            continue
        own = found.setdefault(spelled(token, given), [])
        if all(abs(nats - other) > _SAME for other in own):
            own.append(nats)
    if sum(math.exp(v) for own in found.values() for v in own) > math.exp(ABOVE_0):
        found = {token: [max(own)] for token, own in found.items()}
    pairs = [(token, value) for token, own in found.items() for value in own]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))


# ---------------------------------------------------------------------- tokens


def spelled(token: Any, given: Any = None) -> str:
    """What a token stands for; bytes that are no whole character are lone surrogates, see :func:`joined`.

    Args:
        token: as the server writes it: text, ``bytes:\\xe6\\x98``, ``<0xE6>``, or an entry of the vocabulary.
        given: its UTF-8 bytes, where the server says them.
    """
    text = str(token)
    if given:
        return bytes(given).decode("utf-8", "surrogateescape")
    if text.startswith("bytes:") and _ESCAPED.search(text):
        parts = _ESCAPED.split(text.removeprefix("bytes:"))
        raw = b"".join(bytes.fromhex(p) if i % 2 else p.encode() for i, p in enumerate(parts))
        return raw.decode("utf-8", "surrogateescape")
    byte = re.fullmatch(r"<0x([0-9a-fA-F]{2})>", text)
    if byte:
        return bytes.fromhex(byte.group(1)).decode("utf-8", "surrogateescape")
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no text


def joined(tokens: Iterable[str]) -> str:
    """The text of tokens: characters that were cut into bytes are whole again."""
    return "".join(tokens).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
