"""What a study will cost, before it is run: from a few docs that are really run, scaled to all.

Messages to be written are counted exactly (queries x communities, less those in the store), as are the
docs; the lengths of messages and responses, which nobody can know beforehand, are the pilot's. The
pilot's messages stay in the store, so that they are not paid for twice.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.messages import task_queries
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.reproduce.build import Options, held_llm
from pluralism_eval.reproduce.targets import OURS, OVK
from pluralism_eval.results import Run
from pluralism_eval.schema import Query
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec, execute
from pluralism_eval.usage import Usage


@dataclass(frozen=True)
class Prices:
    """Of an API, and of a device that is not at hand."""

    per_million_in: float | None = None
    """Money for a million prompt tokens of the LLM."""
    per_million_out: float | None = None
    tflops: float | None = None
    """Peak of the device in 10^12 floating-point operations a second; None: as fast as the pilot."""
    utilisation: float = 0.3
    """Share of the peak that is reached."""


@dataclass(frozen=True)
class Planned:
    """One row of a plan: an LLM's work in one run and task, or a pool's messages."""

    what: str
    docs: int
    usage: Usage
    parameters: float | None
    stored: int = 0
    """Messages that are there already."""
    pairs: int = 0
    """Entailment pairs to score (Overton)."""

    @property
    def flops(self) -> float | None:
        return None if self.parameters is None else self.usage.flops(self.parameters)


@dataclass(frozen=True)
class Plan:
    rows: list[Planned]
    flops_a_second: float | None
    """As the pilot reached on this device, loading included."""

    def total(self, communities: bool) -> Usage:
        """Of the LLMs, or of the communities."""
        total = Usage()
        for row in self.rows:
            if row.what.startswith("messages") == communities:
                total = total.plus(row.usage)
        return total

    def hours(self, prices: Prices) -> float | None:
        """None where the size of a model that has work to do is unknown."""
        needed = [row.flops for row in self.rows if row.usage.calls]
        speed = self.flops_a_second
        if prices.tflops is not None:
            speed = prices.tflops * 1e12 * prices.utilisation
        if speed is None or any(flops is None for flops in needed):
            return None
        return sum(flops for flops in needed if flops is not None) / speed / 3600

    def money(self, prices: Prices) -> float | None:
        if prices.per_million_in is None or prices.per_million_out is None:
            return None
        used = self.total(communities=False)
        return (
            used.prompt_tokens * prices.per_million_in + used.new_tokens * prices.per_million_out
        ) / 1e6


def make_plan(specs: Sequence[RunSpec], output: Path, pilot: int, options: Options) -> Plan:
    """A plan of ``specs`` from ``pilot`` docs a task.

    Raises:
        PluralismError: as the runs would.
    """
    for spec in specs:
        spec.check()
    rows: list[Planned] = []
    pools: dict[str, list[_PoolUse]] = {}
    flops = seconds = 0.0
    for spec in specs:
        llm = held_llm(spec, options)
        for task in spec.tasks:
            queries = _queries(spec, task)
            chosen = _spaced(len(queries), pilot)
            small = replace(spec, tasks=(task,), limit=None, docs={task: chosen})
            run = execute(small, output / "pilot", options.batch_size, options.device)
            seconds += small.seconds(output / "pilot")
            used = run.config["pluralism"]["usage"]
            mine = _scaled(Usage(**used["llm"]), queries, chosen, llm)
            parameters = spec.llm.parameters or run.config.get("model_num_parameters")
            what = f"{spec.llm.name}: {spec.label}, {task}"
            rows.append(
                Planned(what, len(queries), mine, parameters, pairs=_pairs(run, task, len(queries)))
            )
            flops += Usage(**used["llm"]).flops(parameters or math.nan)
            written = Usage(**used["communities"])
            if written.calls:
                flops += written.flops(_parameters(_pool(spec)) or math.nan)
            if spec.method in ("moe", OURS):
                use = _PoolUse(spec, task, [queries[i] for i in chosen], written, llm)
                pools.setdefault(_pool_key(spec), []).append(use)
    rows += [_messages(uses) for uses in pools.values()]
    return Plan(rows, None if math.isnan(flops) or not flops else flops / seconds)


def _queries(spec: RunSpec, task: str) -> list[Query]:
    """The docs' queries as listed: one a doc."""
    settings = parse(spec.method, spec.model_args())
    queries = task_queries([task], settings, spec.metadata, spec.limit)
    return [query for query in queries if not query.order and not query.sample]


