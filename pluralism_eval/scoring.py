"""Scores files of finished answers, whoever's system wrote them.

Two formats: the authors' output (their input with ``output`` or ``pred_distribution`` filled in), and
lm-eval's samples (``samples_<task>_*.jsonl``). Each item becomes the sample that an lm-eval run would
have logged, so a file and a run are scored by the same functions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval.data.docs import build_docs, chosen_nli, kind_of, oddities, read_items
from pluralism_eval.data.sources import short_name
from pluralism_eval.distribution import modes, read, to_logprobs
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.json_files import read_lines
from pluralism_eval.metrics import coverage
from pluralism_eval.metrics.metric import Metric
from pluralism_eval.metrics.statistics import mean_intervals, standard_error
from pluralism_eval.metrics.summary import Mean, StandardError, interval
from pluralism_eval.presets import get_preset
from pluralism_eval.recorded import check_beside
from pluralism_eval.replies import parse_answer
from pluralism_eval.results import Run
from pluralism_eval.tasks import TASKS
from pluralism_eval.tasks.items import VK_OPTIONS, distribution_of

_SHOWN = 10
_NOTHING = (-math.inf, False)

Numbers = list[tuple[int, float]] | None
"""Of a score that is a mean: (index of the doc, its number)."""


@dataclass(frozen=True)
class Scored:
    """One file's scores."""

    name: str
    task: str
    """Short name: a key of :data:`pluralism_eval.tasks.TASKS`."""
    preset: str
    samples: list[dict[str, Any]]
    """[n_items], as lm-eval logs them: ``doc``, ``doc_id`` and every score of the task."""
    failures: dict[str, int] = field(default_factory=dict)
    """Reason → answers that could not be used; they count as wrong or as uniform."""
    oddities: dict[str, int] = field(default_factory=dict)
    """Kind → items that count as they stand, yet are odd (:func:`pluralism_eval.data.docs.oddities`);
    ``tied_answers``: several options are likeliest, and one of them was drawn."""


def score_file(
    path: Path,
    task: str,
    preset: str = "paper",
    nli: str | None = None,
    nli_directions: str = "one",
    count_failures: bool = False,
) -> Scored:
    """Scores of the answers in ``path``.

    Args:
        task: short or long name.
        preset: as in a run; ``reference`` is the authors' evaluation.
        nli: entailment scorer(s) of ``overton``, as in ``--metadata nli=``.
        count_failures: answers that are missing or malformed count as failures (an option task: the
            uniform distribution, no option right; text: an empty response) instead of being an error.

    Raises:
        PluralismError: an unreadable file, malformed items, or unusable answers (the first ten are
            named).
    """
    task = short_name(task)
    reading = get_preset(preset)
    common: dict[str, Any] = {"input": path.stem, "preset": preset}
    if TASKS[task].is_text:
        common |= coverage.scoring(chosen_nli(nli, reading), nli_directions, reading)
    items = _read(path, task)
    docs = build_docs(task, items, common, path.name)
    reasons: dict[int, str] = {}
    answers = []
    for i, (item, doc) in enumerate(zip(items, docs, strict=True)):
        try:
            doc["others"] = _others(item, doc)
            answers.append(_answer(task, item, doc, reading.answer_parsing))
        except (KeyError, TypeError, ValueError) as error:
            missing = isinstance(error, KeyError)
            reasons[i] = f"field {error} is missing" if missing else str(error)
            answers.append("" if TASKS[task].is_text else [_NOTHING] * len(doc["letters"]))
    if reasons and not count_failures:
        shown = [f"item {i} (id {docs[i]['id']}): {r}" for i, r in list(reasons.items())[:_SHOWN]]
        if len(reasons) > _SHOWN:
            shown.append(f"... and {len(reasons) - _SHOWN} more")
        raise_all(
            f"{path.name}: {len(reasons)} of {len(items)} answers cannot be scored; mend them, or count them as "
            "failures with --count-failures",
            shown,
        )
    results: list[Any] = answers
    if TASKS[task].is_text:
        results = [[r] for r in coverage.CoverageFilter().apply(answers, docs)]
    samples = [
        {"doc_id": i, "doc": doc, **TASKS[task].score(doc, result)}
        for i, (doc, result) in enumerate(zip(docs, results, strict=True))
    ]
    odd = oddities(items, docs)
    tied = sum(_tied(answer) for answer in answers) if not TASKS[task].is_text else 0
    if tied:
        odd["tied_answers"] = tied
    return Scored(
        path.stem, task, preset, samples, dict(Counter(map(kind_of, reasons.values()))), odd
    )


