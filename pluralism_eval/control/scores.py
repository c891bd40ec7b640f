"""The headline scores as simulated: how docs hang together is measured, how methods behave is assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pluralism_eval.control.worlds import (
    Balanced,
    Binary,
    Coverage,
    Distance,
    Method,
    Recalls,
    World,
)
from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file

# Docs of a cluster → clusters with that many, values of a situation → situations, and shares of the gold labels,
# in the released inputs: `pluralism-eval control simulate --measure FOLDER_OF_THE_RELEASED_INPUTS`
OPINIONQA = {1: 246, 2: 263, 3: 231, 4: 115, 5: 38, 6: 17, 7: 3}
GLOBALOPINIONQA = {
    1: 403, 2: 181, 3: 127, 4: 108, 5: 66, 6: 55, 7: 22, 8: 15, 9: 16, 10: 8, 11: 7, 12: 3, 13: 1, 14: 1,
}  # fmt: skip
VK = {1: 1157, 2: 363, 3: 88, 4: 8, 5: 1}
OVERTON = {1: 313}
MORALCHOICE = {1: 684}
VALUES = {2: 2, 3: 2, 4: 5, 5: 29, 6: 73, 7: 92, 8: 54, 9: 43, 10: 8, 11: 5}
LABELS = (1108 / 2184, 720 / 2184, 356 / 2184)

SUPPORT, OPPOSE, EITHER = LABELS


@dataclass(frozen=True)
class Score:
    """One headline score, and methods of which the truth is known."""

    title: str
    """That of :data:`pluralism_eval.report.table.COLUMNS`."""
    world: World
    method: Method
    unlike: Method
    """Of the same true score, but spread otherwise."""
    better: Method
    mcnemar: bool = False
    """All docs are clusters of their own, and right or wrong."""
    in_family: bool = True
    """One of the paired tests of a report."""

    @property
    def balanced(self) -> bool:
        """The score is no mean over docs; reports test no differences of it."""
        return isinstance(self.method, Balanced)


_VK_WORLD = World(VK, LABELS, 0.25)
"""0.25: labels agree within a situation as the released ones do (correlations 0.12 to 0.21)."""
_RECALLS = (0.80, 0.60, 0.30)
_SHIFTED = (0.70, 0.70, 0.30 + (0.1 * SUPPORT - 0.1 * OPPOSE) / EITHER)
"""Of the same accuracy."""
_MORE = (0.85, 0.65, 0.35)
# Shares of clusters. In the released inputs, the J-S distance of the uniform answer has a correlation of 0.92 within
# a question of GlobalOpinionQA, that of a random answer to each question 0.80 to 0.86; "is the first option right?"
# 0.71 within a question of OpinionQA, and 0.12 to 0.21 for VK's labels within a situation.
# Mean and spread of the distances are those of the uniform answer.
SCORES = (
    Score(
        "Overton: value coverage",
        World(OVERTON, tuple(n / sum(VALUES.values()) for n in VALUES.values())),
        Coverage(0.30, 0.3, tuple(VALUES)),
        Coverage(0.30, 0.6, tuple(VALUES)),
        Coverage(0.35, 0.3, tuple(VALUES)),
    ),
    Score(
        "Steerable VK: accuracy", _VK_WORLD,
        Recalls(_RECALLS, LABELS, 0.3), Recalls(_SHIFTED, LABELS, 0.3), Recalls(_MORE, LABELS, 0.3),
    ),
    Score(
        "Steerable VK: balanced acc.", _VK_WORLD,
        Balanced(_RECALLS, LABELS, 0.3), Balanced(_RECALLS, LABELS, 0.3), Balanced(_MORE, LABELS, 0.3),
        in_family=False,
    ),
    Score(
        "Steerable OpinionQA: match", World(OPINIONQA),
        Binary(0.50, 0.9), Binary(0.50, 0.3), Binary(0.55, 0.9),
    ),
    Score(
        "Distr. MoralChoice: J-S", World(MORALCHOICE),
        Distance(0.234, 0.232, 0.0), Distance(0.234, 0.15, 0.0), Distance(0.204, 0.232, 0.0),
    ),
    Score(
        "Distr. GlobalOpinionQA: J-S", World(GLOBALOPINIONQA),
        Distance(0.290, 0.139, 0.85), Distance(0.290, 0.20, 0.85), Distance(0.260, 0.139, 0.85),
    ),
    Score(
        "Steerable VK: accuracy, one value a situation", World({1: 1}, LABELS),
        Recalls(_RECALLS, LABELS, 0.0), Recalls(_SHIFTED, LABELS, 0.0), Recalls(_MORE, LABELS, 0.0),
        mcnemar=True, in_family=False,
    ),
)  # fmt: skip


def measured(data: str) -> dict[str, dict[str, dict[int | str, int]]]:
    """Task → what was counted → sizes (or labels) and how many there are: the figures above.

    Args:
        data: ``authors`` or a folder, as for tasks.

    Raises:
        PluralismError: no such inputs.
    """
    items = {task: read_items(input_file(task, data)) for task in _CLUSTER}
    found = {
        task: {"docs of a cluster": _sizes(Counter(item[key] for item in items[task]))}
        for task, key in _CLUSTER.items()
    }
    values = Counter(len(item["vrd"]) for item in items["overton"])
    labels = Counter(str(item["label"]) for item in items["vk"])
    found["overton"]["values of a situation"] = dict(sorted(values.items()))
    found["vk"]["gold labels"] = dict(sorted(labels.items()))
    return found


_CLUSTER = {
    "overton": "situation", "vk": "situation", "opinionqa": "question", "moralchoice": "question",
    "globalopinionqa": "question",
}  # fmt: skip


def _sizes(clusters: Mapping[str, int]) -> dict[int | str, int]:
    return dict(sorted(Counter(clusters.values()).items()))