def _spaced(n: int, count: int) -> list[int]:
    """Up to ``count`` of ``n`` docs, evenly spaced: neighbours are alike."""
    taken = min(n, count)
    return [(2 * i + 1) * n // (2 * taken) for i in range(taken)]


def _scaled(used: Usage, queries: Sequence[Query], chosen: Sequence[int], llm: HarnessLLM) -> Usage:
    """The pilot's use, scaled to all docs; prompts by how long the docs' queries are."""
    factor = len(queries) / len(chosen)
    lengths = [llm.count_tokens(query.text) for query in queries]
    longer = fmean(lengths) - fmean(lengths[i] for i in chosen)
    calls = used.calls * factor
    prompt = used.prompt_tokens * factor + calls * longer
    return Usage(round(calls), round(prompt), round(used.new_tokens * factor))


def _pairs(run: Run, task: str, docs: int) -> int:
    if task != OVK:
        return 0
    samples = run.samples_of(task)
    return round(docs * fmean(s["n_sentences"] * len(s["doc"]["values"]) for s in samples))


def _pool_key(spec: RunSpec) -> str:
    """Runs with one key share their messages."""
    from pluralism_eval.cache import digest

    s = parse(spec.method, spec.model_args())
    kept = (
        s.communities,
        s.preset,
        s.message_max_tokens,
        s.message_temperature,
        s.seed,
        s.messages,
    )
    return digest([kept, dict(spec.metadata)])


@dataclass(frozen=True)
class _PoolUse:
    """One run's demand on a pool, in one task, and what its pilot wrote."""

    spec: RunSpec
    task: str
    piloted: Sequence[Query]
    written: Usage
    llm: HarnessLLM


def _messages(uses: Sequence[_PoolUse]) -> Planned:
    """The messages still to be written for runs that share a pool.

    moe writes one of a query's messages, which modular_pluralism needs anyway.
    """
    spec = uses[0].spec
    settings = parse(spec.method, spec.model_args())
    pool, llm = _pool(spec), uses[0].llm
    wanted: dict[tuple[Any, ...], tuple[Query, int]] = {}
    alone: dict[tuple[Any, ...], tuple[Query, int]] = {}
    for use in uses:
        s = use.spec
        for q in task_queries([use.task], settings, s.metadata, s.limit):
            one = (q.key, q.order, q.sample)
            if s.method == OURS:
                wanted |= {(*one, i): (q, i) for i in range(len(pool.names))}
            else:
                alone[(*one, 0)] = (q, 0)
    everything = {**alone, **wanted}
    todo = pool.missing(everything.values())
    written = Usage()
    for use in uses:
        written = written.plus(use.written)
    piloted = [q for use in uses for q in use.piloted]
    lengths = _lengths(pool, piloted)
    longest = settings.message_max_tokens or get_preset(settings.preset).message_max_tokens
    new = sum(lengths.get(name, longest) for name, _ in todo)
    # engines count their own templates too: the pilot's prompts say by how much
    plain = fmean(llm.count_tokens(pool.prompt(q)) for q in piloted)
    ratio = written.prompt_tokens / written.calls / plain if written.calls else 1.0
    prompt = sum(llm.count_tokens(text) for _, text in todo) * ratio
    usage = Usage(len(todo), round(prompt), round(new))
    stored = len(everything) - len(todo)
    return Planned(
        f"messages of {settings.communities}",
        len({k[0] for k in everything}),
        usage,
        _parameters(pool),
        stored,
    )


def _pool(spec: RunSpec) -> CommunityPool:
    settings = parse(spec.method, spec.model_args())
    return make_pool(settings, Prompts(settings.prompts))


def _lengths(pool: CommunityPool, piloted: Sequence[Query]) -> dict[str, float]:
    """Community → mean new tokens of its stored messages about the pilot's queries."""
    lengths: dict[str, list[int]] = defaultdict(list)
    for (_, i), message in pool.stored(piloted).items():
        lengths[pool.names[i]].append(message.n_tokens)
    return {name: fmean(values) for name, values in lengths.items()}


def _parameters(pool: CommunityPool) -> float | None:
    """Of the communities' base models, from their names; 134.5 million for the embedded one."""
    sizes = []
    for c in pool.communities:
        named = re.search(r"(\d+(?:\.\d+)?)b\b", c.base.lower())
        sizes.append(134.5e6 if c.base == "embedded" else float(named[1]) * 1e9 if named else None)
    known = [size for size in sizes if size is not None]
    return fmean(known) if len(known) == len(sizes) else None


def used(runs: Sequence[Run]) -> dict[str, Usage]:
    """What finished runs used: ``llm`` and ``communities``."""
    found = {"llm": Usage(), "communities": Usage()}
    for run in runs:
        for kind, counts in run.config["pluralism"]["usage"].items():
            found[kind] = found[kind].plus(Usage(**counts))
    return found


def rows(plan: Plan) -> list[list[str]]:
    """Rows of text, the header first."""
    header = [
        "what",
        "docs",
        "calls",
        "prompt tokens",
        "new tokens",
        "FLOPs",
        "stored",
        "entailment pairs",
    ]
    return [header] + [
        [
            row.what, str(row.docs), f"{row.usage.calls:,}", f"{row.usage.prompt_tokens:,}",
            f"{row.usage.new_tokens:,}", "unknown" if row.flops is None else f"{row.flops:.2e}",
            f"{row.stored:,}" if row.what.startswith("messages") else "", f"{row.pairs:,}" if row.pairs else "",
        ]
        for row in plan.rows
    ]  # fmt: skip


def as_json(plan: Plan, prices: Prices) -> Mapping[str, Any]:
    return {
        "llm": plan.total(communities=False).as_dict(),
        "communities": plan.total(communities=True).as_dict(),
        "rows": [
            {**vars(row), "usage": row.usage.as_dict(), "flops": row.flops} for row in plan.rows
        ],
        "hours": plan.hours(prices),
        "money": plan.money(prices),
    }
