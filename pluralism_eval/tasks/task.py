"""What a task is: everything that is peculiar to one, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.metrics.metric import Metric
from pluralism_eval.schema import Mode
from pluralism_eval.tasks.baselines import Samples

Sample = Mapping[str, Any]
"""One doc of lm-eval's logged samples."""


def no_baselines(samples: Samples) -> dict[str, float]:
    """Of a score that has none."""
    return {}


@dataclass(frozen=True)
class Column:
    """One score of a task that tables show, and what its baselines get."""

    task: str
    """lm-eval's name."""
    title: str
    metric: str
    baselines: Callable[[Samples], dict[str, float]] = no_baselines
    number: Callable[[Sample], float] | None = None
    """A doc's own score, where the score is the mean of such: what paired tests compare."""
    headline: bool = True
    """False: only the leaderboard shows it."""

    @property
    def of(self) -> Metric:
        """What the score is."""
        from pluralism_eval.tasks import by_name

        return by_name(self.task).metric(self.metric)


@dataclass(frozen=True)
class Group:
    """One way to group a task's docs."""

    title: str
    of: Callable[[Sample], str]
    printed: tuple[str, ...] = ()
    """The groups of the paper's table, in its order."""
    table: str = ""
    """What that table groups by."""


@dataclass(frozen=True)
class Task:
    """One automatic task: each scores a run by itself."""

    name: str
    """lm-eval's name."""
    short: str
    """Its name in our own commands."""
    title: str
    """On the leaderboard's page."""
    head: str
    """In the table of ``pluralism-eval demo``: the first column's score."""
    input: str
    """Its input in the authors' repository, without ``.json``."""
    blob: str
    """git's id of that file."""
    mode: Mode
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    """(item of the input, what all docs say) → doc. Raises KeyError, TypeError or ValueError."""
    score: Callable[[Mapping[str, Any], Sequence[Any]], dict[str, Any]]
    """(doc, answer) → every score of the doc: lm-eval's ``process_results``."""
    metrics: Callable[[], tuple[Metric, ...]]
    columns: tuple[Column, ...]
    """The first is the headline score."""
    logged: tuple[str, ...]
    """Scores that submissions keep as logged, so that a changed response is found in its row."""
    correct: Callable[[Sample], bool]
    """May formats that ask for yes or no call the doc's answer correct?"""
    correct_means: str
    groups: tuple[Group, ...] = ()
    damaged: Callable[[Sequence[Any]], dict[int, str]] | None = None
    """Items of the input → place of each damaged one and why; ``data=cleaned`` drops them. None: there are none."""
    labelled: bool = False
    """Answers are read from words as labels, and compared with one label; else they are distributions."""

    @property
    def is_text(self) -> bool:
        """Are answers free text?"""
        return self.mode == "overton"

    def damage(self, items: Sequence[Any]) -> dict[int, str]:
        """Place of each damaged item, and why it is."""
        return self.damaged(items) if self.damaged else {}

    def metric(self, name: str) -> Metric:
        """One of its scores."""
        return next(m for m in self.metrics() if m.name == name)
