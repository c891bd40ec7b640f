"""Reads runs back: what lm-eval saved of one (results, samples) and its transcript."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralism_eval import recorded
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.files import check_inside
from pluralism_eval.json_files import read_json, read_lines
from pluralism_eval.prompt_texts import with_text_prompts, with_text_sent
from pluralism_eval.secrets import without_secrets
from pluralism_eval.yaml_files import is_file

log = logging.getLogger(__name__)

STUDY = "study.json"
"""What a study leaves beside each finished run: its spec, fingerprint and wall time."""

SCRATCH = ".saving-"
"""How the names of folders begin that hold a run which is not whole yet."""

_TRANSCRIPT = re.compile(r"transcript_.+\.jsonl")
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
        found = {line["doc_id"]: line for line in self.transcript if line["task"] == task}
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


def read_run(path: Path, within: Path | None = None, transcript: bool = True) -> Run:
    """The run in ``path``: a results file, or a folder that holds one run's newest one.

    Args:
        within: the folder that was given, if it is above ``path``. What the run names is read from there only.
        transcript: False leaves it unread, for readers of samples alone.

    Raises:
        PluralismError: nothing there, several runs, files that cannot be read, or files that were changed
            after the run (:mod:`pluralism_eval.recorded`).
    """
    file = _results_file(path)
    results = _json(file)
    if not isinstance(results, dict) or "results" not in results or "config" not in results:
        raise PluralismError(f"{file} is not a results file of lm-eval")
    results = without_secrets(results)  # lm-eval keeps all arguments of a model, keys among them
    with as_written(file):
        return _run(file, results, within or path, transcript)


@contextmanager
def as_written(*files: Path) -> Iterator[None]:
    """Inside, fields of a run are used as this package writes them; where they are not, that is one error."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, PluralismError):
            raise
        raise PluralismError(
            f"{', '.join(map(str, files[:3]))}{' ...' if len(files) > 3 else ''}, its samples or its transcript are not what lm-eval and this package write "
            f"({type(error).__name__}: {error}); they were changed, or are of another program"
        ) from error


def _run(file: Path, results: dict[str, Any], within: Path, transcript: bool) -> Run:
    stamp = _STAMP.fullmatch(file.name)
    samples = {}
    for found in sorted(file.parent.glob(f"samples_*_{stamp.group(1) if stamp else '*'}.jsonl")):
        task = found.name.removeprefix("samples_").rsplit("_", 1)[0]
        lines = _lines(check_inside(found, file.parent))
        recorded.check_samples(results, task, lines, found)
        samples[task] = sorted(map(_sample, lines), key=lambda sample: int(sample["doc_id"]))
    config = results["config"]
    ours, study = config.get("pluralism", {}), _study(file)
    name = str(ours.get("method") or config.get("model") or file.parent.name)
    arguments = config.get("model_args") or {}
    pool = arguments.get("communities") if ours.get("communities") else None
    run = Run(
        name, file, config, results["results"], samples,
        _transcript(config, file, within) if transcript else [],
        llm=str(study.get("llm", {}).get("name") or ours.get("llm") or config.get("model_name") or ""),
        pool=str(pool or ""),
        seconds=study.get("seconds") or _seconds(results),
        raw=results,
    )  # fmt: skip
    if not isinstance(run.results, dict) or not isinstance(
        run.data, str
    ):  # data looks at all configs
        raise TypeError(f"results {str(run.results)[:100]}")
    return run


def _study(file: Path) -> dict[str, Any]:
    """What a study left beside its run (``study.json``); {} where there is none."""
    marks = [folder / STUDY for folder in (file.parent, file.parent.parent)]
    mark = next((mark for mark in marks if mark.is_file()), None)
    found: dict[str, Any] = _json(check_inside(mark, mark.parent)) if mark else {}
    if mark:
        recorded.check_study(mark, found)
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
    newest = {file.parent: file for file in sorted(_below(path))}
    if not newest:
        raise PluralismError(
            f"{str(path)!r} holds no run; give the --output_path of one (results_*.json), or that file"
        )
    return list(newest.values())


