"""A backend without a model: texts by rule, next-token distributions by hash or given."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence

from tests.openai_server.backend import Answer, Ask, Choice, FinishReason, Message, Token
from tests.openai_server.schema import conforming

Rule = Callable[[Ask, int], str]
"""(what is asked, number of the sample) → text; a :class:`Refusal` to refuse."""
Distribution = Callable[[str], Mapping[str, float]]
"""All text so far → next token → probability; what is missing to 1 is spread over all other tokens. The token
``""`` ends the text."""

VOCABULARY = (
    *(f" {letter}" for letter in "ABCDEFGH"), *"ABCDEFGH", " yes", " no", " 1", " 2", "1", "2", ".", ",",
    " the", " a", " one", " people", " think", " say", " that", " it", " is", " right", " wrong", "",
)  # fmt: skip
_RULED = 0.6


class Refusal(str):
    """What a :data:`Rule` returns to refuse in these words."""


def split(text: str) -> list[str]:
    """The tokens of ``text``: a word or sign with the white space before it, and the start token."""
    return re.findall(r"<s>|\s?\w+|\s?[^\w\s]|\s", text)


def hashed(context: str) -> dict[str, float]:
    """A distribution over :data:`VOCABULARY` that ``context`` decides; a word never goes on with letters."""
    seed = hashlib.sha512(context.encode()).digest()
    inside = context[-1:].isalnum()
    weights = {
        token: math.exp(seed[i] / 40)
        for i, token in enumerate(VOCABULARY)
        if not (inside and token[:1].isalnum())
    }
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


class Scripted:
    """Without ``rule``, texts are drawn from ``distribution``: its mode at temperature 0, else by seed.

    With it, the text is the rule's, whatever the distribution says; the default distribution then
    holds the text's own next token at 0.6.
    """

    takes_ids = False

    def __init__(
        self,
        rule: Rule | str | None = None,
        distribution: Distribution | None = None,
        max_length: int = 8192,
        start: str = "",
    ) -> None:
        """
        Args:
            start: what the tokenizer puts before every prompt, whatever it begins with (``<s>``), unless the request
                says ``add_special_tokens: false``.
        """
        self._rule: Rule | None = (lambda *_: rule) if isinstance(rule, str) else rule
        self._distribution = distribution
        self.max_length, self._start = max_length, start

    def render(self, messages: Sequence[Message]) -> str:
        """``<role>content</>`` ..., as ``conftest.ScriptedLM``."""
        return "".join(f"<{m['role']}>{m['content']}</>" for m in messages) + "<assistant>"

    def count(self, prompt: str | tuple[int, ...]) -> int:
        return len(split(str(prompt)))

    def answer(self, ask: Ask) -> Answer:
        own = self._start if ask.body.get("add_special_tokens", True) else ""
        prompt = own + str(ask.prompt)
        shown: list[Token] = []
        if ask.echo and ask.top is not None:
            before = ""
            for token in split(prompt):
                known = self._token(before, token, ask.top, None) if before else None
                shown.append(known or Token(token.encode(), None))
                before += token
        choices = tuple(self._choice(ask, prompt, i) for i in range(ask.n))
        return Answer(self.count(prompt), choices, str(ask.prompt), tuple(shown))

    def _choice(self, ask: Ask, prompt: str, i: int) -> Choice:
        ruled, draw = None, random.Random(f"{ask.seed}:{i}")
        if self._rule is not None:
            ruled = self._rule(ask, i)
        elif ask.schema is not None:
            ruled = conforming(
                ask.schema, lambda before, ways: self._pick(ask, draw, prompt + before, ways)
            )
        tokens = self._drawn(ask, prompt, draw) if ruled is None else [*split(ruled), ""]
        text, kept, n, reason = "", 0, 0, "length"
        for token in tokens[: ask.max_tokens]:
            n += 1
            if token == "":
                reason = "stop"
                break
            text, kept = text + token, kept + 1
            cut = min((text.find(stop) for stop in ask.stop if stop in text), default=-1)
            if cut >= 0:
                text, reason = text[:cut], "stop"
                break
        shown = []
        if ask.top is not None:
            before = ""
            for token in tokens[:kept]:
                if len(before) >= len(text):
                    break
                sure = token if ruled is not None and self._distribution is None else None
                shown.append(self._token(prompt + before, token, ask.top, sure))
                before += token
        refusal = text if isinstance(ruled, Refusal) else None
        finish: FinishReason = "stop" if reason == "stop" else "length"
        return Choice("" if refusal else text, tuple(shown), finish, n, refusal)

    def _drawn(self, ask: Ask, prompt: str, draw: random.Random) -> list[str]:
        tokens: list[str] = []
        text = prompt
        while len(tokens) < ask.max_tokens and tokens[-1:] != [""]:
            tokens.append(self._pick(ask, draw, text))
            text += tokens[-1]
        return tokens

    def _pick(
        self, ask: Ask, draw: random.Random, context: str, ways: Sequence[str] | None = None
    ) -> str:
        if ways is None:
            found = self._next(context, None)
        else:
            found = {way: hashlib.sha256((context + way).encode()).digest()[0] + 1 for way in ways}
        ranked = sorted(found, key=lambda token: (-found[token], token))
        if ask.temperature == 0:
            return ranked[0]
        total, kept, mass = sum(found.values()), [], 0.0
        for token in ranked:
            kept.append(token)
            mass += found[token] / total
            if mass >= ask.top_p:
                break
        return draw.choices(kept, [found[t] ** (1 / ask.temperature) for t in kept])[0]

    def _next(self, context: str, sure: str | None) -> Mapping[str, float]:
        found = (self._distribution or hashed)(context)
        if sure is None:
            return found
        rest = {token: (1 - _RULED) * p for token, p in found.items() if token != sure}
        return {sure: _RULED, **rest}

    def _token(self, context: str, token: str, top: int, sure: str | None) -> Token:
        found = self._next(context, sure)
        ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
        likely = tuple((t.encode() or b"<|end|>", _log(p)) for t, p in ranked[:top] if p > 0)
        chosen = found.get(token, 0.0)
        if not chosen:
            left = max(1 - sum(found.values()), 1e-6)
            chosen = left / (16 + hashlib.sha256((context + token).encode()).digest()[0])
        rank = sum(p > chosen for p in found.values())
        return Token(token.encode(), _log(chosen), likely, rank)


def _log(probability: float) -> float:
    return math.log(probability)


def as_json(value: object) -> str:
    """For rules that answer in JSON."""
    return json.dumps(value, ensure_ascii=False)
