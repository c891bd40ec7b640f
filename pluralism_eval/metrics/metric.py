"""One score of a task, and what lm-eval is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.distribution import likeliest
from pluralism_eval.metrics.summary import Mean, StandardError, Summary
from pluralism_eval.presets import get_preset

Doc = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """One score of a task."""

    name: str
    summary: Summary
    higher_is_better: bool = False
    baseline: bool = False
    """What a constant or human answer scores; it has no standard error of its own."""


def means(*names: str, higher: bool = False, baseline: bool = False) -> list[Metric]:
    """Scores that are means over all docs."""
    return [Metric(name, Mean(), higher, baseline) for name in names]


def groups(prefix: str, groups: Mapping[str, str], higher: bool = False) -> list[Metric]:
    """Means over the docs of one group each: ``prefix_name`` of ``groups[name]``."""
    return [Metric(f"{prefix}_{name}", Mean(group), higher) for name, group in groups.items()]


def cluster_of(doc: Doc) -> str:
    """Short name of the question or situation that a doc shares with others."""
    return digest([doc["cluster"]])[:12]


def tie_break(doc: Doc) -> int:
    """Which of equally likely options counts as a doc's answer (:func:`pluralism_eval.distribution.likeliest`).

    ``preset=paper`` draws one by the doc, the same in every run; ``reference`` takes the first, as
    ``argmax`` does in the authors' code. How many answers tie is ``tied_answers`` in a run's rates.
    """
    if get_preset(doc["pluralism"]["preset"]).ties == "first":
        return 0
    return int(digest(["tie", doc["id"], doc["cluster"]])[:12], 16)


def answered(
    doc: Doc, distribution: Sequence[float], results: Sequence[Sequence[Any]] | None = None
) -> int:
    """Index of the option that counts as a doc's answer: the likeliest.

    Which of equal ones says :func:`tie_break`. Equal is ±1e-12; for ``reference`` it is to the last bit, as for numpy's
    ``argmax``, and then decided by the log-probabilities that ``distribution`` was read from, which kept that bit.

    Args:
        results: [n_options] of (log-probability, ...); None: ``distribution`` was not read from any.
    """
    if get_preset(doc["pluralism"]["preset"]).ties != "first":
        return likeliest(distribution, tie_break(doc))
    values = [float(result[0]) for result in results] if results else list(distribution)
    return values.index(max(values))


def kind_of_value(sample: Mapping[str, Any]) -> str:
    """Of a steerable VK doc: ``Right``, ``Duty`` or ``Value``, as ValuePrism names them."""
    value = str(sample["doc"]["pluralism"]["attribute"])
    return next((kind for kind in ("Right", "Duty") if value.startswith(f"{kind} ")), "Value")


def with_errors(metrics: Sequence[Metric], doc: Doc, scores: Mapping[str, Any]) -> dict[str, Any]:
    """``scores`` and, after them, what their standard errors need (``X_stderr`` overrides lm-eval's)."""
    cluster = cluster_of(doc)
    errors = {f"{m.name}_stderr": (cluster, scores[m.name]) for m in metrics if not m.baseline}
    return {**scores, **errors}


def metric_list(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """lm-eval's ``metric_list``: every metric, and the clustered standard errors of the scores."""
    rows = [
        {"metric": m.name, "aggregation": m.summary, "higher_is_better": m.higher_is_better}
        for m in metrics
    ]
    errors = [(m.name, StandardError(m.summary)) for m in metrics if not m.baseline]
    return rows + [
        {"metric": f"{name}_stderr", "aggregation": error, "higher_is_better": False}
        for name, error in errors
    ]
