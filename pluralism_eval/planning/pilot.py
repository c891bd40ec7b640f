"""A few docs that are really run: measured lengths and speed in the place of assumptions.

The pilot's messages stay in the store, so that they are not paid for twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from pluralism_eval.communities.pool import make_pool
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.metrics.coverage import split_sentences
from pluralism_eval.planning.describe import Described, describe_loaded
from pluralism_eval.planning.dry import Tasks, docs_of
from pluralism_eval.planning.lengths import ASSUMED, Lengths, Text
from pluralism_eval.planning.models import card_of
from pluralism_eval.planning.plan import make_plan
from pluralism_eval.planning.rows import WITH_COMMUNITIES, Plan
from pluralism_eval.prompts import Prompts
from pluralism_eval.results import Run
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec, execute
from pluralism_eval.usage import Usage


@dataclass
class _Pilot:
    lengths: dict[tuple[int, str], Lengths] = field(default_factory=dict)
    """(number of the run, task) → what was measured."""
    described: dict[int, Described] = field(default_factory=dict)
    flops: float = 0.0
    seconds: float = 0.0


def plan_by_pilot(
    specs: Sequence[RunSpec],
    output: Path,
    docs: int,
    batch_size: int | str | None = None,
    device: str | None = None,
) -> Plan:
    """A plan of ``specs`` after ``docs`` docs a task were run, in ``output``.

    Raises:
        PluralismError: as the runs would.
    """
    for spec in specs:
        spec.check()
    found, tasks = _Pilot(), Tasks()
    for n, spec in enumerate(specs):
        llm = held(spec, batch_size, device)
        settings = parse(spec.method, spec.model_args())
        found.described[n] = describe_loaded(llm, settings, spec.llm.parameters)
        for task, loaded in tasks.of(spec).items():
            chosen = spaced(docs_of(loaded, spec.limit), docs)
            small = replace(spec, tasks=(task,), limit=None, docs={task: chosen})
            run = execute(small, output, batch_size, device)
            found.seconds += small.seconds(output)
            found.flops += _flops(run, spec, found.described[n])
            found.lengths[n, task] = _measured(run, task, llm)
    place = {id(spec): n for n, spec in enumerate(specs)}
    plan = make_plan(
        specs,
        lambda spec, task: found.lengths[place[id(spec)], task],
        lambda spec: found.described[place[id(spec)]],
        batch_size,
    )
    speed = found.flops / found.seconds if found.flops and not math.isnan(found.flops) else None
    return replace(plan, flops_a_second=speed)


def spaced(n: int, count: int) -> list[int]:
    """Up to ``count`` of ``n`` docs, evenly spaced: neighbours are alike."""
    taken = min(n, count)
    return [(2 * i + 1) * n // (2 * taken) for i in range(taken)]


def held(
    spec: RunSpec, batch_size: int | str | None = None, device: str | None = None
) -> HarnessLLM:
    """The LLM of ``spec``, to be kept by whoever runs it more than once."""
    own = {"llm": spec.llm.llm, "llm_args": dict(spec.llm.llm_args)}
    own |= {k: spec.settings[k] for k in ("batch_tokens",) if k in spec.settings}
    return load_llm(parse("vanilla", own), batch_size, device=device)


def _flops(run: Run, spec: RunSpec, llm: Described) -> float:
    """Of the pilot's run; NaN where the size of a model that worked is unknown."""
    used = run.config["pluralism"]["usage"]
    total = Usage(**used["llm"]).flops(llm.card.computed or math.nan)
    written = Usage(**used["communities"])
    if written.calls and spec.method in WITH_COMMUNITIES:
        settings = parse(spec.method, spec.model_args())
        pool = make_pool(settings, Prompts(settings.prompts))
        sizes = [card_of(c.base).computed or math.nan for c in pool.communities]
        total += written.flops(fmean(sizes))
    return total


def _measured(run: Run, task: str, llm: HarnessLLM) -> Lengths:
    """Lengths of what the LLM wrote; messages are measured in the store."""
    lines = [line for line in run.transcript if line["task"] == task]
    count = llm.count_tokens
    choices = [count(s["raw"]) for line in lines for s in line.get("selections", [])]
    answers = [
        count(reply)
        for line in lines for sent in line["sent"] for reply in (sent.get("scores") or {}).get("replies", ())
    ]  # fmt: skip
    said = [line.get("response") for line in lines]
    responses = [text for text in said if isinstance(text, str)]
    found = ASSUMED
    if responses:
        tokens = fmean(map(count, responses))
        sentences = fmean(len(split_sentences(text)) for text in responses)
        response = Text(max(tokens, 0.01), fmean(map(len, responses)))
        found = replace(found, response=response, sentences=max(sentences, 1e-9))
    told = {"response": responses, "reply": choices or answers}
    return replace(
        found,
        choice=fmean(choices) if choices else found.choice,
        answer=fmean(answers) if answers else found.answer,
        measured={name: f"length of a {name}: the pilot's" for name, own in told.items() if own},
    )
