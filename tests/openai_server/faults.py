"""Scripted faults: which request meets which, decided without chance."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import Any

from tests.openai_server import forms

BEFORE = (
    "429", "429_ms", "429_bare", "insufficient_quota", "500", "502_html", "503", "timeout", "closed", "azure_filter",
)  # fmt: skip
"""Instead of an answer; nothing is billed. ``429`` names seconds, ``429_ms`` milliseconds, ``429_bare`` nothing."""
WIRE = ("cut_body", "cut_json", "late")
"""The answer is made and billed; half of it arrives with the whole length announced, half of it as if it were all,
or all of it after ``Faults.timeout`` seconds."""
CONTENT = (
    "no_logprobs", "no_top_logprobs", "short_top_logprobs", "refusal", "content_filter", "wrong_model", "no_choices",
    "null_content", "fewer_choices", "no_usage",
)  # fmt: skip
"""Billed, and delivered with something odd in it."""
FORMS = (
    "null_logprobs",
    "null_tops",
    "chat_form",
    "token_ids",
    "tops_twice",
    "parts",
    "thought_only",
    "no_echo",
)
"""Billed, and delivered as other servers say it: numbers that are null, chat's log-probabilities on completions, tokens
by id, the likeliest token listed twice, content as a list of parts, a thought that used the limit up, no prompt tokens."""
KINDS = (*BEFORE, *WIRE, *CONTENT, *FORMS)
_MADE_FOR_GENERATION = {*CONTENT, *FORMS, "azure_filter"}
_NOT_IN_BATCHES = {"closed", "502_html", *WIRE}


class Faults:
    """Faults of one server.

    Args:
        rates: kind → share of requests, drawn from a hash of ``seed``, the body and how often it came before:
            the same whatever the order of requests is.
        script: what the i-th request meets (0 is the first that ``on`` covers): a list with None, or i → kind.
        rule: (i, body) → kind or None, for anything else.
        max_in_a_row: a body gets no more faults of ``rates`` one after the other than this.
        on: what faults may hit: ``completions``, ``chat``, ``batch_lines``, ``models``, ``files``, ``batches``.
        retry_after: seconds, for ``429`` and ``429_ms``.
        timeout: seconds that ``timeout`` stays silent (then the connection closes) and ``late`` waits.
        keep_top: entries that ``short_top_logprobs`` leaves.
    """

    def __init__(
        self,
        rates: Mapping[str, float] | None = None,
        script: Mapping[int, str] | Sequence[str | None] = (),
        rule: Callable[[int, Any], str | None] | None = None,
        seed: int = 0,
        max_in_a_row: int = 2,
        on: Sequence[str] = ("completions", "chat"),
        retry_after: float = 0.01,
        timeout: float = 30.0,
        keep_top: int = 1,
    ) -> None:
        self._rates, self._rule, self._seed = dict(rates or {}), rule, seed
        self._script = dict(script) if isinstance(script, Mapping) else dict(enumerate(script))
        self._max, self._on = max_in_a_row, frozenset(on)
        self.retry_after, self.timeout, self.keep_top = retry_after, timeout, keep_top
        unknown = {*self._rates, *self._script.values()} - {*KINDS, None}
        if unknown or sum(self._rates.values()) > 1:
            raise ValueError(f"unknown faults {unknown} or rates above 1 in sum")
        self.injected: Counter[str] = Counter()
        """Kind → times it was really applied."""
        self._count = 0
        self._seen: Counter[str] = Counter()
        self._row: dict[str, int] = defaultdict(int)
        self._lock = RLock()

    def decide(self, where: str, key: str, body: Any) -> str | None:
        """The fault of this request, to be confirmed by :meth:`settle`.

        Args:
            where: one of ``on``.
            key: method, path and canonical body.
            body: parsed, or None.
        """
        if where not in self._on:
            return None
        with self._lock:
            i, self._count = self._count, self._count + 1
            seen, self._seen[key] = self._seen[key], self._seen[key] + 1
            ruled = self._script.get(i) or (self._rule(i, body) if self._rule else None)
            if ruled is not None:
                return ruled if fits(ruled, where, body) else None
            if self._row[key] >= self._max:
                return None
            drawn = self._draw(f"{self._seed}\0{key}\0{seen}")
            return drawn if drawn is not None and fits(drawn, where, body) else None

    def _draw(self, text: str) -> str | None:
        value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        for kind, rate in self._rates.items():
            if value < rate:
                return kind
            value -= rate
        return None

    def settle(self, key: str, kind: str | None) -> None:
        """``kind`` was applied to the request of ``key``; None: it was answered as it should be."""
        with self._lock:
            self._row[key] = 0 if kind is None else self._row[key] + 1
            if kind is not None:
                self.injected[kind] += 1


def fits(kind: str, where: str, body: Any) -> bool:
    """Whether this kind can be seen at all in the answer to ``body``."""
    if where not in ("completions", "chat", "batch_lines"):
        return kind not in _MADE_FOR_GENERATION
    if where == "batch_lines" and kind in _NOT_IN_BATCHES:
        return False
    if not isinstance(body, dict):
        return kind in BEFORE
    chat = "messages" in body
    asked = body.get("logprobs") not in (None, False)
    top = (body.get("top_logprobs") if chat else body.get("logprobs")) or 0
    prompts = body.get("prompt")
    many = len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) else 1
    return {
        "no_logprobs": asked,
        "no_top_logprobs": asked and top >= 1,
        "short_top_logprobs": asked and top >= 2,
        **dict.fromkeys(("null_logprobs", "token_ids"), asked),
        **dict.fromkeys(("null_tops", "tops_twice"), asked and top >= 1),
        "chat_form": asked and not chat,
        "no_echo": bool(body.get("echo")),
        "parts": chat,
        "refusal": chat,
        "null_content": chat,
        "fewer_choices": (body.get("n") or 1) * many >= 2,
    }.get(kind, True)


def spoil(kind: str, reply: dict[str, Any], keep_top: int) -> dict[str, Any]:
    """``reply`` with one of :data:`CONTENT` in it."""
    choices = reply["choices"]
    if kind == "wrong_model":
        reply["model"] = "another-model"
    elif kind == "no_choices":
        reply["choices"] = []
    elif kind == "fewer_choices":
        reply["choices"] = choices[:-1]
    elif kind == "no_usage":
        reply["usage"] = None
    for choice in choices:
        if kind in ("refusal", "null_content"):
            choice["message"] |= {"content": None, "refusal": "I'm sorry, I can't help with that." if kind == "refusal" else None}  # fmt: skip
            choice["logprobs"] = None if kind == "refusal" else choice["logprobs"]
        elif kind == "content_filter":
            choice["finish_reason"] = "content_filter"
            _empty(choice)
        elif kind == "no_logprobs":
            choice["logprobs"] = None
        elif kind in ("no_top_logprobs", "short_top_logprobs"):
            _shorten(choice["logprobs"], None if kind == "no_top_logprobs" else keep_top)
        elif kind in FORMS:
            forms.reshape(kind, choice)
    return reply


def _empty(choice: dict[str, Any]) -> None:
    if "message" in choice:
        choice["message"]["content"] = ""
    else:
        choice["text"] = ""


def _shorten(logprobs: dict[str, Any], keep: int | None) -> None:
    if "content" in logprobs:
        for token in logprobs["content"] or []:
            token["top_logprobs"] = None if keep is None else token["top_logprobs"][:keep]
    elif keep is None:
        logprobs["top_logprobs"] = None
    else:
        logprobs["top_logprobs"] = [
            None if top is None else dict(list(top.items())[:keep])
            for top in logprobs["top_logprobs"]
        ]
