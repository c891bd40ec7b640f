"""The docs of all runs side by side, and how much runs disagree on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pluralism_eval.distribution import total_variation
from pluralism_eval.metrics.metric import kind_of_value
from pluralism_eval.results import Run
from pluralism_eval.tasks import headlines, task_names


@dataclass
class Example:
    """One doc of one task, over all runs that answered it."""

    task: str
    doc_id: int
    doc: Mapping[str, Any]
    samples: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Run number → lm-eval's sample."""
    lines: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)
    """Run number → lines of its transcript."""


def collect(runs: Sequence[Run]) -> list[Example]:
    """All examples by task and doc; runs over other data give examples of their own."""
    found: dict[tuple[Any, ...], Example] = {}
    for number, run in enumerate(runs):
        lines: dict[tuple[Any, Any], list[Mapping[str, Any]]] = defaultdict(list)
        for line in run.transcript:
            lines[line["task"], line["doc_id"]].append(line)
        for task, samples in run.samples.items():
            for sample in samples:
                doc, doc_id = sample["doc"], int(sample["doc_id"])
                key = (task, doc_id, str(doc.get("id")), _query(doc, sample), attribute_of(doc))
                example = found.setdefault(key, Example(task, doc_id, doc))
                example.samples.setdefault(number, sample)
                example.lines.setdefault(number, lines[task, doc_id])
    order = {task: i for i, task in enumerate(task_names())}
    last = len(order)
    return sorted(found.values(), key=lambda e: (order.get(e.task, last), e.task, e.doc_id))


def _query(doc: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    if "query" in doc:
        return str(doc["query"])
    arguments = sample.get("arguments") or {}
    return str(arguments.get("gen_args_0", {}).get("arg_0", "")) if arguments else ""


def query_of(example: Example) -> str:
    """What was asked."""
    return _query(example.doc, next(iter(example.samples.values())))


def attribute_of(doc: Mapping[str, Any]) -> str:
    """Whom or what to steer to; empty where a task has none."""
    return str((doc.get("pluralism") or {}).get("attribute") or "")


def group_of(example: Example) -> str:
    """Country, category, kind of value or ambiguity; empty where a task has no groups."""
    if example.task.endswith("_vk"):
        return kind_of_value({"doc": example.doc})
    return str(example.doc.get("group") or "")


def measure(
    task: str, answers: Sequence[tuple[float | None, Sequence[float] | None]]
) -> float | None:
    """How much runs disagree on one doc, in [0, 1]; None with fewer than two answers.

    Option tasks: the largest total variation between two runs' distributions. Others: the highest
    headline score minus the lowest.

    Args:
        answers: [n_runs] of (headline score, [n_options] distribution or None).
    """
    shown = [d for _, d in answers if d is not None]
    if len(shown) > 1 and len({len(d) for d in shown}) == 1:
        return round(max(total_variation(a, b) for i, a in enumerate(shown) for b in shown[:i]), 3)
    scores = [s for s, _ in answers if s is not None]
    return round(max(scores) - min(scores), 3) if len(scores) > 1 else None


def headline(task: str) -> tuple[str, str, bool | None]:
    """(title of the task, of its headline score, is higher better)."""
    for column in headlines():
        if column.task == task:
            title, _, score = column.title.partition(": ")
            return title, score, column.of.higher_is_better
    return task, "", None


def chunked(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """Neighbours together, up to ``limit`` characters each; one that is longer stands alone."""
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            yield range(start, i)
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield range(start, len(sizes))
