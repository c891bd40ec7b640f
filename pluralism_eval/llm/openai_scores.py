"""Option scores, read from what a server says of an answer's first token or of an echoed text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pluralism_eval.api.replies import Choice, Reply, Top, joined
from pluralism_eval.distribution import logsumexp
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.thoughts import opens_thought
from pluralism_eval.schema import OptionScores

_SEEN = " \t\r\n\u2581\u0120\u010a"  # white space, also as vocabularies write it


def from_top(choice: Choice, letters: Sequence[str], top_tokens: int | None) -> OptionScores:
    """Of one answer's likeliest first tokens, all spellings summed; what was not among them is ``unseen``.

    Args:
        top_tokens: the authors' rule among that many tokens instead.
    """
    n = len(letters)
    if choice.refused or not shows_first(choice):  # no answer, or one that was not shown
        unseen = 0.0 if choice.refused else 1.0
        return OptionScores((-math.inf,) * n, -1, unread=1, unseen=unseen)
    assert choice.first is not None
    if top_tokens is not None:
        return _authors(choice.first, letters, top_tokens)
    wanted = [letter.strip(_SEEN) for letter in letters]
    shown = [(token.strip(_SEEN), value) for token, value in choice.first]
    # a piece of an option's first character may still become that option
    known = [value for token, value in shown if not any(_begins(token, w) for w in wanted)]
    seen = min(1.0, sum(map(math.exp, known)))
    values = [[value for token, value in shown if token == letter] for letter in wanted]
    logprobs = tuple(float(logsumexp(own)) if own else -math.inf for own in values)
    best = shown[0][0]
    greedy = wanted.index(best) if best in wanted else -1
    unread = int(max(logprobs) == -math.inf)
    return OptionScores(logprobs, greedy, unread=unread, unseen=1.0 - seen)


def _begins(token: str, option: str) -> bool:
    """True for a piece of UTF-8 that ``option`` begins with, or one that the server shows as U+FFFD."""
    raw, whole = token.encode("utf-8", "surrogateescape"), option.encode()
    if "\ufffd" in token:
        return not option.isascii()
    broken = any("\udc80" <= letter <= "\udcff" for letter in token)
    return broken and whole.startswith(raw)


def shows_first(choice: Choice) -> bool:
    """Whether an answer's likeliest first tokens are there, and are an answer's, not a thought's."""
    if not choice.first or choice.thought or is_token_id(choice.first[0][0]):
        return False
    return not opens_thought(choice.first[0][0])


def ended_at_once(choice: Choice) -> bool:
    """Whether an answer has no first token, so that the server has none to show."""
    return choice.first == () and not choice.thought


def is_token_id(token: str) -> bool:
    """``token_id:319``: some servers name tokens so (vLLM's ``--return-tokens-as-token-ids``)."""
    return token.startswith("token_id:")


def word_of(tokenizer: Any, index: int) -> str:
    """What a token stands for, the blank included that decoding it alone may lose."""
    text = str(tokenizer.decode([index]))
    written = str(tokenizer.convert_ids_to_tokens(index))
    return f" {text}" if written[:1] in ("\u2581", "\u0120") and not text.startswith(" ") else text


def _authors(first: Top, letters: Sequence[str], count: int) -> OptionScores:
    """The authors' rule: of each letter its likeliest spelling among ``count`` tokens, else nothing."""
    if len(first) < count:
        raise PluralismError(
            f"preset=reference reads the {count} likeliest tokens, the server gives {len(first)}; use preset=paper"
        )
    kept = first[:count]
    wanted = [letter.strip(_SEEN) for letter in letters]
    values = [next((v for t, v in kept if t.strip(_SEEN) == letter), None) for letter in wanted]
    if all(value is None for value in values):
        return OptionScores((-math.log(len(letters)),) * len(letters), -1, uniform_fallback=True)
    best = kept[0][0].strip(_SEEN)
    greedy = wanted.index(best) if best in wanted else -1
    return OptionScores(tuple(-math.inf if v is None else v for v in values), greedy)


def ending(reply: Reply, end: str) -> tuple[tuple[str, ...], float, bool]:
    """Tokens, nats and greediness of ``end`` in an echoed text that ends with it."""
    choice = reply.choices[0]
    start, stop = _place(reply, end)
    values = choice.logprobs[start:stop]
    if joined(map(_plain, choice.tokens[start:stop])) != end or None in values or start == stop:
        return (), -math.inf, False  # it does not begin at a token's border
    own = [float(v) for v in values if v is not None]
    best = choice.best[start:stop]
    greedy = len(best) == len(own) and all(
        b is not None and v >= b - 1e-9 for v, b in zip(own, best, strict=True)
    )
    return choice.tokens[start:stop], sum(own), greedy


def echoes(reply: Reply, text: str) -> bool:
    """Whether echoed tokens spell ``text``, and all but the very first carry numbers."""
    if not reply.choices:
        return False
    choice, (start, stop) = reply.choices[0], _place(reply, text)
    numbers = choice.logprobs[max(1, start) : stop]
    spells = joined(map(_plain, choice.tokens[start:stop])).endswith(text)
    spells = spells and len(choice.tokens) >= reply.prompt_tokens
    return spells and bool(numbers) and all(v is not None and math.isfinite(v) for v in numbers)


def tail_of(prompt: str) -> str:
    """The end of ``prompt`` that any server spells as it is: what follows its last marker, at most 12 characters."""
    return re.split(r"[>\]|▷]", prompt[-12:])[-1]


def _place(reply: Reply, end: str) -> tuple[int, int]:
    """(start, stop) of the fewest tokens of an echoed text that hold ``end``, where it ends with it."""
    tokens = [_plain(token) for token in reply.choices[0].tokens]
    known = [reply.prompt_tokens] if 0 < reply.prompt_tokens <= len(tokens) else []
    # after it: the new token, unless that ends the text and is not shown
    for stop in (*known, len(tokens) - 1, len(tokens)):
        start = stop
        missing = len(end.encode())
        while start > 0 and missing > 0:
            start -= 1
            missing -= len(tokens[start].encode("utf-8", "surrogateescape"))
        if start < stop and joined(tokens[start:stop]).endswith(end):
            return start, stop
    return 0, 0


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
    return OptionScores(tuple(totals), greedy, unread=int(max(totals) == -math.inf))
