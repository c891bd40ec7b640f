"""The Hub's ``.eval_results/*.yaml``: headline scores as a model repository states them.

The Hub takes results of datasets that are registered as benchmarks. This benchmark is not one of them, so the dataset
has to be named by whoever publishes it; without a name the files carry a placeholder that the Hub refuses.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from pluralism_eval.errors import PluralismError
from pluralism_eval.exports.facts import Exported, Facts, cleaned
from pluralism_eval.files import cut_name
from pluralism_eval.leaderboard import describe
from pluralism_eval.tasks.task import Column

PLACEHOLDER = "FILL-IN/benchmark-dataset"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Place:
    """Where the results belong, as far as it is known."""

    dataset: str = ""
    """Hub id of a registered benchmark dataset with these inputs."""
    url: str = ""
    """Of the logs or the report that the numbers come from."""


def export(facts: Facts, place: Place | None = None) -> Exported:
    """``<model>/.eval_results/pluralism_<method>.yaml``, with the pool where one was named.

    Raises:
        PluralismError: a dataset that is no Hub id, or an address that is none.
    """
    from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries

    place = place or Place()
    _check(place)
    entries = [
        _entry(facts, column, place)
        for task in facts.scores
        for column in facts.headlines(task)
        if not math.isnan(facts.score(column).value)
    ]
    rows = eval_result_entries_to_yaml(entries)
    text = _yaml(rows)
    if parse_eval_result_entries(yaml.safe_load(text)) != entries:
        raise PluralismError(
            f"{facts.run.path}: huggingface_hub reads its results back differently"
        )
    parts = [p for p in ("pluralism", facts.method, facts.run.pool) if p]
    name = "_".join(re.sub(r"[^A-Za-z0-9-]+", "-", part).strip("-") for part in parts)
    path = f"{facts.folder}/.eval_results/{cut_name(name)}.yaml"
    return Exported({path: (_head(place) + text).encode()}, _notes(place))


def _check(place: Place) -> None:
    if place.dataset and not _REPOSITORY.fullmatch(place.dataset):
        raise PluralismError(
            f"--dataset {place.dataset!r} is no dataset of the Hub; give OWNER/NAME"
        )
    if place.url and not re.match(r"https?://[^\s/]+", place.url):
        raise PluralismError(
            f"--source-url {place.url!r} is no address; give one that begins with https://"
        )


def _entry(facts: Facts, column: Column, place: Place) -> Any:
    from huggingface_hub import EvalResultEntry

    return EvalResultEntry(
        dataset_id=place.dataset or PLACEHOLDER,
        task_id=f"{column.task}_{column.metric}",
        value=facts.score(column).value,
        date=facts.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        source_url=place.url or None,
        source_name="pluralism-eval" if place.url else None,
        notes=cleaned(notes(facts, column)),
    )


def notes(facts: Facts, column: Column) -> str:
    """What the number is, of which system, how sure, and what constant answers score; one line."""
    score = facts.score(column)
    answered, whole = facts.size(column.task)
    parts = [
        f"{column.title}, {'higher' if score.higher_is_better else 'lower'} is better",
        f"method {facts.method} with LLM {facts.model}"
        + (f", pool {facts.run.pool}" if facts.run.pool else ""),
        f"{answered} of {whole} docs of {facts.dataset(column.task)}",
    ]
    if not math.isnan(score.low):
        parts.append(f"95 % interval {score.low!r} to {score.high!r}")
    found = facts.baselines(column)
    if found:
        parts.append(
            "baselines: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        )
    return describe.line("; ".join(parts))


def _yaml(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    yaml.safe_dump(rows, out, sort_keys=False, allow_unicode=True, width=10_000)
    return out.getvalue()


def _head(place: Place) -> str:
    if place.dataset:
        return f"# task_id must be ids of the tasks in eval.yaml of the dataset {place.dataset}\n"
    return (
        f"# Fill in: {PLACEHOLDER} stands for a Hub dataset that is registered as a benchmark and holds these inputs.\n"
        "# None exists for this benchmark. Its eval.yaml must define the task ids below.\n"
    )


def _notes(place: Place) -> tuple[str, ...]:
    found = ["--dataset OWNER/NAME (a Hub dataset registered as a benchmark)"] if not place.dataset else []  # fmt: skip
    found += ["--source-url (of logs or report)"] if not place.url else []
    missing = (f"not stated, fill in before you push it: {'; '.join(found)}",) if found else ()
    return (
        *missing,
        "the value is that of the whole system; in a repository of the bare LLM, only the vanilla run is its own",
    )
