"""What an LLM meant by its words: a number, an option letter, or percentages. Pure functions.

Strict by intent: whatever is not clearly one thing is None, which callers count and show.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_NUMBER = re.compile(
    r"\W*(?:(?:the\s+)?(?:answer|choice|number|best|comment|passage|option|community|model)\s*(?:is|number)?\W*){0,3}(\d+)\b",
    re.IGNORECASE,
)
_LEAD = r"(?i:\W*(?:(?:the\s+|my\s+)?(?:(?:correct|best|right)\s+)?(?:answer|option|choice)(?:\s+is)?\b\W*){0,2})"
_SHARE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?|\.\d+)\s*(%?)")
_AUTHORS_LETTERS = "ABCDE"
SUM_TOLERANCE = 0.1
"""How far stated shares may sum from 1 before they are rescaled; beyond it they are unread."""


def parse_choice(reply: str, n: int) -> int | None:
    """The number from 1 to ``n`` that ``reply`` opens with, as an index from 0; None if unclear.

    Strict: at most words such as "Comment" or "The answer is" may precede the number, and no other
    number from 1 to ``n`` may follow on the same line.
    """
    line = reply.strip().split("\n", 1)[0]
    match = _NUMBER.match(line)
    if match is None:
        return None
    named = {_int(number) for number in re.findall(r"\d+", line)}
    valid = {number for number in named if 1 <= number <= n}
    first = _int(match.group(1))
    return first - 1 if valid == {first} else None


def _int(digits: str) -> int:
    """0 where there are more digits than any list is long (Python refuses to read thousands)."""
    return int(digits) if len(digits) <= 9 else 0


def parse_option(reply: str, letters: Sequence[str], options: Sequence[str] = ()) -> int | None:
    """Index of the option that ``reply`` opens with; None if unclear.

    Strict: the letter alone or before punctuation, at most after words such as "The answer is",
    and no second letter on the line; or the option's own words at the start.
    """
    line = reply.strip().split("\n", 1)[0]
    allowed = "".join(map(re.escape, letters))
    match = re.match(rf"{_LEAD}([{allowed}])(?![\w'’])(?=\W*$|\s*[.):,;\]*]|\s+[-–—])", line)
    if match:
        others = set(re.findall(rf"(?<![\w'’])([{allowed}])(?=[.):\]]|\W*$)", line[match.end() :]))
        return None if others - {match.group(1)} else list(letters).index(match.group(1))
    said = line.lower().lstrip("\"'“‘* ")
    opened = [
        i for i, option in enumerate(options) if re.match(rf"{re.escape(option.lower())}s?\b", said)
    ]
    longest = sorted(opened, key=lambda i: -len(options[i]))
    return longest[0] if longest else None


def parse_option_authors(reply: str) -> str | None:
    """The letter A to E that the authors' code reads, by the first of its eight rules that holds.

    It looks anywhere in the text and takes letters inside words ("Answer" is A); reproduced for
    ``answer_parsing=authors``. None where that code gives up.
    """
    first_word, lower = reply.strip().split(" ")[0], reply.lower()
    rules: tuple[Callable[[str], bool], ...] = (
        lambda x: x in first_word,
        lambda x: f"the answer is {x.lower()}" in lower,
        lambda x: f"answer: {x.lower()}" in lower,
        lambda x: f" {x} " in reply or f" {x}." in reply,
        lambda x: f"the correct answer is {x.lower()}" in lower,
        lambda x: f"{x}: " in reply,
        lambda x: f"{x}\n" in reply or reply.endswith(x),
        lambda x: f"({x})" in reply,
    )
    return next((x for rule in rules for x in _AUTHORS_LETTERS if rule(x)), None)


def parse_stance_authors(reply: str) -> int | None:
    """Steerable VK as the authors' code reads it: 0 supports, 1 opposes, 2 either; None: unparsed."""
    letter = parse_option_authors(reply)
    if letter in ("A", "B", "C"):
        return "ABC".index(letter)
    lower = reply.lower()
    words = (("support",), ("oppose",), ("either", "it depends"))
    return next((i for i, own in enumerate(words) if any(word in lower for word in own)), None)


def parse_answer(
    rule: str, reply: str, letters: Sequence[str], options: Sequence[str] = ()
) -> int | None:
    """Index of the option that ``reply`` gives, by ``answer_parsing=rule``; None if unparsed.

    Args:
        rule: ``strict`` or ``authors``. The authors read words ("support") for VK only.
    """
    if rule == "strict":
        return parse_option(reply, letters, options)
    if list(options) == ["Support", "Oppose", "Either"]:
        return parse_stance_authors(reply)
    letter = parse_option_authors(reply)
    return None if letter is None or letter not in letters else list(letters).index(letter)


def parse_shares(reply: str, letters: Sequence[str]) -> list[float] | None:
    """[n_options] probabilities that ``reply`` states, rescaled to sum to 1; None if unclear.

    Every letter needs exactly one number, as "A: 40%" in any order or as a JSON object; numbers are
    percent or shares by what they sum to (±10 %).
    """
    found = _json_shares(reply)
    if found is None:
        found = {}
        for letter, numbers in _written_shares(reply, letters):
            if letter in found or len(numbers) != 1:
                return None
            found[letter] = numbers[0]
    if set(found) != set(letters) or not all(0 <= v < math.inf for v in found.values()):
        return None
    total = sum(found.values())
    scale = 100.0 if total > 1 + SUM_TOLERANCE else 1.0
    if abs(total / scale - 1) > SUM_TOLERANCE:
        return None
    return [found[letter] / total for letter in letters]


def _json_shares(reply: str) -> dict[str, float] | None:
    """The numbers of a reply that is one JSON object, none of them said twice; None for any other reply."""
    try:
        pairs = json.loads(reply, object_pairs_hook=_Pairs)
        found = {str(k): float(v) for k, v in pairs.items if not isinstance(v, bool)}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return found if len(found) == len(pairs.items) else None


class _Pairs:
    """A JSON object with all its pairs."""

    def __init__(self, items: list[tuple[str, Any]]) -> None:
        self.items = items


def _written_shares(reply: str, letters: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    """(letter, the numbers after it), as they come."""
    allowed = "".join(map(re.escape, letters))
    parts = re.split(rf"(?<![\w'’])([{allowed}])(?=\s*[.):=\]*-]|\s+\d)", reply)
    for letter, text in zip(parts[1::2], parts[2::2], strict=True):
        numbers = _SHARE.findall(text)
        marked = [value for value, sign in numbers if sign] or [value for value, _ in numbers]
        yield letter, [float(value) for value in marked]
