"""What a page carries: compressed JSON as text in which no markup can begin, and texts stored once."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

LONGEST = 20_000
"""Characters of one text that a page shows; the rest is cut and counted."""
_SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@^_{|}~"
"""85 of them, none of which has a meaning in HTML."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_SHORTEST = 12  # a piece of a prompt below this is not worth a reference


def packed(text: str, small: bool = False) -> str:
    """``text`` compressed, five signs for four bytes; the first sign says how many bytes were filled up.

    Args:
        small: bzip2, a fifth smaller than gzip on prose, which ``page.js`` unpacks itself; else gzip, which
            browsers unpack faster.
    """
    content = bz2.compress(text.encode()) if small else gzip.compress(text.encode(), 9, mtime=0)
    filled = -len(content) % 4
    words = np.frombuffer(content + b"\0" * filled, dtype=">u4").astype(np.uint64)
    powers = np.array([85**i for i in (4, 3, 2, 1, 0)], dtype=np.uint64)
    digits = (words[:, None] // powers) % np.uint64(85)
    table = np.frombuffer(_SIGNS.encode(), dtype=np.uint8)
    return _SIGNS[filled] + str(table[digits].tobytes(), "ascii")


def as_json(value: Any) -> str:
    """Compact, without lone surrogates (which UTF-8 cannot hold)."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATES.sub("\ufffd", text)


def inert(value: Any) -> str:
    """JSON that may stand inside a ``script`` element: no markup can begin or end in it."""
    text = as_json(value)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def source(text: str) -> str:
    """The hash by which a Content-Security-Policy allows one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class Texts:
    """The texts of one example, each once. A reference is a place in ``kept``; 0 is the query."""

    def __init__(self, query: str) -> None:
        self.kept: list[Any] = []
        self.cut = 0
        """Texts that were too long."""
        self._places: dict[str, int] = {}
        self.ref(query)

    def ref(self, text: str) -> int:
        """Where ``text`` is kept."""
        place = self._places.get(text)
        if place is None:
            place = self._places[text] = len(self.kept)
            self.kept.append(shortened(text))
            self.cut += len(text) > LONGEST
        return place

    def place(self, text: str) -> int | None:
        """Where ``text`` is kept; None if it is not."""
        return self._places.get(text)

    def pieces(self, prompt: str, known: Sequence[str]) -> list[int]:
        """``prompt`` as references; ``known`` texts in it are not stored again.

        Args:
            known: without blank ends, the longest first.
        """
        parts: list[str | int] = [prompt]
        for text in known:
            if len(text) < _SHORTEST:
                break
            parts = [p for part in parts for p in self._split(part, text)]
        return [part if isinstance(part, int) else self.ref(part) for part in parts]

    def _split(self, part: str | int, text: str) -> list[str | int]:
        if isinstance(part, int) or text not in part:
            return [part]
        place = self.ref(text)
        found: list[str | int] = []
        for i, piece in enumerate(part.split(text)):
            found += ([place] if i else []) + ([piece] if piece else [])
        return found


def shortened(text: str) -> str | list[Any]:
    """``text``, or [its beginning, number of characters cut]."""
    return text if len(text) <= LONGEST else [text[:LONGEST], len(text) - LONGEST]
