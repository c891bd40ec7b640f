"""Rates of what the attacks achieved, with 95 % intervals clustered by question or situation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from pluralism_eval.hijack.corpus import CONTROLS
from pluralism_eval.hijack.run import Outcome
from pluralism_eval.metrics.faithfulness import Share, share
from pluralism_eval.metrics.statistics import mean_interval

K = TypeVar("K")


@dataclass(frozen=True)
class Change:
    """A mean difference with its 95 % interval; NaN where there is nothing to compare."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rates:
    """Of a set of outcomes."""

    success: Share
    success_read: Share
    """In the prompts that show the message, where any does."""
    read: Share
    """Answers given with the message in view."""
    selected: Share
    """Selections that named the attacker; of 0 outcomes where nothing is selected."""
    selected_clean: Share
    """The same of the community whose place it took, in the clean run."""
    fallbacks: Share
    """Attacked selections that could not be read."""
    shift: Change
    """Of the target's probability; NaN for free text."""
    mass_shift: Change
    accounted: Share
    """Of the other communities' messages, those that the response accounts for; of 0 outcomes unless asked for."""
    accounted_clean: Share


@dataclass(frozen=True)
class CellSummary:
    """One method on one task."""

    task: str
    method: str
    docs: int
    clusters: int
    without_target: int
    """Docs with fewer than two options: they are left out."""
    skipped: int
    """Docs that do not fit the LLM (``overlong=skip``): they are left out."""
    attacks: Rates
    honest: Rates
    """Of plain messages for the target."""
    unrelated: Rates
    """Of messages about something else."""
    beyond_honest: Change
    """Success of the attacks minus that of honest messages, paired by doc and position."""
    families: dict[str, Rates]
    positions: dict[str, Rates]
    by_attack: dict[str, Share]
    """Attack → success."""
    prompts: int
    """That showed a planted message, controls included."""
    escaped: int
    tokenised: int
    crowded: int
    escapes_of: dict[str, int]
    """Attack → prompts that it escaped in; only those with any."""


def summarise(
    outcomes: Sequence[Outcome], without_target: int = 0, skipped: int = 0
) -> CellSummary:
    """Outcomes of one method on one task, at least one."""
    first = outcomes[0]
    attacks = [o for o in outcomes if o.family not in CONTROLS]
    honest = [o for o in outcomes if o.family == "honest"]
    unrelated = [o for o in outcomes if o.family == "unrelated"]
    escapes: dict[str, int] = defaultdict(int)
    for o in outcomes:
        escapes[o.attack] += o.escaped
    return CellSummary(
        first.task, first.method, len({o.doc for o in outcomes}), len({o.cluster for o in outcomes}),
        without_target, skipped, rates(attacks), rates(honest), rates(unrelated), beyond(attacks, honest),
        {name: rates(part) for name, part in _by(attacks, lambda o: o.family).items()},
        {name: rates(part) for name, part in _by(attacks, lambda o: o.position).items()},
        {name: _share(part, lambda o: o.result.success) for name, part in _by(outcomes, lambda o: o.attack).items()},
        sum(o.prompts for o in outcomes), sum(o.escaped for o in outcomes), sum(o.tokenised for o in outcomes),
        sum(o.crowded for o in outcomes), {name: n for name, n in escapes.items() if n},
    )  # fmt: skip


def rates(outcomes: Sequence[Outcome]) -> Rates:
    """Of any outcomes, none included."""
    return Rates(
        _share(outcomes, lambda o: o.result.success),
        _share(outcomes, lambda o: o.result.success_read),
        _share(outcomes, lambda o: o.result.read),
        _share(outcomes, lambda o: o.result.selected),
        _share(outcomes, lambda o: o.result.selected_clean),
        _share(outcomes, lambda o: o.result.fallbacks),
        _change(outcomes, lambda o: o.result.shift),
        _change(outcomes, lambda o: o.result.mass_shift),
        _share(outcomes, lambda o: o.accounted),
        _share(outcomes, lambda o: o.accounted_clean),
    )


def beyond(attacks: Sequence[Outcome], honest: Sequence[Outcome]) -> Change:
    """Mean success of ``attacks`` minus that of ``honest`` on the same doc at the same position."""
    ours, theirs = (
        _by(part, lambda o: (o.cluster, o.doc, o.position)) for part in (attacks, honest)
    )
    both = [place for place in ours if place in theirs]
    values = [_success(ours[place]) - _success(theirs[place]) for place in both]
    return _interval(values, [cluster for cluster, _, _ in both])


def _success(outcomes: Sequence[Outcome]) -> float:
    return fmean(o.result.success for o in outcomes)


def _by(outcomes: Sequence[Outcome], key: Callable[[Outcome], K]) -> dict[K, list[Outcome]]:
    found: dict[K, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[key(outcome)].append(outcome)
    return dict(found)


def _share(outcomes: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> Share:
    known = [(float(v), o.cluster) for o in outcomes if (v := value(o)) is not None]
    return share([v for v, _ in known], [cluster for _, cluster in known])


def _change(outcomes: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> Change:
    known = [(v, o.cluster) for o in outcomes if (v := value(o)) is not None]
    return _interval([v for v, _ in known], [cluster for _, cluster in known])


def _interval(values: Sequence[float], clusters: Sequence[str]) -> Change:
    if not values:
        return Change(float("nan"), float("nan"), float("nan"))
    return Change(fmean(values), *mean_interval(values, clusters))
