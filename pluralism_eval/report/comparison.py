"""Do two systems differ on the same docs? Paired tests, corrected for their number, with effect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.statistics import Comparison, compare, holm
from pluralism_eval.report.table import COLUMNS, Samples


@dataclass(frozen=True)
class Paired:
    """One comparison of a family."""

    score: str
    first: str
    second: str
    found: Comparison
    p_holm: float
    """Holm's p-value over all comparisons of the family."""


def comparisons(
    runs: Mapping[str, Mapping[str, Samples]], pairs: Sequence[tuple[str, str]]
) -> list[Paired]:
    """Every pair on every headline score that is a mean over docs; one family for Holm's correction.

    Args:
        runs: system → task → samples.
        pairs: (first, second) systems; differences are first minus second.

    Raises:
        PluralismError: two systems answered different docs.
    """
    found: list[tuple[str, str, str, Comparison]] = []
    for column in COLUMNS:
        for a, b in pairs:
            if column.number is None or any(column.task not in runs[name] for name in (a, b)):
                continue
            first, second = runs[a][column.task], runs[b][column.task]
            check_same_docs(column.task, a, b, first, second)
            clusters = [sample["doc"]["cluster"] for sample in first]
            result = compare(
                [column.number(s) for s in first], [column.number(s) for s in second], clusters
            )
            found.append((column.title, a, b, result))
    corrected = holm([result.p_value for *_, result in found])
    return [Paired(*row, p) for row, p in zip(found, corrected, strict=True)]


def check_same_docs(task: str, a: str, b: str, first: Samples, second: Samples) -> None:
    """Raises PluralismError unless both are about the same docs in the same order."""
    own = [[(s["doc"]["id"], s["doc"]["query"]) for s in samples] for samples in (first, second)]
    if own[0] != own[1]:
        where = next(
            (i for i, (x, y) in enumerate(zip(*own, strict=False)) if x != y), min(map(len, own))
        )
        raise PluralismError(
            f"{a} ({len(first)} docs) and {b} ({len(second)}) answered different docs of {task}, from place {where} "
            "on; paired tests need the same docs in the same order"
        )


def comparison_rows(found: Sequence[Paired]) -> list[list[str]]:
    """Rows of cells, the header first."""
    header = ["score", "difference", "95 % interval", "p", "p (Holm)", "effect", "test", "docs"]
    rows = [header]
    for paired in found:
        c = paired.found
        effect = f"{'g' if c.binary else 'd_z'} = {c.effect:+.2f}"
        rows.append(
            [
                f"{paired.score}: {paired.first} − {paired.second}",
                f"{c.difference:+.4f}",
                f"[{c.low:+.4f}, {c.high:+.4f}]",
                f"{c.p_value:.4f}",
                f"{paired.p_holm:.4f}",
                effect,
                f"{c.test}, {c.n_clusters} clusters",
                str(c.n_docs),
            ]
        )
    return rows
