"""Option scores, read from what a server says of an answer's first token or of an echoed text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pluralism_eval.api.replies import Choice, Reply, Top
from pluralism_eval.distribution import logsumexp
from pluralism_eval.errors import PluralismError
from pluralism_eval.schema import OptionScores

_SEEN = " \t\r\n\u2581\u0120\u010a"  # white space, also as vocabularies write it


def from_top(choice: Choice, letters: Sequence[str], top_tokens: int | None) -> OptionScores:
    """Of one answer's likeliest first tokens, all spellings summed; what was not among them is ``unseen``.

    Args:
        top_tokens: the authors' rule among that many tokens instead.
    """
    n = len(letters)
    if choice.refused or not choice.first:  # no answer, or one that was not shown
        return OptionScores((-math.inf,) * n, -1, unseen=0.0 if choice.refused else 1.0)
    if top_tokens is not None:
        return _authors(choice.first, letters, top_tokens)
    seen = min(1.0, sum(math.exp(value) for _, value in choice.first))
    values = [
        [value for token, value in choice.first if token.strip(_SEEN) == letter]
        for letter in letters
    ]
    logprobs = tuple(float(logsumexp(own)) if own else -math.inf for own in values)
    best = choice.first[0][0].strip(_SEEN)
    greedy = list(letters).index(best) if best in letters else -1
    return OptionScores(logprobs, greedy, unseen=1.0 - seen)


def _authors(first: Top, letters: Sequence[str], count: int) -> OptionScores:
    """The authors' rule: of each letter its likeliest spelling among ``count`` tokens, else nothing."""
    if len(first) < count:
        raise PluralismError(
            f"preset=reference reads the {count} likeliest tokens, the server gives {len(first)}; use preset=paper"
        )
    kept = first[:count]
    values = [next((v for t, v in kept if t.strip(_SEEN) == letter), None) for letter in letters]
    if all(value is None for value in values):
        return OptionScores((-math.log(len(letters)),) * len(letters), -1, uniform_fallback=True)
    best = kept[0][0].strip(_SEEN)
    greedy = list(letters).index(best) if best in letters else -1
    return OptionScores(tuple(-math.inf if v is None else v for v in values), greedy)


def ending(reply: Reply, end: str) -> tuple[tuple[str, ...], float, bool]:
    """Tokens, nats and greediness of ``end`` in an echoed text that ends with it."""
    choice = reply.choices[0]
    known = 0 < reply.prompt_tokens <= len(choice.tokens)
    stop = reply.prompt_tokens if known else len(choice.tokens) - 1  # after it: the new token
    start, said = stop, ""
    while start > 0 and len(said) < len(end):
        start -= 1
        said = _plain(choice.tokens[start]) + said
    values = choice.logprobs[start:stop]
    if said != end or None in values or start == stop:
        return (), -math.inf, False  # it does not begin at a token's border
    own = [float(v) for v in values if v is not None]
    best = choice.best[start:stop]
    greedy = len(best) == len(own) and all(
        b is not None and v >= b - 1e-9 for v, b in zip(own, best, strict=True)
    )
    return choice.tokens[start:stop], sum(own), greedy


def _plain(token: str) -> str:
    """White space as it is in texts, not as vocabularies write it."""
    return token.replace("\u2581", " ").replace("\u0120", " ").replace("\u010a", "\n")


def summed(options: Sequence[Sequence[tuple[tuple[str, ...], float, bool]]]) -> OptionScores:
    """One log-probability an option: its spellings summed, equal tokens once."""
    totals = []
    for forms in options:
        distinct = {tokens: value for tokens, value, _ in forms if value > -math.inf}
        totals.append(float(logsumexp(list(distinct.values()))) if distinct else -math.inf)
    greedy = next((i for i, forms in enumerate(options) if any(g for _, _, g in forms)), -1)
    return OptionScores(tuple(totals), greedy)
