"""Fits passages into a context window, evenly, at sentence borders, and says what was cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from pluralism_eval.errors import PluralismError

Render = Callable[[list[str]], str]
Count = Callable[[str], int]
_ADDED = 8
"""Tokens that a tokenizer may add to a text (begin of text, ...), at most."""


def fit(
    render: Render, passages: Sequence[str], count: Count, limit: int
) -> tuple[str, tuple[int, ...]]:
    """The prompt with as much of every passage as fits.

    Args:
        render: passages → prompt; what it adds (instruction, question, options) is never cut.
        passages: [k] texts; the longest are cut first, to one common length in tokens, and there at the
            end of a sentence (of a word, where not even the first sentence fits).
        count: tokens of a text.
        limit: tokens that the prompt may have.

    Returns:
        (prompt, [k] tokens cut from each passage).

    Raises:
        PluralismError: even without passages the prompt is longer than ``limit``.
    """
    prompt = render(list(passages))
    if _fits(prompt, count, limit):
        return prompt, (0,) * len(passages)
    lacking = missing(render, len(passages), count, limit)
    if lacking:
        raise PluralismError(lacking)
    lengths = [count(passage) for passage in passages]
    ends = [_ends(passage) for passage in passages]
    cap = _common_cap(lengths, limit - count(render([""] * len(passages))))
    while True:
        kept = [
            _head(passage, own, cap, count) if n > cap else passage
            for passage, own, n in zip(passages, ends, lengths, strict=True)
        ]
        prompt = render(kept)
        if count(prompt) <= limit or cap == 0:
            lost = [n - count(text) for n, text in zip(lengths, kept, strict=True)]
            return prompt, tuple(max(n, 0) for n in lost)
        cap -= max(1, cap // 50)  # tokens merge across borders: the estimate can be off by a few


def missing(render: Render, k: int, count: Count, limit: int) -> str:
    """Why the prompt does not fit even with ``k`` empty passages; empty if it does."""
    bare = render([""] * k)
    if _fits(bare, count, limit):
        return ""
    return (
        f"a prompt needs {count(bare)} tokens without any passage, the model takes {limit} beside its response; "
        "use fewer few-shot examples, a lower max_gen_toks, or a model with a longer context; or leave such docs "
        "out, counted, with overlong=skip"
    )


def _fits(prompt: str, count: Count, limit: int) -> bool:
    """Most prompts are shorter in bytes already, which spares counting: a token is no less than a byte."""
    text: str = getattr(prompt, "prompt", prompt)  # lm-eval's JsonChatStr
    return len(text.encode("utf-8", "replace")) + _ADDED <= limit or count(prompt) <= limit


def _common_cap(lengths: Sequence[int], budget: int) -> int:
    """The largest cap with Σ min(length, cap) ≤ budget."""
    left, cap = budget, 0
    for i, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - i)
        if length > share:
            return share
        cap, left = length, left - length
    return cap


def _ends(text: str) -> list[int]:
    """Where each sentence of ``text`` ends, ascending."""
    from sentencex import segment

    found, start = [], 0
    for sentence in segment("en", text):
        stripped = sentence.strip()
        if stripped and (place := text.find(stripped, start)) >= 0:
            start = place + len(stripped)
            found.append(start)
    return found


def _head(text: str, ends: Sequence[int], tokens: int, count: Count) -> str:
    """The longest run of whole sentences from the start with at most ``tokens`` tokens; else of words."""

    def head(places: Sequence[int]) -> str:
        n = bisect_right(places, tokens, key=lambda end: count(text[:end]))
        return text[: places[n - 1]] if n else ""

    return head(ends) or head([i for i, c in enumerate(text) if c.isspace()]).rstrip()
