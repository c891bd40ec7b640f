"""What every export says about a run, read once: its model, scores, data, date, and what it lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import cut_name
from pluralism_eval.leaderboard import describe
from pluralism_eval.results import Run
from pluralism_eval.scoring import Summary, scores_of
from pluralism_eval.tasks import headlines, task_names
from pluralism_eval.tasks.task import Column

_IN_NAME = re.compile(r"\b(?:pretrained|model)=([^,;()\s]+)")
_REAL_TIME = 0.1
"""Seconds below which a stated wall time cannot be that of an evaluation."""


@dataclass(frozen=True)
class Exported:
    """What an exporter makes: nothing is written yet."""

    files: dict[str, bytes]
    """Relative path → content."""
    notes: tuple[str, ...] = ()
    """What the reader has to know or fill in."""


@dataclass(frozen=True)
class Facts:
    """One run, ready to be written in any format."""

    run: Run
    raw: Mapping[str, Any]
    """The whole results file."""
    model: str
    """Identity of the LLM: a Hub id where the run gave one."""
    scores: Mapping[str, list[Summary]]
    """Automatic task → every score."""
    date: datetime
    """When the evaluation began, UTC."""
    command: str | None
    """That runs it again; None where no flags say which docs were taken."""
    lacks: tuple[str, ...]
    """What an export of it cannot show."""

    @property
    def method(self) -> str:
        """``vanilla``, ``moe``, ...; lm-eval's model name for other models."""
        return self.run.name

    @property
    def folder(self) -> str:
        """The LLM's name as part of a path."""
        return cut_name(re.sub(r"[^A-Za-z0-9.-]+", "_", self.model).strip("._")) or "model"

    @property
    def identity(self) -> str:
        """64 hexadecimal digits, equal for equal results, samples and transcript."""
        return digest([self.raw, self.run.samples, self.run.transcript])

    @property
    def seconds(self) -> float | None:
        """Wall time; None where none was measured."""
        given = self.run.seconds
        return given if given is not None and given >= _REAL_TIME else None

    @property
    def ended(self) -> datetime | None:
        """None where no wall time was measured."""
        return None if self.seconds is None else self.date + timedelta(seconds=self.seconds)

    def headlines(self, task: str) -> list[Column]:
        """The task's columns of the table of results, the first one foremost."""
        return [column for column in headlines() if column.task == task]

    def score(self, column: Column) -> Summary:
        """The headline score of ``column``."""
        return next(s for s in self.scores[column.task] if s.name == column.metric)

    def baselines(self, column: Column) -> dict[str, float]:
        """Name → what a constant or human answer scores on the same docs."""
        found = column.baselines(self.run.samples_of(column.task))
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def version(self, task: str) -> str:
        """The task's version, as text."""
        return str(self.raw.get("versions", {}).get(task, 0))

    def size(self, task: str) -> tuple[int, int]:
        """(docs answered, docs of the input)."""
        answered = len(self.run.samples_of(task))
        return answered, int(self.raw.get("n-samples", {}).get(task, {}).get("original", answered))

    def dataset(self, task: str) -> str:
        """The input's name, and which data it was: ``overton_test_valuekaleidoscope (sample)``."""
        doc = self.run.samples_of(task)[0]["doc"].get("pluralism", {})
        return describe.line(f"{doc.get('input') or task} ({self.run.data})")


def facts_of(run: Run, model: str = "") -> Facts:
    """Everything that exports share.

    Args:
        model: identity to state for the LLM; "" takes the run's.

    Raises:
        PluralismError: no automatic task, no or incomplete samples, or a results file without its date.
    """
    raw = run.raw
    scores = {task: found for task, found in scores_of(run).items() if found}
    if not scores:
        raise PluralismError(
            f"{run.path}: no task that can be exported; it has {', '.join(run.results) or 'none'}. "
            f"Allowed: {', '.join(task_names())}"
        )
    if not raw.get("date"):
        raise PluralismError(
            f"{run.path}: it does not say when it was run (date); give the results file that lm_eval wrote"
        )
    counts = {
        task: {"n": len(run.samples[task]), "of": _size(raw, task, len(run.samples[task]))}
        for task in scores
    }
    return Facts(
        run, raw, cleaned(model or model_of(run)), scores,
        datetime.fromtimestamp(float(raw["date"]), timezone.utc),
        describe.command(run, raw, list(scores), counts), _lacks(run, scores),
    )  # fmt: skip


def _size(raw: Mapping[str, Any], task: str, answered: int) -> int:
    return int(raw.get("n-samples", {}).get(task, {}).get("original", answered))


def model_of(run: Run) -> str:
    """The LLM's own name: ``pretrained=`` or ``model=`` where one was given."""
    given = run.config.get("model_args") or {}
    given = given if isinstance(given, Mapping) else {}
    own = given.get("llm_args") or {}
    own = own if isinstance(own, Mapping) else {}
    named = [part.get(key) for part in (given, own) for key in ("pretrained", "model")]
    text = next((str(name) for name in named if name), "")
    if not text:
        places = (run.ours.get("llm"), run.llm, run.config.get("model_args"))
        found = [match[1] for place in places if (match := _IN_NAME.search(str(place)))]
        text = next(iter(found), run.llm or run.name)
    return describe.line(text)


def _lacks(run: Run, scores: Mapping[str, Any]) -> tuple[str, ...]:
    lines = {str(line.get("task")) for line in run.transcript}
    silent = [task for task in scores if task not in lines]
    other = [task for task in run.results if task not in scores and task != "pluralism"]
    found = []
    if not run.ours:
        found.append(
            f"it is a run of lm-eval's {run.name}: no community LMs, messages or selections"
        )
    if silent:
        found.append(f"no transcript of {', '.join(silent)}: prompts as lm-eval logged them")
    if other:
        found.append(f"not exported, since they have no score of their own: {', '.join(other)}")
    return tuple(found)


def cleaned(value: Any) -> Any:
    """``value`` as every JSON and YAML reader takes it: lone surrogates are written out, NUL is shown as ␀."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "␀")
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value