def runs_in(path: Path) -> list[Run]:
    """All runs of :func:`runs_below`, read."""
    return [read_run(file, path) for file in runs_below(path)]


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    """Scores as they were before JSON turned their tuples into lists."""
    if not isinstance(row["doc_id"], int) or not isinstance(row.get("doc", {}), dict):
        raise TypeError(
            f"a sample with doc_id {str(row['doc_id'])[:100]} and doc {str(row.get('doc'))[:100]}"
        )
    raw = ("doc", "arguments", "resps", "filtered_resps", "metrics")
    if "arguments" in row:
        row = {**row, "arguments": with_text_prompts(row["arguments"])}
    return {k: tuple(v) if isinstance(v, list) and k not in raw else v for k, v in row.items()}


def _results_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(_below(path), key=lambda p: p.name)
    folders = sorted({str(p.parent) for p in found})
    if not found:
        raise PluralismError(
            f"{str(path)!r} holds no run; give the --output_path of one (results_*.json), or that file"
        )
    if len(folders) > 1:
        raise PluralismError(f"{str(path)!r} holds several runs; give one of {', '.join(folders)}")
    return found[-1]


def _below(path: Path) -> list[Path]:
    found = (file for file in path.rglob("results_*.json"))
    whole = [f for f in found if not any(part.startswith(SCRATCH) for part in f.parts)]
    return [check_inside(f, path) for f in whole]


def _transcript(config: Mapping[str, Any], file: Path, within: Path) -> list[dict[str, Any]]:
    """Lines of the transcript, which lies beside the results or above, as lm-eval has a folder a model.

    A file of a stranger must not choose what is read: not above ``within``, unless it is called as ours are.
    """
    given = config.get("pluralism", {}).get("transcript")
    if not given:
        return []
    name = Path(given)
    places = [
        folder / name.name
        for i, folder in enumerate(file.parents[:3])
        if i == 0 or folder.is_relative_to(within) or _TRANSCRIPT.fullmatch(name.name)
    ]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        if is_file(str(name)):
            raise PluralismError(
                f"{file} names the transcript {str(name)!r}, which is outside of the run's folder and is not read; "
                f"if it is the run's own, copy it to {file.parent}"
            )
        log.warning("%s: its transcript %s is not there; copy it beside the results", file, name)
        return []
    known = config["pluralism"].get(recorded.TRANSCRIPT)
    recorded.check_file(
        check_inside(place, place.parent),
        known,
        "; or another run with the same transcript= wrote over it",
    )
    lines = _lines(place, appended=True)
    bad = [line for line in lines if not _is_line(line)]
    if bad:
        raise TypeError(f"a line of the transcript {name.name} is {str(bad[0])[:100]}")
    return [with_text_sent(line) for line in lines]


def _is_line(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("task"), str):
        return False
    sent, messages = line.get("sent", []), line.get("messages", [])
    return (
        isinstance(line.get("doc_id"), int)
        and all(isinstance(rows, list) for rows in (sent, messages))
        and all(isinstance(row, dict) for row in (*sent, *messages))
        and all(isinstance(m.get(part), str) for m in messages for part in ("community", "text"))
    )


def _lines(path: Path, appended: bool = False) -> list[dict[str, Any]]:
    """Of a JSON Lines file; where lines were ``appended`` the last may break off, and is then left out."""
    unfinished: list[bytes] = []
    try:
        rows = list(read_lines(path, unfinished if appended else None))
    except (OSError, ValueError) as error:
        raise PluralismError(f"{path} cannot be read as JSON lines: {error}") from error
    if unfinished:  # by a run that was killed, or found no room
        log.warning("%s: its last line breaks off and is left out; %d are whole", path, len(rows))
    return rows


@contextmanager
def lm_eval_saves(where: Path) -> Iterator[None]:
    """lm-eval only warns of results that it cannot save; inside, they are an error at the end.

    What it left of them stays: a file that breaks off is refused when it is read.

    Raises:
        PluralismError: what was not saved, and why.
    """
    heard = _Heard()
    logger = logging.getLogger("lm_eval.loggers.evaluation_tracker")
    level = logger.level
    logger.setLevel(min(logging.WARNING, logger.getEffectiveLevel()))
    logger.addHandler(heard)
    try:
        yield
    finally:
        logger.removeHandler(heard)
        logger.setLevel(level)
    raise_all(f"{str(where)!r}: not all is saved; make room, or give another folder", heard.said)


class _Heard(logging.Handler):
    """Keeps the tracker's warnings of what it could not save."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Could not save"):
            self.said.append(f"{record.getMessage()}: {sys.exc_info()[1]}")


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise PluralismError(f"{path} cannot be read as JSON: {error}") from error
