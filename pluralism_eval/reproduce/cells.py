"""Ours beside the paper's numbers, cell by cell, and why a cell cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pluralism_eval.data.sources import chosen, short_name
from pluralism_eval.metrics.summary import interval
from pluralism_eval.reproduce import paper
from pluralism_eval.reproduce.targets import OURS, OVK, Row, Score, Target
from pluralism_eval.results import Run
from pluralism_eval.scoring import metrics_of
from pluralism_eval.study import RunSpec

_PAPER_MESSAGE_TOKENS = 512
_NEUTRAL = (
    "communities", "message_max_tokens", "messages", "message_batch", "batch_tokens", "transcript", "seed",
)  # fmt: skip
"""Settings that are judged on their own, or that change no expected number."""


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    llm: str
    row: str
    score: str
    ours: float
    low: float
    """95 % interval, clustered by question or situation."""
    high: float
    paper: float | None
    """As printed; None where nothing is."""
    beside: str
    """Whose number that is: the LLM of that name, else another of the paper's."""
    reasons: tuple[str, ...]
    """Why the two cannot be compared; empty if they can."""


def cell(target: Target, row: Row, score: Score, spec: RunSpec, run: Run) -> Cell:
    """``score`` of a finished run, in the paper's unit, beside the paper's number."""
    value, low, high = (v * score.scale for v in measure(run, score.task, score.metric))
    other = beside(target.name, spec.llm.name)
    printed = paper.printed(target.name, path_of(target, row, score, other)) if other else None
    reasons = (*_about_paper(spec, other, printed), *_about_run(target, score, spec))
    return Cell(spec.llm.name, row.label, score.title, value, low, high, printed, other, reasons)


def beside(target: str, llm: str) -> str:
    """The paper's LLM that stands beside ``llm``: of its name, else the first aligned one; "" if none."""
    known = paper.models(target) if target in paper.tables() else []
    aligned = [name for name in known if not name.endswith("/unaligned")]
    return llm if llm in known else next(iter([*aligned, *known]), "")


def measure(run: Run, task: str, metric: str) -> tuple[float, float, float]:
    """(score, ends of its 95 % interval) from a run's samples; NaN where there is nothing."""
    samples = run.samples_of(task)
    found = next(m for m in metrics_of(short_name(task)) if m.name == metric)
    items = [sample[metric] for sample in samples]
    clusters = [sample["doc"]["cluster"] for sample in samples]
    return found.summary(items), *interval(found.summary, items, clusters)


def path_of(target: Target, row: Row, score: Score, llm: str) -> tuple[str, ...]:
    """Keys of a cell in the paper's data, for an LLM called ``model`` or ``model/alignment``."""
    model, _, alignment = llm.partition("/")
    values = {"alignment": alignment, "row": row.key, "model": model}
    return (*(values[name] for name in target.path), *score.keys)


def _about_paper(spec: RunSpec, other: str, printed: float | None) -> list[str]:
    if not other:
        return ["the paper prints no number here"]
    same = other == spec.llm.name and spec.llm.llm != "embedded"
    found = [] if same else [f"another LLM: the paper's number is {other}'s"]
    return found + ([] if printed is not None else ["the paper prints no number in this cell"])


def _about_run(target: Target, score: Score, spec: RunSpec) -> list[str]:
    """What of the run differs from the paper's setting."""
    found = []
    data, cleaned = chosen(spec.metadata.get("data"))
    if data != "authors" or cleaned:
        found.append(f"other docs: data={spec.metadata.get('data')}")
    if spec.limit is not None or spec.docs is not None:
        found.append(f"only {spec.limit or 'some'} docs a task")
    nli = spec.metadata.get("nli")
    if score.task == OVK and nli not in (None, target.nli):
        found.append(f"another entailment model: {nli}")
    if spec.method in ("moe", OURS):
        pool = str(spec.settings.get("communities", ""))
        if "embedded" in pool or "persona" in pool:
            found.append(f"other communities: {pool}")
        tokens = spec.settings.get("message_max_tokens")
        if tokens not in (None, _PAPER_MESSAGE_TOKENS):
            found.append(f"messages of at most {tokens} tokens")
    found += [
        f"another setting: {key}={value}"
        for key, value in spec.settings.items()
        if key not in _NEUTRAL and not (key == "orders" and value == 1)
    ]
    if spec.gen_kwargs and score.task == OVK:
        found.append(f"responses by {dict(spec.gen_kwargs)}")
    return found


def rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Rows of text, the header first."""
    header = ["LLM", "row", "score", "ours", "95 % interval", "paper", "difference", "comparable"]
    notes = reason_numbers(cells)
    return [header] + [
        [
            c.llm, c.row, c.score, _shown(c.ours), f"[{_shown(c.low)}, {_shown(c.high)}]",
            _shown(c.paper), _difference(c), "yes" if not c.reasons else
            "no: " + ", ".join(str(notes[reason]) for reason in c.reasons),
        ]
        for c in cells
    ]  # fmt: skip


def reason_numbers(cells: Sequence[Cell]) -> dict[str, int]:
    """Reason → its number in the notes."""
    distinct = dict.fromkeys(reason for c in cells for reason in c.reasons)
    return {reason: i for i, reason in enumerate(distinct, 1)}


def _difference(c: Cell) -> str:
    return "" if c.reasons or c.paper is None else _shown(c.ours - c.paper, "+")


def _shown(value: float | None, sign: str = "") -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:{sign}.1f}" if abs(value) >= 2 else f"{value:{sign}.4f}"
