"""Tokens of texts by a tokenizer that is on this machine, else three characters each; and filler text."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from typing import Any

from pluralism_eval.communities.adapters import base_model

CHARACTERS = 4.85
"""Of a token of English (measured: SmolLM2's tokenizer on the 600 texts of the embedded corpora)."""
EXACT = 5_000_000
"""Characters that are really tokenised; further texts get the mean length of these tokens."""
_PARAGRAPH = (
    "People who live in the same place often see the same question in different ways. Some would say that a rule is "
    "there to protect everyone, and that it should be kept even when it is hard. Others feel that each case is "
    "different, and that those who are closest to it should decide. There are good reasons on both sides, and most of "
    "us have changed our minds at least once. What matters in the end is that we listen, that we ask who gains and who "
    "loses, and that we do not forget the people who have no voice in the matter. "
)


class Counter:
    """Counts as a run's :class:`~pluralism_eval.usage.Usage` does."""

    def __init__(self, tokenizer: Any | None, bos: bool | None = None) -> None:
        """
        Args:
            tokenizer: of transformers, or None.
            bos: lm-eval's ``add_bos_token``; None leaves it to the tokenizer.
        """
        self.tokenizer = tokenizer
        self._special = {} if bos is None else {"add_special_tokens": bos}
        self._characters = self._tokens = 0

    def __call__(self, text: str) -> int:
        if self.tokenizer is None:
            return math.ceil(len(text) / 3)
        if self._characters > EXACT:
            return math.ceil(len(text) * self._tokens / self._characters)
        n = len(self.ids(text))
        self._characters += len(text)
        self._tokens += n
        return n

    def ids(self, text: str) -> list[int]:
        """Raises AttributeError without a tokenizer."""
        assert self.tokenizer is not None
        special = self._special
        start = getattr(self.tokenizer, "bos_token", None)
        if start and text.startswith(start):  # as lm-eval: a second one would be a token more
            special = {"add_special_tokens": False}
        ids: list[int] = self.tokenizer.encode(text, **special)
        return ids

    @property
    def how(self) -> str:
        if self.tokenizer is None:
            return "three characters a token (no tokenizer here)"
        if self._characters > EXACT:
            return (
                f"its tokenizer on the first {EXACT / 1e6:.0f} million characters, then their mean"
            )
        return "its tokenizer"


@lru_cache(maxsize=16)
def counter_of(model: str | None, bos: bool | None = None) -> Counter:
    """The counter of ``model``; nothing is downloaded."""
    if not model:
        return Counter(None)
    from transformers import AutoTokenizer

    try:
        where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        return Counter(AutoTokenizer.from_pretrained(base_model(model), **where), bos)
    except Exception:  # whatever keeps it from being read, characters remain
        return Counter(None)


def filler(characters: float) -> str:
    """Plain English of about so many characters, whole words, at least one."""
    wanted = max(1, round(characters))
    text = _PARAGRAPH * (wanted // len(_PARAGRAPH) + 1)
    cut = text[: wanted + 1]
    return cut.rsplit(" ", 1)[0].strip() if " " in cut.strip() else cut.strip()


def capped(text: str, tokens: int, count: Any) -> str:
    """The longest run of whole words from the start with at most ``tokens`` tokens."""
    if count(text) <= tokens:
        return text
    words = text.split(" ")
    n = bisect_right(range(1, len(words) + 1), tokens, key=lambda i: count(" ".join(words[:i])))
    return " ".join(words[: max(n, 1)])