def _tied(answer: Sequence[Sequence[Any]]) -> bool:
    distribution, mass = read([float(option[0]) for option in answer])
    return mass > 0 and len(modes(distribution)) > 1


def _read(path: Path, task: str) -> list[Any]:
    """Items of either format; lm-eval's samples become items with an answer. Samples of another task are an error."""
    if path.suffix != ".jsonl":
        return read_items(path)
    try:
        rows = list(read_lines(path))
        others = {str(row["doc"].get("pluralism", {}).get("task", task)) for row in rows} - {task}
        items = [_item(row) for row in rows] if not others else []
    except (
        OSError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
    ) as error:
        raise PluralismError(
            f"{str(path)!r} is not a file of lm-eval samples: {type(error).__name__} {error}. Expected "
            "samples_<task>_*.jsonl of a run with --log_samples"
        ) from error
    if others:
        raise PluralismError(
            f"{str(path)!r} has samples of {', '.join(sorted(others))}, not of --task {task}; give the task that they are of"
        )
    if not items:
        raise PluralismError(f"{str(path)!r} has no samples; at least one is needed")
    check_beside(path, rows)
    return items


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's sample of one of our tasks → an item of the authors' format, answered."""
    doc = row["doc"]
    item: dict[str, Any] = {"id": doc["id"]}
    response = row["resps"][0]
    if "explanations" in doc:
        item |= {"situation": doc["situation"], "input": doc["query"], "vrd": doc["values"]}
        return item | {"explanation": doc["explanations"], "output": response[0]}
    logprobs = [float(r[0][0]) for r in row["resps"]]
    if all(len(r[0]) > 2 for r in row["resps"]):
        item["inexact"] = [list(map(float, r[0][2:4])) for r in row["resps"]]
    if "gold" not in doc:
        label = doc["letters"][doc["target"]]
        item |= {"situation": doc["cluster"], "input": doc["query"], "label": label}
        return item | {"vrd": doc["pluralism"]["attribute"], "logprobs": logprobs}
    attribute = doc["pluralism"]["attribute"] or doc["group"]
    if doc["pluralism"]["mode"] == "steerable":
        attribute = f"{doc['group']}_{attribute}"
    item |= {"question": doc["query"], "options": doc["options"], "attribute": attribute}
    more = {
        "respondents": doc.get("respondents") or 0,
        "others": doc.get("others") or [],  # of the whole input, also if --limit took a part
        "logprobs": logprobs,
    }
    return item | {"gold_distribution": doc["gold"], **more}


def _others(item: Mapping[str, Any], doc: Mapping[str, Any]) -> list[float]:
    """Other groups' mean as the samples had it (of the whole input), else that of this file; [] if none."""
    if not item.get("others"):
        return [] if "others" in item else doc.get("others", [])
    values = distribution_of(item["others"], "others")
    if len(values) != len(doc["letters"]):
        raise ValueError(
            f"others {values} has {len(values)} numbers for {len(doc['letters'])} options"
        )
    return values


def _answer(task: str, item: Mapping[str, Any], doc: Mapping[str, Any], parsing: str) -> Any:
    """What ``process_results`` takes: the text, or [n_options] of (log-probability, greedy).

    Raises:
        KeyError, ValueError: no answer, or none that can be used.
    """
    if "logprobs" in item:
        logprobs = [float(v) for v in item["logprobs"]]
        if len(logprobs) != len(doc["letters"]):
            raise ValueError(f"{len(logprobs)} log-probabilities for {len(doc['letters'])} options")
        if not all(v <= 1e-6 for v in logprobs):
            raise ValueError(f"log-probabilities {logprobs} must be 0 or less")
        more = item.get("inexact") or [()] * len(logprobs)
        if not all(0 <= least <= 1 and 0 <= samples < 1e9 for least, samples in filter(None, more)):
            raise ValueError(f"bounds {more} are no (least probability, samples)")
        return [(v, False, *own) for v, own in zip(logprobs, more, strict=True)]
    if TASKS[task].is_text or TASKS[task].labelled:
        text = item["output"]
        if not isinstance(text, str):
            raise ValueError(f"output {text!r} is not text")
        if TASKS[task].is_text:
            return text.encode("utf-8", "replace").decode()
        index = parse_answer(parsing, text, doc["letters"], VK_OPTIONS)
        return [(0.0, True) if i == index else _NOTHING for i in range(len(VK_OPTIONS))]
    values = distribution_of(item["pred_distribution"], "pred_distribution")
    if len(values) != len(doc["letters"]):
        raise ValueError(
            f"pred_distribution {values} has {len(values)} numbers for {len(doc['letters'])} options"
        )
    # the order of the given numbers: rescaling may make one of two neighbouring floats
    logs = to_logprobs(item["pred_distribution"], 1 / math.fsum(item["pred_distribution"]))
    return [(value, False) for value in logs]


