"""The numbers of a plan beyond its rows: memory and time of each model; all of it as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pluralism_eval.planning import cost
from pluralism_eval.planning.cost import Device, Prices, Reached
from pluralism_eval.planning.rows import ENTAILMENT, LLM, MESSAGES, Plan, Planned

ADAPTER_SHARE = 0.0005
"""Parameters of an adapter by those of its base: PEFT's default (r = 8 on two projections) has 3.4 of
Mistral-7B's 7,242 million."""


@dataclass(frozen=True)
class Asked:
    """What the plan is priced by."""

    devices: Sequence[Device]
    reached: Reached
    prices: Prices | None


def held(plan: Plan) -> dict[str, list[Planned]]:
    """Model → its rows, of models that need a device."""
    return cost.by_model([row for row in plan.rows if row.local])


def adapters(plan: Plan, rows: Sequence[Planned]) -> float:
    """Bytes of the adapters on a base model."""
    pools = {row.what.removeprefix("messages of ") for row in rows if row.kind == MESSAGES}
    members = {
        c.name
        for pool in pools
        for c in plan.members.get(pool, ())
        if c.adapter and c.base == rows[0].model.name
    }
    return len(members) * ADAPTER_SHARE * (rows[0].model.weight_bytes or 0.0)


@dataclass(frozen=True)
class Spent:
    """Seconds of one model on one kind of device."""

    device: str
    model: str
    devices: int
    prefill: float
    decoding: float
    most: float
    """In all, with every text at its limit."""

    @property
    def total(self) -> float:
        return self.prefill + self.decoding

    @property
    def device_hours(self) -> float:
        return self.total * self.devices / 3600


def spent(plan: Plan, asked: Asked) -> list[Spent]:
    """Time of every model whose size is known, on each device."""
    found = []
    for device in asked.devices:
        for name, rows in held(plan).items():
            need = cost.memory(rows, adapters(plan, rows))
            n = (cost.devices_needed(need.total, device) or 1) if need else 1
            times = [cost.seconds(row, row.work, device, n, asked.reached) for row in rows]
            mosts = [cost.seconds(row, row.most, device, n, asked.reached) for row in rows]
            if None in times or None in mosts:
                continue
            prefill = sum(t.prefill for t in times if t)
            decoding = sum(t.decoding for t in times if t)
            most = sum(t.total for t in mosts if t)
            found.append(Spent(device.name, name, n, prefill, decoding, most))
    return found


def as_json(plan: Plan, asked: Asked) -> dict[str, Any]:
    """Everything that :func:`text` shows, row by row."""
    money = None if asked.prices is None else cost.money(plan, asked.prices)
    needs = {name: cost.memory(rows, adapters(plan, rows)) for name, rows in held(plan).items()}
    return {
        "rows": [_row(row) for row in plan.rows],
        **{kind: plan.total(kind).as_dict() for kind in (LLM, MESSAGES, ENTAILMENT)},
        "at_most": {kind: plan.total(kind, most=True).as_dict() for kind in (LLM, MESSAGES, ENTAILMENT)},
        "memory": {
            name: {
                **asdict(need), "total": need.total,
                "devices": {d.name: cost.devices_needed(need.total, d) for d in asked.devices},
            }
            for name, need in needs.items()
            if need
        },
        "time": [{**asdict(s), "total": s.total, "device_hours": s.device_hours} for s in spent(plan, asked)],
        "money": None if money is None else {"expected": money[0], "at_most": money[1]},
        "overhead": {llm: asdict(found) for llm in plan.pools if (found := cost.overhead(plan, llm))},
        "devices": [asdict(device) for device in asked.devices],
        "reached": asdict(asked.reached),
        "notes": list(plan.notes),
    }  # fmt: skip


def _row(row: Planned) -> Mapping[str, Any]:
    return {
        "kind": row.kind, "model": row.model.name, "what": row.what, "task": row.task, "method": row.method,
        "llm": row.llm, "docs": row.docs, "parameters": row.model.parameters, "parameters_from": row.model.source,
        "usage": row.work.usage.as_dict(), "at_most": row.most.usage.as_dict(), "flops": row.flops,
        "needed": row.needed.usage.calls, "stored": row.stored, "batch": row.batch,
    }  # fmt: skip
