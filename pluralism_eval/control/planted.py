"""The planted society: all methods of known order on the invented town, run as any study is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pluralism_eval.control import known, shuffled
from pluralism_eval.control.effects import EQUAL, OURS, SHUFFLED, VANILLA
from pluralism_eval.control.town import town
from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file, long_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.reproduce import build
from pluralism_eval.reproduce.targets import Row
from pluralism_eval.results import Run
from pluralism_eval.study import RunSpec, StudyLLM
from pluralism_eval.tasks.baselines import Samples

POOL = DATA = "control"
TASKS = ("overton", "vk", "globalopinionqa")
DEFAULT_DOCS = {"overton": 24, "vk": 40, "globalopinionqa": 40}
"""Docs a task that fit into 5 minutes on 2 cores with the embedded model."""
RESPONSE_TOKENS = 96


def docs_of(limit: int | None) -> dict[str, int]:
    """Task → number of docs. Raises PluralismError for less than 2."""
    if limit is not None and limit < 2:
        raise PluralismError(f"--limit {limit}: at least 2, since messages are shuffled between")
    most = {task: len(read_items(input_file(task, DATA))) for task in TASKS}
    return {task: min(limit or DEFAULT_DOCS[task], most[task]) for task in TASKS}


def spec(
    label: str, method: str, llm: StudyLLM, options: build.Options, tasks: Mapping[str, int],
    more: Mapping[str, Any] | None = None,
) -> RunSpec:  # fmt: skip
    """One run on the town.

    Args:
        tasks: short name → number of docs.
        more: settings beyond those of all runs.
    """
    return RunSpec(
        label=label,
        method=method,
        llm=llm,
        tasks=tuple(long_name(task) for task in tasks),
        settings={"communities": POOL, **options.settings, **(more or {})},
        metadata={"data": DATA, "nli": options.nli or "embedded"},
        gen_kwargs=options.gen_kwargs or {"max_gen_toks": RESPONSE_TOKENS},
        docs={long_name(task): tuple(range(n)) for task, n in tasks.items()},
    )


def run(
    llm: StudyLLM, options: build.Options, docs: Mapping[str, int], output: Path, report: Any = print
) -> tuple[dict[str, dict[str, Samples]], dict[str, Run]]:  # fmt: skip
    """(method → task → samples, method → its run), the methods of known answers among the former."""
    ours = spec(OURS, OURS, llm, options, docs, {"weights": town().sizes})
    survey = {"globalopinionqa": docs["globalopinionqa"]}
    specs = [
        ours,
        spec(EQUAL, OURS, llm, options, survey),
        spec(VANILLA, VANILLA, llm, options, docs),
    ]
    for one in specs:
        one.check()
    held = build.held_llm(ours, options)  # noqa: F841 - kept loaded over both calls
    done = build.run_all([_entry(s) for s in specs], output / "runs", options, report)
    folder = shuffled.export(ours, output / "messages")
    other = replace(ours, label=SHUFFLED, settings={**ours.settings, "messages": str(folder)})
    done += build.run_all([_entry(other)], output / "runs", options, report)
    runs = {entry.row.label: found for entry, found in done}
    samples: dict[str, dict[str, Samples]] = {
        label: {task: found.samples_of(task) for task in found.samples}
        for label, found in runs.items()
    }
    preset = str(options.settings.get("preset", "paper"))
    nli = options.nli or "embedded"
    for how in known.KNOWN:
        samples[how] = {
            long_name(t): known.scored(t, how, n, output / "known", preset, nli)
            for t, n in docs.items()
        }
    return samples, runs


def _entry(one: RunSpec) -> build.Entry:
    return build.Entry(Row(one.label, one.method, ""), one)


def fitting_picks(found: Run) -> tuple[int, int]:
    """(how often the LLM picked the comment of the community that holds the value, docs), of steerable VK."""
    task = long_name("vk")
    situations = {s["situation"]: s["values"] for s in town().situations}
    lines, right, n = found.transcript_of(task), 0, 0
    for sample in found.samples_of(task):
        doc = sample["doc"]
        values = situations[doc["cluster"]]
        holder = next(c for c, own in values.items() if own["value"] == doc["pluralism"]["attribute"])  # fmt: skip
        picked = [s["community"] for s in lines[sample["doc_id"]]["selections"]]
        right, n = right + (picked == [holder]), n + 1
    return right, n
