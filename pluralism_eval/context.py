"""Fits passages into a context window, evenly, and says what was cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from pluralism_eval.errors import PluralismError


def fit(
    render: Callable[[list[str]], str],
    passages: Sequence[str],
    count: Callable[[str], int],
    limit: int,
) -> tuple[str, int]:
    """The prompt with as much of every passage as fits.

    Args:
        render: passages → prompt; what it adds (instruction, question, options) is never cut.
        passages: [k] texts; the longest are cut first, to one common length.
        count: tokens of a text.
        limit: tokens that the prompt may have.

    Returns:
        (prompt, tokens cut from the passages; 0 if all fitted).

    Raises:
        PluralismError: even without passages the prompt is longer than ``limit``.
    """
    prompt = render(list(passages))
    if count(prompt) <= limit:
        return prompt, 0
    bare = count(render([""] * len(passages)))
    if bare > limit:
        raise PluralismError(
            f"a prompt needs {bare} tokens without any passage, the model takes {limit} beside its response; "
            "use fewer few-shot examples, a lower max_gen_toks, or a model with a longer context"
        )
    lengths = [count(passage) for passage in passages]
    cap = _common_cap(lengths, limit - bare)
    while True:
        cut = [
            _head(p, cap, count) if n > cap else p for p, n in zip(passages, lengths, strict=True)
        ]
        prompt = render(cut)
        if count(prompt) <= limit or cap == 0:
            return prompt, sum(lengths) - sum(count(p) for p in cut)
        cap -= max(1, cap // 50)  # tokens merge across borders: the estimate can be off by a few


def _common_cap(lengths: Sequence[int], budget: int) -> int:
    """The largest cap with Σ min(length, cap) ≤ budget."""
    left, cap = budget, 0
    for i, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - i)
        if length > share:
            return share
        cap, left = length, left - length
    return cap


def _head(text: str, tokens: int, count: Callable[[str], int]) -> str:
    """The longest run of whole words from the start with at most ``tokens`` tokens."""
    words = text.split(" ")
    n = bisect_right(range(1, len(words) + 1), tokens, key=lambda i: count(" ".join(words[:i])))
    return " ".join(words[:n])
