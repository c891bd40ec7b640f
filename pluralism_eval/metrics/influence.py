"""What each community does to a run's scores, from its transcript alone: no LLM is called.

Distributional tasks. An answer is ``d = Σ w_i d_i`` and every ``d_i`` was kept, so the answer of any
coalition of communities is known exactly: its members' mixture, their priors renormalised; of nobody,
the uniform distribution. Its value is its score, -J-S distance, so that *positive influence is a
smaller distance*. What cannot be read (no option mass, a prior of 0) counts for no coalition.

Overton. A coalition's value is the share of the response's sentences that some message of its members
entails (:mod:`pluralism_eval.metrics.faithfulness`); of nobody 0. The response itself stays what it was:
how much of it each community accounts for, not what the LLM would have said without it.

Steerable answers hang on one selection: :mod:`pluralism_eval.metrics.selections`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.exchanges import Entailed
from pluralism_eval.metrics.mixtures import distances, mixtures, verify
from pluralism_eval.metrics.shapley import Solution, solve
from pluralism_eval.metrics.statistics import mean_interval
from pluralism_eval.results import Run
from pluralism_eval.tasks import by_name

_GROUP_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over docs with its 95 % interval, clustered by question or situation."""

    value: float
    low: float
    """NaN with fewer than two clusters."""
    high: float


@dataclass(frozen=True)
class Part:
    """Influence on all docs, or on one group of them. Positive improves the score."""

    name: str
    docs: int
    clusters: int
    everyone: Estimate
    """The score itself (J-S distance; share of sentences) with all communities."""
    nobody: Estimate
    """The score of no community: the uniform distribution; 0."""
    shapley: dict[str, Estimate]
    """Community → influence; they sum to what all communities together improve."""
    leave_one_out: dict[str, Estimate]


@dataclass(frozen=True)
class TaskInfluence:
    """Influence of each community on one task."""

    task: str
    score: str
    higher_is_better: bool
    priors: dict[str, float] | None
    """Of the mixture; None where there is none."""
    sampling_error: dict[str, float] | None
    """Standard error of the Shapley values from sampling orders; None: they are exact."""
    left_out: int
    """Docs with an empty response, which no community can account for."""
    total: Part
    groups: dict[str, list[Part]]
    """What docs are grouped by → its groups, in the order of the paper's table where there is one."""


def distributional(run: Run, task: str, names: Sequence[str]) -> TaskInfluence:
    """Exact influence on a distributional task.

    Raises:
        PluralismError: no samples or transcript of it, or a transcript that does not give the answers
            and scores that the run stored.
    """
    samples, lines = run.samples_of(task), run.transcript_of(task)
    if {int(s["doc_id"]) for s in samples} != set(lines):
        raise PluralismError(
            f"{run.path}: {task} has {len(samples)} samples and {len(lines)} transcript lines, of other docs; "
            "give a run with the transcript that it wrote"
        )
    entries = [lines[int(s["doc_id"])] for s in samples]
    priors = [float(w) for w in run.config["pluralism"]["weights"]]
    mixed = mixtures(entries, names, priors)
    golds = np.zeros((len(samples), mixed.parts.shape[-1]))
    for row, sample in zip(golds, samples, strict=True):
        row[: len(sample["doc"]["gold"])] = sample["doc"]["gold"]
    verify(entries, [float(s["jsd"]) for s in samples], mixed, golds)
    solution = solve(lambda members: -distances(mixed.answers(members), golds), len(names))
    docs = [sample["doc"] for sample in samples]
    group = by_name(task).groups[0]
    return TaskInfluence(
        task, "J-S distance", False, dict(zip(names, priors, strict=True)), _errors(solution, names), 0,
        _part("all", solution, names, [str(d["cluster"]) for d in docs], -1.0),
        {group.table: _parts(solution, names, docs, [group.of(s) for s in samples], group.printed)},
    )  # fmt: skip


def overton(
    task: str, docs: Sequence[Entailed], situations: Sequence[str], names: Sequence[str]
) -> TaskInfluence:
    """How much of the responses each community accounts for; docs without a sentence are left out.

    Raises:
        PluralismError: no response at all.
    """
    kept = [(d, s) for d, s in zip(docs, situations, strict=True) if d.table.shape[1]]
    if not kept:
        raise PluralismError(
            f"{task}: all {len(docs)} responses are empty, so no community accounts for anything"
        )
    shares = [accounted(doc, names) for doc, _ in kept]
    everyone = np.array([doc.table.any(axis=0).mean() for doc, _ in kept])
    solution = Solution(
        np.array([shapley for shapley, _ in shares]), np.array([alone for _, alone in shares]),
        everyone, np.zeros(len(kept)), None,
    )  # fmt: skip
    total = _part("all", solution, names, [situation for _, situation in kept], 1.0)
    left_out = len(docs) - len(kept)
    return TaskInfluence(task, "share of sentences entailed", True, None, None, left_out, total, {})


def accounted(doc: Entailed, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """([k] Shapley values, [k] leave-one-out) of one response, in closed form.

    A sentence is worth 1/n_sentences to any coalition with one of the m communities that entail it, so
    each of them gets 1/m of it; leaving one out loses the sentences that it alone entails.
    """
    table = np.zeros((len(names), doc.table.shape[1]), dtype=bool)
    for community, row in zip(doc.communities, doc.table, strict=True):
        table[names.index(community)] |= row
    by = table.sum(axis=0)
    n = table.shape[1]
    return (table / np.maximum(by, 1)).sum(axis=1) / n, (table & (by == 1)).sum(axis=1) / n


def _errors(solution: Solution, names: Sequence[str]) -> dict[str, float] | None:
    if solution.sampling_error is None:
        return None
    return dict(zip(names, map(float, solution.sampling_error), strict=True))


def _parts(
    solution: Solution,
    names: Sequence[str],
    docs: Sequence[Mapping[str, Any]],
    groups: Sequence[str],
    order: Sequence[str],
) -> list[Part]:
    """One part for each group in ``order`` that has docs."""
    found = []
    for name in order:
        rows = [i for i, group in enumerate(groups) if group == name]
        if rows:
            own = Solution(
                solution.shapley[rows], solution.leave_one_out[rows], solution.everyone[rows],
                solution.nobody[rows], None,
            )  # fmt: skip
            clusters = [str(docs[i]["cluster"]) for i in rows]
            found.append(_part(name, own, names, clusters, -1.0, _GROUP_RESAMPLES))
    return found


def _part(
    name: str,
    solution: Solution,
    names: Sequence[str],
    clusters: Sequence[str],
    sign: float,
    resamples: int = 5000,
) -> Part:
    """Means over docs; ``sign`` turns a value into the score that it stands for."""

    def estimate(values: np.ndarray) -> Estimate:
        low, high = mean_interval(values.tolist(), clusters, resamples=resamples)
        return Estimate(float(values.mean()), low, high)

    def each(values: np.ndarray) -> dict[str, Estimate]:
        return {community: estimate(values[:, i]) for i, community in enumerate(names)}

    return Part(
        name, len(clusters), len(set(clusters)),
        estimate(sign * solution.everyone), estimate(sign * solution.nobody),
        each(solution.shapley), each(solution.leave_one_out),
    )  # fmt: skip
