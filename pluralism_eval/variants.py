"""Robustness: one query asked in several ways, and one answer made of the readings.

Three things are varied, every combination of them once: the order in which options are listed, the
wording of the method's template, and the sample of community messages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from pluralism_eval.distribution import mean_read, read, to_logprobs, total_variation
from pluralism_eval.schema import Answer, Query, Reading
from pluralism_eval.uncertainty import mixed

FACTORS = ("order", "template", "sample")


def option_orders(n: int, count: int) -> list[tuple[int, ...]]:
    """Up to ``count`` different orders of ``n`` options; [j] is the option listed at place j.

    The listed order, its reverse (which keeps a scale a scale), then the rotations of both, so that
    every option visits every place. There are 2n of them (2 for two options).
    """
    listed = tuple(range(n))
    found: dict[tuple[int, ...], None] = {}
    for shift in range(max(n, 1)):
        turned = listed[shift:] + listed[:shift]
        found |= {turned: None, turned[::-1]: None}
    return list(found)[:count]


def reorder(
    text: str, letters: Sequence[str], options: Sequence[str], order: Sequence[int]
) -> str | None:
    """``text`` with its list "A. first B. second" in another order; None if it has not just one."""
    match = listing(text, letters, options)
    if match is None:
        return None
    gaps = ["", *match.groups()]
    listed = "".join(
        f"{gap}{letter}. {options[i].strip()}"
        for gap, letter, i in zip(gaps, letters, order, strict=True)
    )
    return text[: match.start()] + listed + text[match.end() :]


def listing(text: str, letters: Sequence[str], options: Sequence[str]) -> re.Match[str] | None:
    """Where ``text`` lists "A. first B. second"; None if it does so never, or more than once."""
    if not letters or len(letters) != len(options):
        return None
    pattern = r"(\s+)".join(
        rf"{re.escape(letter)}\.\s+{re.escape(option.strip())}"
        for letter, option in zip(letters, options, strict=True)
    )
    found = list(re.finditer(pattern, text))
    return found[0] if len(found) == 1 else None


def stem(query: Query) -> str | None:
    """The question of ``query`` without its list of lettered options; None where it has no such list."""
    match = listing(query.text, query.options, query.choices)
    if match is None:
        return None
    before = query.text[: match.start()].rstrip().removesuffix("Options:").rstrip()
    after = without_cue(query.text[match.end() :]).strip()
    return f"{before}\n{after}" if after else before


def named(text: str, options: Sequence[str]) -> list[int]:
    """Indices of the options that ``text`` names in their words.

    A longer option hides the shorter ones within it ("Strongly favor" is no "Favor"). An option of one word must be
    written as it is listed: "either way" names no "Either".
    """
    found = []
    for i in sorted(range(len(options)), key=lambda i: -len(options[i])):
        words = options[i].strip().rstrip(".")
        flags = re.IGNORECASE if " " in words else re.NOFLAG
        pattern = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", flags)
        if pattern.search(text):
            found.append(i)
            text = pattern.sub(" ", text)
    return sorted(found)


def without_cue(text: str) -> str:
    """``text`` without the closing "Answer:" after which a letter would follow."""
    return text.rstrip().removesuffix("Answer:").rstrip()


def expand(query: Query, templates: int, samples: int) -> list[Query]:
    """The ways in which ``query`` is asked: at least itself.

    Text cannot be averaged: a query that is answered by free text is asked once.
    """
    if query.readout == "generation":
        return [query]
    ways = []
    for order in option_orders(len(query.options), query.orders) or [()]:
        same = list(order) == sorted(order)
        text = query.text if same else reorder(query.text, query.options, query.choices, order)
        if text is None:  # counted: its answer has fewer readings than were asked for
            continue
        shown = () if same else tuple(query.choices[i] for i in order)
        ways.append(
            replace(query, text=text, order=() if same else order, choices=shown or query.choices)
        )
    return [
        replace(way, template=template, sample=sample)
        for way, template, sample in product(ways, range(templates), range(samples))
    ]


def combine(queries: Sequence[Query], answers: Sequence[Answer]) -> Answer:
    """One answer from those to the variants of one query: the mean distribution, in listed order.

    Readings without any mass (nothing could be read) are left out of the mean and count as mass 0.
    """
    if len(queries) == 1 and not queries[0].order:
        return answers[0]
    readings = tuple(_reading(q, a) for q, a in zip(queries, answers, strict=True))
    mean, mass = mean_read([(r.distribution, r.mass) for r in readings])
    least, samples = mixed([(r.distribution, r.mass, r.lower, r.samples) for r in readings])
    greedy = {
        q.order[a.greedy] if q.order and a.greedy >= 0 else a.greedy
        for q, a in zip(queries, answers, strict=True)
    }
    return Answer(
        logprobs=to_logprobs(mean, mass),
        greedy=greedy.pop() if len(greedy) == 1 else -1,
        messages=tuple(m for a in answers for m in a.messages),
        selections=tuple(s for a in answers for s in a.selections),
        sent=tuple(s for a in answers for s in a.sent),
        lower=least,
        samples=samples,
        readings=readings,
    )


def _reading(query: Query, answer: Answer) -> Reading:
    shown, mass = read(answer.logprobs)
    order = query.order or tuple(range(len(shown)))
    least = _listed(answer.lower, order) if answer.lower else ()
    return Reading(
        order, query.template, query.sample, _listed(shown, order), mass, least, answer.samples
    )


def _listed(shown: Sequence[float], order: Sequence[int]) -> tuple[float, ...]:
    """Values by place → by option as listed."""
    listed = [0.0] * len(shown)
    for place, option in enumerate(order):
        listed[option] = shown[place]
    return tuple(listed)


def spreads(readings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Factor → how much it moves the answer: the largest total variation between two of its levels,
    averaged over the other factors; in [0, 1]. Only factors with at least two levels."""
    found = {}
    for factor in FACTORS:
        levels: dict[Any, list[tuple[Sequence[float], float]]] = defaultdict(list)
        for reading in readings:
            levels[str(reading[factor])].append((reading["distribution"], reading["mass"]))
        if len(levels) > 1:
            means = [mean_read(part)[0] for part in levels.values()]
            found[factor] = max(total_variation(a, b) for a, b in combinations(means, 2))
    return found