# ---------------------------------------------------------------------- summaries


@dataclass(frozen=True)
class Summary:
    """One score over all items."""

    name: str
    value: float
    low: float
    """95 % interval, clustered by question or situation; NaN for baselines."""
    high: float
    stderr: float
    sd: float
    """Population standard deviation over items, as the authors' code prints; NaN if no mean."""
    higher_is_better: bool
    n: int
    """Items that count for it: all, or those of its group."""
    baseline: bool
    """What a constant or human answer scores."""


def metrics_of(task: str) -> tuple[Metric, ...]:
    """All metrics of a task, by its short name."""
    return TASKS[task].metrics()


def summaries(scored: Scored) -> list[Summary]:
    """Every score of the task, its interval and standard error."""
    return summarise(scored.task, scored.samples)


@lru_cache(maxsize=256)
def scores_of(run: Run) -> dict[str, list[Summary]]:
    """Automatic task (lm-eval's name) → every score of it, from the run's samples.

    The one source of the figures of tables, pages, submissions and exports. Raises PluralismError if the
    run has no samples of an automatic task that it has results of, or those of another version.
    """
    return {
        task.name: summarise(task.short, run.samples_of(task.name))
        for task in TASKS.values()
        if task.name in run.results
    }


def summarise(task: str, samples: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """Every score of ``task`` (short name) over lm-eval's logged ``samples``."""
    metrics = metrics_of(task)
    missing = [m.name for m in metrics if any(m.name not in s for s in samples)]
    if missing:
        raise PluralismError(
            f"the samples of {task} lack {', '.join(missing[:5])}: another version wrote them; run it again, or score "
            f"them anew (pluralism-eval score FILE --task {task})"
        )
    clusters = [sample["doc"]["cluster"] for sample in samples]
    items = [[sample[metric.name] for sample in samples] for metric in metrics]
    numbers = [m.summary.numbers(own) for m, own in zip(metrics, items, strict=True)]
    known = _mean_intervals(metrics, numbers, clusters)
    return [
        _summary(metric, own, values, known.get(metric.name), clusters)
        for metric, own, values in zip(metrics, items, numbers, strict=True)
    ]


def _mean_intervals(
    metrics: Sequence[Metric], numbers: Sequence[Numbers], clusters: Sequence[Any]
) -> dict[str, tuple[float, float]]:
    """Metric → interval of its mean. What is over the same docs shares their resamples, which are the costly part."""
    over: dict[tuple[int, ...], dict[str, list[float]]] = defaultdict(dict)
    for metric, values in zip(metrics, numbers, strict=True):
        if values is not None and not metric.baseline:
            over[tuple(i for i, _ in values)][metric.name] = [value for _, value in values]
    found: dict[str, tuple[float, float]] = {}
    for docs, scores in over.items():
        intervals = mean_intervals(list(scores.values()), [clusters[i] for i in docs])
        found |= dict(zip(scores, intervals, strict=True))
    return found


def _summary(
    metric: Metric,
    items: Sequence[Any],
    numbers: Numbers,
    known: tuple[float, float] | None,
    clusters: Sequence[Any],
) -> Summary:
    low = high = stderr = sd = math.nan
    if numbers is None:
        n, value = len(items), metric.summary(items)
        if not metric.baseline:
            low, high = interval(metric.summary, items, clusters)
            stderr = StandardError(metric.summary)(list(zip(clusters, items, strict=True)))
    else:
        values = [v for _, v in numbers]
        # a setting that leaves labels out is about all docs, like the other scores of that setting
        whole = isinstance(metric.summary, Mean) and metric.summary.number is not None
        n, value = len(items) if whole else len(values), fmean(values) if values else math.nan
        if values:
            sd = math.sqrt(fmean((v - value) ** 2 for v in values))
        if known:
            (low, high), stderr = known, standard_error(values, [clusters[i] for i, _ in numbers])
    better, baseline = metric.higher_is_better, metric.baseline
    return Summary(metric.name, value, low, high, stderr, sd, better, n, baseline)
