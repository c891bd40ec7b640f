"""Do two systems differ on the same docs? Paired tests, corrected for their number, with effect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.statistics import Comparison, compare, holm
from pluralism_eval.tasks import headlines
from pluralism_eval.tasks.baselines import Samples

_SAME_GOLD = 1e-8
_SHOWN = 120


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
    for column in headlines():
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
    """Raises PluralismError unless both are about the same docs in the same order, and score them alike.

    The error names the first difference: the place, the field and what either has there.
    """
    for place, (x, y) in enumerate(zip(first, second, strict=False)):
        own, other = _compared(x["doc"]), _compared(y["doc"])
        for field, value in own.items():
            if not _same(value, other[field]):
                raise PluralismError(
                    f"{a} and {b} answered different docs of {task}, from place {place} (id {x['doc'].get('id')}) on: "
                    f"{field} is {_shown(value, other[field])} in {a} and {_shown(other[field], value)} in {b}; paired tests need the same docs "
                    "in the same order, read by the same preset"
                )
    if len(first) != len(second):
        raise PluralismError(
            f"{a} ({len(first)} docs) and {b} ({len(second)}) answered different docs of {task}, from place "
            f"{min(len(first), len(second))} on; paired tests need the same docs in the same order"
        )


def _compared(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Field → value of all that must be the same: what was asked, of whom, what is right, and how it is scored."""
    meta = doc.get("pluralism") or {}
    fields = ("id", "query", "cluster", "group", "options", "letters", "gold", "target", "values", "explanations")  # fmt: skip
    return {
        **{name: doc.get(name) for name in fields},
        **{name: meta.get(name) for name in ("attribute", "preset", "nli", "nli_directions")},
    }


def _same(x: Any, y: Any) -> bool:
    """Equal; golds up to the rounding that normalising them anew explains."""
    if x and y and isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
        return all(_same(*pair) for pair in zip(x, y, strict=True))
    if isinstance(x, float | int) and isinstance(y, float | int):
        return abs(x - y) <= _SAME_GOLD
    return bool(x == y)


def _shown(value: Any, other: Any) -> str:
    """``value``, or its part where it begins to differ from ``other``."""
    text = repr(value)
    if len(text) <= _SHOWN:
        return text
    pairs = enumerate(zip(text, repr(other), strict=False))
    start = max(0, next((i for i, (x, y) in pairs if x != y), 0) - _SHOWN // 4)
    return f"{'...' if start else ''}{text[start : start + _SHOWN]}..."


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
