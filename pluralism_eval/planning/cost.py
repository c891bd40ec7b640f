"""From calls and tokens to memory, time and money.

With N parameters that a token passes, F and B the device's peak FLOP/s and bytes/s, u and v the shares of them
that are reached, n devices in tensor parallel (assumed to scale fully):

    prefill  = 2 · N · prompt tokens / (n · F · u)
    decoding = max(bytes read / (n · B · v), 2 · N · tokens decoded / (n · F · u))
    bytes read = steps · (weights + batch · context · key-value cache of a token)

A batch of b texts of mean length m makes one step a token: m · n_texts / b steps where an engine refills
places (vLLM), and until its longest text ends in transformers, which is taken as m · (1 + 1/2 + ... + 1/b), as if
every token were equally likely to be a text's last, and never more than the limit. Attention's own FLOPs,
activations, loading and the host's work are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import yaml

from pluralism_eval.errors import PluralismError
from pluralism_eval.planning.models import nominal
from pluralism_eval.planning.rows import LLM, MESSAGES, Plan, Planned
from pluralism_eval.planning.work import Work

KEPT_FREE = 0.1
"""Share of a device's memory for activations and everything else."""
_GB = 1e9


@dataclass(frozen=True)
class Device:
    """One device's peaks."""

    name: str
    tflops: float
    """10^12 FLOP/s, dense, in the number format of the model."""
    bandwidth: float | None = None
    """GB/s; None: decoding is bounded by FLOPs alone."""
    memory: float | None = None
    """GB."""


@dataclass(frozen=True)
class Reached:
    """Shares of the peaks that are reached."""

    flops: float = 0.3
    bandwidth: float = 0.5


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens of an LLM behind an API."""

    per_million_in: float
    per_million_out: float
    discount: float = 0.0
    """Of a batch API: 0.5 halves both."""

    def of(self, prompt_tokens: float, new_tokens: float) -> float:
        full = prompt_tokens * self.per_million_in + new_tokens * self.per_million_out
        return full * (1 - self.discount) / 1e6


@dataclass(frozen=True)
class Memory:
    """Bytes of one model at work."""

    weights: float
    adapters: float
    cache: float
    """Keys and values of a full batch of the longest prompts with their replies; 0 if nothing is generated."""
    exact: bool
    """False: the cache is an upper bound, by the model's size alone."""
    rows: int = 0
    """Texts of that batch."""
    tokens: int = 0
    """Of its longest prompt and reply."""

    @property
    def total(self) -> float:
        return self.weights + self.adapters + self.cache


@dataclass(frozen=True)
class Time:
    """Seconds."""

    prefill: float
    decoding: float

    @property
    def total(self) -> float:
        return self.prefill + self.decoding


