"""What figures of panels say in words: their message in numbers, and what to be careful of."""

from __future__ import annotations

from collections.abc import Sequence

from pluralism_eval.report.figures.panels import Line, Panel, Point, full_names, shown

FEW = 30
"""Docs below which a caption warns."""
PEOPLE = ("other groups' mean", "human split-half")
"""Baselines of people's own answers."""


def alt_of(panels: Sequence[Panel], rows: Sequence[Line]) -> str:
    """Best and worst of every panel; of many, how often each run is best."""
    names = full_names(rows)
    tops: list[str] = []
    told, equal = [], 0
    for panel in panels:
        found = [
            (p, n) for p, n in zip(panel.points, names, strict=True) if p and p.value == p.value
        ]
        found.sort(key=lambda pair: pair[0].value, reverse=panel.higher_is_better)
        title = panel.title.rstrip(" ↑↓")
        if not found:
            told.append(f"{title}: no value.")
            continue
        ends = [
            f"best {found[0][1]} {shown(found[0][0])}",
            f"worst {found[-1][1]} {shown(found[-1][0])}",
        ]
        if found[0][0].value == found[-1][0].value:
            ends = [f"{'all runs' if len(found) > 1 else found[0][1]} {shown(found[0][0])}"]
            equal += 1
        else:
            tops += [name for p, name in found if p.value == found[0][0].value]
        top = _best_baseline(found[0][0], panel)
        told.append(f"{title}: {', '.join(ends)}{f', best baseline {top}' if top else ''}.")
    if len(panels) <= 6:
        return " ".join(told)
    counts = sorted({n: tops.count(n) for n in tops}.items(), key=lambda pair: -pair[1])
    best = [f"{name} best in {count}" for name, count in counts]
    best += [f"all runs equal in {equal}"] if equal and len(rows) > 1 else []
    return (
        f"Of {len(panels)} panels, ties counted for all: {', '.join(best)}. {told[0]}"
        if best
        else " ".join(told[:3])
    )


def _best_baseline(point: Point, panel: Panel) -> str:
    """Without the people's own answers, which no system is expected to beat."""
    own = {k: v for k, v in point.baselines.items() if k not in PEOPLE}
    if not own:
        return ""
    name = (max if panel.higher_is_better else min)(own, key=lambda k: own[k])
    return f"({name}) {own[name]:.3f}"


def care(panels: Sequence[Panel]) -> str:
    """What readers of this figure should be careful of."""
    notes = []
    sizes = [point.n for panel in panels for point in panel.points if point]
    unequal = any(len({p.n for p in panel.points if p}) > 1 for panel in panels)
    differ = any(
        len({tuple(p.baselines.items()) for p in panel.points if p}) > 1 for panel in panels
    )
    if unequal or differ:
        notes.append(
            "Runs differ in their docs or in how these are scored: compare each only with the baselines above it."
        )
    if sizes and min(sizes) < FEW:
        few = "All panels rest" if max(sizes) < FEW else "Some values rest"
        notes.append(
            f"{few} on fewer than {FEW} docs: differences inside the intervals say nothing."
        )
    if any(p is None or p.value != p.value for panel in panels for p in panel.points):
        notes.append("A dash: the run has no such docs, or no value.")
    if any(len(panel.points) > 1 for panel in panels):
        notes.append("Whether two runs differ is for paired tests, not for overlapping whiskers.")
    return " ".join(notes)
