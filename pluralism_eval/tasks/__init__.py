"""All that is peculiar to each task, in one record each. Who shows, scores or reads tasks reads :data:`TASKS`."""

from __future__ import annotations

from functools import partial

from pluralism_eval.data.cleaning import damaged
from pluralism_eval.metrics import classification, coverage, options
from pluralism_eval.metrics.metric import kind_of_value
from pluralism_eval.presets import get_preset
from pluralism_eval.tasks import baselines, items
from pluralism_eval.tasks.task import Column, Group, Sample, Task

OVERTON = "pluralism_overton_nli"
VK = "pluralism_steerable_vk"
OPINIONQA = "pluralism_steerable_opinionqa"
MORALCHOICE = "pluralism_distributional_moralchoice"
GLOBALOPINIONQA = "pluralism_distributional_globalopinionqa"


def _group(sample: Sample) -> str:
    return str(sample["doc"]["group"])


def _group_and_attribute(sample: Sample) -> str:
    return f"{sample['doc']['group']}: {sample['doc']['pluralism']['attribute']}"


def _country(sample: Sample) -> str:
    doc = sample["doc"]
    substring = get_preset(doc["pluralism"]["preset"]).country_substring
    return options.table3_country(doc["group"], substring)


def _right_label(sample: Sample) -> float:
    return float(sample["acc"][0] == sample["acc"][1])


def _likeliest(sample: Sample) -> bool:
    """Is the likeliest option people's? Samples of early versions hold ``match`` alone."""
    return float(sample["mode_match"] if "mode_match" in sample else sample["match"]) == 1


def _own(metric: str, sample: Sample) -> float:
    return float(sample[metric])


_covered, _match, _jsd = (partial(_own, metric) for metric in ("coverage", "match", "jsd"))
_LIKELIEST = "the likeliest option is the likeliest one of the target"

_ALL = (
    Task(
        OVERTON,
        short="overton",
        title="Overton",
        head="Overton↑",
        input="overton_test_valuekaleidoscope",
        blob="7cc251acb05437959d21e8285eb0930c2c0d8cb2",
        mode="overton",
        build=items.overton,
        score=coverage.overton,
        metrics=lambda: coverage.METRICS,
        columns=(Column(OVERTON, "Overton: value coverage", "coverage", baselines.echo, _covered),),
        logged=("coverage",),
        correct=lambda sample: _covered(sample) >= 1,
        correct_means="every explanation is covered",
    ),
    Task(
        VK,
        short="vk",
        title="Steerable VK",
        head="VK acc.↑",
        input="steerable_test_valuekaleidoscope",
        blob="d7886d4cd021a51408ef1f39631cce4917d50472",
        mode="steerable",
        build=items.vk,
        score=classification.vk,
        metrics=lambda: classification.METRICS,
        columns=(
            Column(VK, "Steerable VK: accuracy", "acc", baselines.label_accuracy, _right_label),
            Column(VK, "Steerable VK: balanced acc.", "balanced_acc", baselines.label_recall),
            Column(VK, "Steerable VK: macro-F1", "macro_f1", headline=False),
            Column(VK, "VK binary: accuracy", "acc_binary", headline=False),
            Column(VK, "VK binary: balanced acc.", "balanced_acc_binary", headline=False),
            Column(VK, "VK binary: macro-F1", "macro_f1_binary", headline=False),
        ),
        logged=("acc",),
        correct=lambda sample: _right_label(sample) == 1,
        correct_means="the answer is the labelled one",
        groups=(Group("value, right or duty", kind_of_value),),
        labelled=True,
    ),
    Task(
        OPINIONQA,
        short="opinionqa",
        title="Steerable OpinionQA",
        head="OpinionQA↑",
        input="steerable_test_opinionqa",
        blob="4bc80916b67743088f9a00c40bdf6e694b1c03be",
        mode="steerable",
        build=items.opinionqa,
        score=options.opinionqa,
        metrics=partial(options.metrics_of, "opinionqa"),
        columns=(
            Column(OPINIONQA, "Steerable OpinionQA: match", "match", baselines.matches, _match),
        ),
        logged=("match", "jsd"),
        correct=_likeliest,
        correct_means="the likeliest option is the group's",
        groups=(Group("category (Table 2)", _group), Group("group", _group_and_attribute)),
        damaged=damaged,
    ),
    Task(
        MORALCHOICE,
        short="moralchoice",
        title="MoralChoice",
        head="Moral J-S↓",
        input="distributional_test_moralchoice",
        blob="9d5b4b2b4693fcebc257522c66946c9d8def9e9e",
        mode="distributional",
        build=items.moralchoice,
        score=options.moralchoice,
        metrics=partial(options.metrics_of, "moralchoice"),
        columns=(Column(MORALCHOICE, "Distr. MoralChoice: J-S", "jsd", baselines.distances, _jsd),),
        logged=("jsd",),
        correct=_likeliest,
        correct_means=_LIKELIEST,
        groups=(Group("ambiguity (Table 10)", _group, items.AMBIGUITIES, "ambiguity (Table 10)"),),
    ),
    Task(
        GLOBALOPINIONQA,
        short="globalopinionqa",
        title="GlobalOpinionQA",
        head="Global J-S↓",
        input="distributional_test_globalopinionqa",
        blob="45cf72164350080230fe373c48e3e0192c448fa6",
        mode="distributional",
        build=items.globalopinionqa,
        score=options.globalopinionqa,
        metrics=partial(options.metrics_of, "globalopinionqa"),
        columns=(
            Column(
                GLOBALOPINIONQA, "Distr. GlobalOpinionQA: J-S", "jsd", baselines.distances, _jsd
            ),
        ),
        logged=("jsd",),
        correct=_likeliest,
        correct_means=_LIKELIEST,
        groups=(
            Group(
                "country (Table 3 first)", _country, options.TABLE3_COUNTRIES, "country (Table 3)"
            ),
        ),
    ),
)

TASKS: dict[str, Task] = {task.short: task for task in _ALL}
"""Short name → task, in the order of all tables."""


def by_name(name: str) -> Task:
    """The task with lm-eval's name. Raises KeyError."""
    return {task.name: task for task in TASKS.values()}[name]


def task_names() -> tuple[str, ...]:
    """lm-eval's names of all automatic tasks."""
    return tuple(task.name for task in TASKS.values())


def headlines() -> tuple[Column, ...]:
    """The columns of the table of methods by tasks."""
    return tuple(c for task in TASKS.values() for c in task.columns if c.headline)