@lru_cache(maxsize=1)
def gpus() -> dict[str, Device]:
    """The table of ``gpus.yaml``."""
    text = (files("pluralism_eval.planning") / "gpus.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(text).items()
    return {name: Device(name, **{k: float(v) for k, v in row.items()}) for name, row in rows}


def devices(names: str) -> list[Device]:
    """The GPUs called ``names``, joined by commas. Raises PluralismError for an unknown one."""
    found = []
    for name in (part.strip().lower() for part in names.split(",")):
        if name not in gpus():
            raise PluralismError(
                f"--gpu {name!r} is not in the table. Allowed: {', '.join(gpus())}; or describe the device with "
                "--tflops, --bandwidth and --memory"
            )
        found.append(gpus()[name])
    return found


def memory(rows: Sequence[Planned], adapters: float = 0.0) -> Memory | None:
    """Of one model with all that it does; None where its size is unknown."""
    card = rows[0].model
    weights, cache = card.weight_bytes, card.cache_bytes
    if weights is None or cache is None:
        return None
    generating = [row for row in rows if row.most.generated]
    batches = [(min(row.batch, row.most.generated), row.most.longest) for row in generating]
    n, longest = max(batches, key=lambda batch: batch[0] * batch[1], default=(0, 0))
    return Memory(weights, adapters, n * longest * cache[0], cache[1], n, longest)


def devices_needed(size: float, device: Device) -> int | None:
    """The power of two that holds ``size`` bytes; None where the device's memory is unknown."""
    if device.memory is None:
        return None
    room = device.memory * _GB * (1 - KEPT_FREE)
    return 1 << max(0, math.ceil(math.log2(size / room)))


def seconds(row: Planned, work: Work, device: Device, n: int, reached: Reached) -> Time | None:
    """Time of ``work`` of ``row``'s model on ``n`` devices; None where its size is unknown."""
    size, weights, cache = row.model.computed, row.model.weight_bytes, row.model.cache_bytes
    if size is None or weights is None or cache is None:
        return None
    speed = n * device.tflops * 1e12 * reached.flops
    prefill = 2 * size * work.usage.prompt_tokens / speed
    steps, rows = decode_steps(work, row.batch, row.static)
    decoding = 2 * size * max(steps * rows, work.usage.new_tokens) / speed
    if device.bandwidth is not None and steps:
        mean = work.usage.new_tokens / work.generated
        context = work.usage.prompt_tokens / work.usage.calls + mean / 2
        read = steps * (weights + rows * context * cache[0])
        decoding = max(decoding, read / (n * device.bandwidth * _GB * reached.bandwidth))
    return Time(prefill, decoding)


def decode_steps(work: Work, batch: int, static: bool) -> tuple[float, int]:
    """(steps, texts a step). See the module's text."""
    if not work.generated:
        return 0.0, 1
    rows = min(batch, work.generated)
    mean = work.usage.new_tokens / work.generated
    if not static:
        return work.usage.new_tokens / rows, rows
    longest = min(float(work.limit), mean * sum(1 / i for i in range(1, rows + 1)))
    return math.ceil(work.generated / rows) * max(longest, mean), rows


def money(plan: Plan, prices: Prices) -> tuple[float, float]:
    """(expected, at most): all tokens of the LLMs that are not run here; of all where none is."""
    rows = [row for row in plan.of(LLM) if not row.local] or plan.of(LLM)
    expected, most = (
        prices.of(sum(w.usage.prompt_tokens for w in works), sum(w.usage.new_tokens for w in works))
        for works in ([row.work for row in rows], [row.most for row in rows])
    )
    return expected, most


def by_model(rows: Sequence[Planned]) -> dict[str, list[Planned]]:
    """Model → its rows."""
    found: dict[str, list[Planned]] = {}
    for row in rows:
        found.setdefault(row.model.name, []).append(row)
    return found


@dataclass(frozen=True)
class Overhead:
    """What the communities add to an LLM's compute."""

    flops: float | None
    """FLOPs of all messages that modular_pluralism needs, over those of the LLM with it."""
    nominal: float | None
    """Sum of the communities' sizes over the LLM's, as names state them: the paper's (6 * 7) / 405 (appendix A,
    "Computational Costs")."""
    one: float | None
    """The same of one community: the paper's 7 / 405."""


def overhead(plan: Plan, llm: str) -> Overhead | None:
    """Of one LLM of the plan; None where it has no row with modular_pluralism."""
    own = [row for row in plan.of(LLM) if row.llm == llm and row.method == "modular_pluralism"]
    if not own:
        return None
    docs = {row.task: row.docs for row in own}
    written = [
        (row, docs.get(row.task, 0) / row.docs)
        for row in plan.of(MESSAGES)
        if row.what == f"messages of {plan.pools[llm]}"
    ]
    added = [
        None if row.model.computed is None else row.needed.usage.flops(row.model.computed) * share
        for row, share in written
    ]
    mine = [row.flops for row in own]
    flops = None
    if None not in added and None not in mine:
        flops = sum(f or 0.0 for f in added) / (sum(f or 0.0 for f in mine) or math.inf)
    size = nominal(own[0].model.name)
    sizes = [nominal(c.base) for c in plan.members[plan.pools[llm]]]
    known = [each for each in sizes if each is not None]
    if size is None or len(known) < len(sizes):
        return Overhead(flops, None, None)
    return Overhead(flops, sum(known) / size, max(known) / size)
