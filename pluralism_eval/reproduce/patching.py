"""Pools compared on the same docs (Table 4, Figure 6): differences per group, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.statistics import compare, holm
from pluralism_eval.report.breakdown import group_names
from pluralism_eval.report.comparison import check_same_docs
from pluralism_eval.tasks import headlines
from pluralism_eval.tasks.baselines import Samples

MINIMUM = 2
"""Docs a group needs to be listed."""


@dataclass(frozen=True)
class Delta:
    """One group's change from the first pool to another."""

    pool: str
    group: str
    docs: int
    before: float
    after: float
    difference: float
    low: float
    """95 % interval of the difference, clustered by question."""
    high: float
    p_value: float
    p_holm: float
    """Corrected over all groups of this pool; of the group "all": as it is."""


def deltas(task: str, runs: Mapping[str, Samples]) -> list[Delta]:
    """Differences of every pool from the first, over all docs and per group.

    Args:
        task: lm-eval's name; its headline score is compared.
        runs: pool → samples, on the same docs.

    Raises:
        PluralismError: fewer than two pools, or other docs.
    """
    if len(runs) < 2:
        raise PluralismError(f"pools are compared with the first one; got {list(runs)}")
    (base, first), *others = runs.items()
    number = next(c.number for c in headlines() if c.task == task and c.number is not None)
    found: list[Delta] = []
    for pool, samples in others:
        check_same_docs(task, base, pool, first, samples)
        groups: dict[str, list[int]] = defaultdict(list)
        for i, sample in enumerate(first):
            for name in group_names(task, sample):
                groups[name].append(i)
        kept = {name: own for name, own in groups.items() if len(own) >= MINIMUM}
        results = []
        for own in ([*range(len(first))], *kept.values()):
            a, b = [number(samples[i]) for i in own], [number(first[i]) for i in own]
            clusters = [first[i]["doc"]["cluster"] for i in own]
            results.append((fmean(b), fmean(a), compare(a, b, clusters)))
        corrected = [results[0][2].p_value, *holm([c.p_value for _, _, c in results[1:]])]
        for name, (before, after, c), p in zip(["all", *kept], results, corrected, strict=True):
            found.append(
                Delta(
                    pool, name, c.n_docs, before, after, c.difference, c.low, c.high, c.p_value, p
                )
            )
    return found


def rows(found: list[Delta]) -> list[list[str]]:
    """Rows of text, the header first."""
    header = [
        "pool",
        "group",
        "docs",
        "before",
        "after",
        "change",
        "95 % interval",
        "%",
        "p (Holm)",
    ]
    return [header] + [
        [
            d.pool, d.group, str(d.docs), f"{d.before:.4f}", f"{d.after:.4f}", f"{d.difference:+.4f}",
            f"[{d.low:+.4f}, {d.high:+.4f}]",
            f"{100 * d.difference / d.before:+.1f}" if d.before else "–", f"{d.p_holm:.4f}",
        ]
        for d in found
    ]  # fmt: skip


def reductions(found: list[Delta], countries: Mapping[str, Any]) -> dict[str, float]:
    """Pool → by how many percent the score fell over the docs of its countries (Figure 6's claim)."""
    claims = {}
    for pool, names in countries.items():
        own = [d for d in found if d.pool == pool and d.group in names]
        total = sum(d.docs for d in own)
        if total:
            before = sum(d.before * d.docs for d in own) / total
            after = sum(d.after * d.docs for d in own) / total
            claims[pool] = 100 * (before - after) / before
    return claims
