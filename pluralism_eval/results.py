"""Reads runs back: what lm-eval saved of one (results, samples) and its transcript."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError

STUDY = "study.json"
"""What a study leaves beside each finished run: its spec, fingerprint and wall time."""

_STAMP = re.compile(r"results_(.+)\.json")


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run; equal to nothing but itself, so that what is computed of it can be kept."""

    name: str
    """Its method, or lm-eval's model name for other models."""
    path: Path
    """The results file."""
    config: Mapping[str, Any]
    """``results["config"]``; ours under ``pluralism``."""
    results: Mapping[str, Mapping[str, Any]]
    """Task → ``metric,filter`` → value."""
    samples: Mapping[str, list[dict[str, Any]]]
    """Task → what lm-eval logged, in doc order; empty without ``--log_samples``."""
    transcript: list[dict[str, Any]]
    """Lines of the transcript; empty if there is none (other models)."""
    llm: str = ""
    """Its LLM: as its study calls it (``model/alignment``), else as the model itself."""
    pool: str = ""
    """``communities=`` as given; empty for methods without."""
    seconds: float | None = None
    """Wall time, loading included; None where it was not kept."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The results file as lm-eval wrote it: versions, dates, hashes, configs of tasks."""

    @property
    def ours(self) -> Mapping[str, Any]:
        """``config.pluralism``: version, settings, liveness, rates, usage; empty for other models."""
        found: Mapping[str, Any] = self.config.get("pluralism", {})
        return found

    def samples_of(self, task: str) -> list[dict[str, Any]]:
        """Raises PluralismError if the run has none of ``task``."""
        if task not in self.samples:
            raise PluralismError(
                f"{self.path}: no samples of {task}; this needs a run of that task with --log_samples "
                f"(it has {', '.join(self.samples) or 'none'})"
            )
        return self.samples[task]

    def transcript_of(self, task: str) -> dict[int, dict[str, Any]]:
        """doc_id → line. Raises PluralismError if there is none of ``task``."""
        found = {int(line["doc_id"]): line for line in self.transcript if line["task"] == task}
        if not found:
            raise PluralismError(
                f"{self.path}: the transcript {self.config.get('pluralism', {}).get('transcript')!r} has no line of "
                f"{task}; keep it beside the results"
            )
        return found

    @property
    def data(self) -> str:
        """``data=`` as the tasks had it; ``authors`` where it was not given."""
        given = [
            (c.get("metadata") or {}).get("data") for c in self.raw.get("configs", {}).values()
        ]
        return ", ".join(sorted({str(name or "authors") for name in given})) or "authors"


def read_run(path: Path) -> Run:
    """The run in ``path``: a results file, or a folder that holds one run's newest one.

    Raises:
        PluralismError: nothing there, several runs, or files that cannot be read.
    """
    file = _results_file(path)
    results = _json(file)
    if not isinstance(results, dict) or "results" not in results or "config" not in results:
        raise PluralismError(f"{file} is not a results file of lm-eval")
    stamp = _STAMP.fullmatch(file.name)
    samples = {}
    for found in sorted(file.parent.glob(f"samples_*_{stamp.group(1) if stamp else '*'}.jsonl")):
        task = found.name.removeprefix("samples_").rsplit("_", 1)[0]
        rows = map(_sample, _lines(found))
        samples[task] = sorted(rows, key=lambda sample: int(sample["doc_id"]))
    config = results["config"]
    ours, study = config.get("pluralism", {}), _study(file)
    name = str(ours.get("method") or config.get("model") or file.parent.name)
    arguments = config.get("model_args") or {}
    pool = arguments.get("communities") if ours.get("communities") else None
    return Run(
        name, file, config, results["results"], samples, _transcript(config, file),
        llm=str(study.get("llm", {}).get("name") or ours.get("llm") or config.get("model_name") or ""),
        pool=str(pool or ""),
        seconds=study.get("seconds") or _seconds(results),
        raw=results,
    )  # fmt: skip


def _study(file: Path) -> dict[str, Any]:
    """What a study left beside its run (``study.json``); {} where there is none."""
    marks = [folder / STUDY for folder in (file.parent, file.parent.parent)]
    found: dict[str, Any] = next((_json(mark) for mark in marks if mark.is_file()), {})
    return found


def _seconds(results: Mapping[str, Any]) -> float | None:
    try:
        return float(results["total_evaluation_time_seconds"])
    except (KeyError, TypeError, ValueError):
        return None


def runs_below(path: Path) -> list[Path]:
    """The newest results file of every run in ``path``, by folder; a file is itself.

    Raises:
        PluralismError: nothing there.
    """
    if path.is_file():
        return [path]
    newest = {file.parent: file for file in sorted(path.rglob("results_*.json"))}
    if not newest:
        raise PluralismError(
            f"{str(path)!r} holds no run; give the --output_path of one (results_*.json), or that file"
        )
    return list(newest.values())


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    """Scores as they were before JSON turned their tuples into lists."""
    raw = ("doc", "arguments", "resps", "filtered_resps", "metrics")
    return {k: tuple(v) if isinstance(v, list) and k not in raw else v for k, v in row.items()}


def _results_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.rglob("results_*.json"), key=lambda p: p.name)
    folders = sorted({str(p.parent) for p in found})
    if not found:
        raise PluralismError(
            f"{str(path)!r} holds no run; give the --output_path of one (results_*.json), or that file"
        )
    if len(folders) > 1:
        raise PluralismError(f"{str(path)!r} holds several runs; give one of {', '.join(folders)}")
    return found[-1]


def _transcript(config: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    given = config.get("pluralism", {}).get("transcript")
    if not given:
        return []
    name = Path(given)
    # a run that was moved keeps its transcript beside or above its results
    places = [name, *(folder / name.name for folder in (file.parent, *list(file.parents)[1:3]))]
    return next((_lines(place) for place in places if place.is_file()), [])


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise PluralismError(f"{path} cannot be read as JSON lines: {error}") from error
    return rows


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PluralismError(f"{path} cannot be read as JSON: {error}") from error
