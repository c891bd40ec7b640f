"""A few docs in full: people's distribution, every run's answer, and every community's own reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from pluralism_eval.cache import digest
from pluralism_eval.data.sources import short_name
from pluralism_eval.distribution import total_variation
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.mixtures import mixtures
from pluralism_eval.metrics.options import predicted
from pluralism_eval.report.figures.answer_sheet import Distribution, Doc, draw_docs
from pluralism_eval.report.figures.figure import Figure
from pluralism_eval.report.figures.panels import NAN, Line, full_names, lines, number
from pluralism_eval.report.figures.style import plain, short
from pluralism_eval.results import Run
from pluralism_eval.tasks import GLOBALOPINIONQA, MORALCHOICE

Sample = Mapping[str, Any]
DOCS = 4
"""Of each task."""
SEED = 0
_LOOKED_AT = 2000
TITLES = {MORALCHOICE: "MoralChoice", GLOBALOPINIONQA: "GlobalOpinionQA"}


def distributions(runs: Mapping[str, Run]) -> list[Figure]:
    """One figure a distributional task."""
    return [found for task in TITLES if (found := _figure(runs, task))]


def _figure(runs: Mapping[str, Run], task: str) -> Figure | None:
    own = {label: run for label, run in runs.items() if run.samples.get(task)}
    if not own:
        return None
    table = {label: {_key(s): s for s in run.samples_of(task)} for label, run in own.items()}
    keys = chosen(list(table.values()))
    spoken = {
        label: _readings(run, task, [table[label][k] for k in keys if k in table[label]])
        for label, run in own.items()
    }
    speaker = next((label for label, found in spoken.items() if found), None)
    readings = spoken[speaker] if speaker is not None else {}
    rows = lines(own)
    docs = [_doc(key, rows, table, readings, speaker) for key in keys]
    name = TITLES[task]
    if speaker is None:
        told = "No run has a transcript with the readings of single communities. "
    else:
        told = f"The communities' rows are what the LLM answers given one community's message alone, in the run {plain(speaker)}; that run's own answer is their weighted mean. "  # fmt: skip
    caption = (
        f"{len(docs)} docs, chosen by a fixed seed and spread from little to much disagreement between runs: they show how "
        f"answers differ, not how often. Numbers are percent; J-S is the distance to {_gold(task)}, 0 for equal and 0.83 "
        f"for disjoint. {told}A dash: nothing could be read, or the run has no such doc."
    )
    return Figure(
        f"distributions_{short_name(task)}", f"{name}: answers in full", caption, _alt(docs, name), _rows(docs),
        partial(draw_docs, docs),
    )  # fmt: skip


def _gold(task: str) -> str:
    return "the gold answer" if task == MORALCHOICE else "people's answers"


def _key(sample: Sample) -> tuple[str, str]:
    return str(sample["doc"]["id"]), str(sample["doc"]["query"])


def chosen(tables: Sequence[Mapping[tuple[str, str], Sample]]) -> list[tuple[str, str]]:
    """At most four docs: of each quarter by disagreement between the runs, one by a fixed seed.

    Disagreement is the largest total variation between two runs' answers; of one run alone, its
    distance to people. At most 2,000 docs are looked at: those that all runs answered; without any, the
    first run's.
    """
    common = [key for key in tables[0] if all(key in table for table in tables[1:])]
    keys = sorted(common or tables[0], key=lambda key: digest([SEED, *key]))[:_LOOKED_AT]

    def disagreement(key: tuple[str, str]) -> float:
        answers = [predicted(t[key]["filtered_resps"])[0] for t in tables if key in t]
        found = [total_variation(a, b) for a, b in combinations(answers, 2) if len(a) == len(b)]
        return max(found) if found else float(tables[0][key]["jsd"])

    ordered = sorted(keys, key=lambda key: (disagreement(key), key))
    quarters = [
        part.tolist() for part in np.array_split(np.arange(len(ordered)), DOCS) if len(part)
    ]
    return [
        min((ordered[i] for i in part), key=lambda key: digest([SEED, *key])) for part in quarters
    ]


def _readings(
    run: Run, task: str, samples: Sequence[Sample]
) -> dict[int, dict[str, tuple[float, ...] | None]]:
    """doc_id → community → what the LLM answered given its message alone; {} without a transcript of it."""
    wanted = {int(sample["doc_id"]) for sample in samples}
    entries = [
        e for e in run.transcript
        if e["task"] == task and e.get("mode") == "distributional" and e["doc_id"] in wanted
    ]  # fmt: skip
    found: dict[int, dict[str, tuple[float, ...] | None]] = {}
    for entry in entries:
        names = list(dict.fromkeys(m["community"] for m in entry.get("messages", [])))
        if len(names) < 2 or entry.get("selections"):  # of a method that answers from one message
            continue
        try:
            mixed = mixtures([entry], names, [1 / len(names)] * len(names))
        except PluralismError:  # a line that was changed
            continue
        alone = mixed.answers(np.eye(len(names), dtype=bool))[:, 0, : len(entry["options"])]
        found[int(entry["doc_id"])] = {
            name: tuple(map(float, answer)) if mixed.read[i].any() else None
            for i, (name, answer) in enumerate(zip(names, alone, strict=True))
        }
    return found


def _doc(
    key: tuple[str, str], runs: Sequence[Line], table: Mapping[str, Mapping[tuple[str, str], Sample]],
    readings: Mapping[int, Mapping[str, tuple[float, ...] | None]], speaker: str | None,
) -> Doc:  # fmt: skip
    samples = {label: own[key] for label, own in table.items() if key in own}
    doc = next(iter(samples.values()))["doc"]
    gold = [float(v) for v in doc["gold"]]
    people = "gold answer" if doc["group"].endswith("_ambiguity") else "people"
    rows = [Distribution(people, "people", tuple(gold), NAN)]
    several = len({line.section for line in runs}) > 1
    for line in runs:
        sample, section = samples.get(line.label), line.section if several else ""
        if sample is None:
            rows.append(Distribution(line.name, "run", None, NAN, section))
            continue
        answer, mass = predicted(sample["filtered_resps"])
        read = tuple(answer) if mass > 0 else None
        rows.append(Distribution(line.name, "run", read, float(sample["jsd"]), section))
    spoken = readings.get(int(samples[speaker]["doc_id"]), {}) if speaker in samples else {}
    named = next((n for n, line in zip(full_names(runs), runs, strict=True) if line.label == speaker), "")  # fmt: skip
    for name, reading in spoken.items():
        distance = js_distance(reading, gold) if reading else NAN
        rows.append(
            Distribution(name, "community", reading, distance, f"single communities of {named}")
        )
    question, _, _ = str(doc["query"]).partition("\nOptions:")
    question = question.split("\nA. ")[0].split("\nScenario: ")[-1].removeprefix("Question: ")
    return Doc(
        str(doc["id"]), str(doc["group"]).replace("_", " "), question, tuple(doc["options"]), tuple(rows)
    )  # fmt: skip


# ---------------------------------------------------------------------- words


def _alt(docs: Sequence[Doc], task: str) -> str:
    told = []
    for doc in docs:
        runs = [row for row in doc.rows if row.kind == "run" and not math.isnan(row.distance)]
        if not runs:
            continue
        near, far = (f(runs, key=lambda row: row.distance) for f in (min, max))
        told.append(
            f"{short(doc.question, 80)} ({doc.group}): {doc.rows[0].name}: {_top(doc)}; nearest {_told(near)} at "
            f"{near.distance:.3f}"
            + (f", farthest {_told(far)} at {far.distance:.3f}." if len(runs) > 1 else ".")
        )
    return f"{len(docs)} docs of {task}. " + " ".join(told)


def _top(doc: Doc) -> str:
    gold = doc.rows[0].distribution or ()
    top = [option for option, p in zip(doc.options, gold, strict=True) if p == max(gold)]
    return short(top[0], 40) if len(top) == 1 else f"{len(top)} options alike"


def _rows(docs: Sequence[Doc]) -> list[list[str]]:
    most = max(len(doc.options) for doc in docs)
    found = [["doc", "group", "answer of", *(chr(ord("A") + i) for i in range(most)), "J-S"]]
    for doc in docs:
        for row in doc.rows:
            values = row.distribution or (NAN,) * len(doc.options)
            cells = [number(v) for v in values] + [""] * (most - len(doc.options))
            found.append(
                [plain(doc.id), plain(doc.group), _told(row), *cells, number(row.distance)]
            )
    return found


def _told(row: Distribution) -> str:
    return plain(f"{row.name} ({row.section})" if row.section else row.name)
