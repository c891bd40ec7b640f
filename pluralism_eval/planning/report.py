"""A plan in words and tables, and everything of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pluralism_eval.planning import cost
from pluralism_eval.planning.cost import KEPT_FREE
from pluralism_eval.planning.figures import Asked, adapters, held, spent
from pluralism_eval.planning.rows import ENTAILMENT, LLM, MESSAGES, Plan, Planned
from pluralism_eval.planning.work import Work
from pluralism_eval.report.table import markdown

_SHOWN = 20
_GB = 1e9


def text(plan: Plan, asked: Asked, title: str) -> str:
    """All of it, for people."""
    parts = [
        title,
        _messages(plan),
        markdown(_work(plan)),
        _memory(plan, asked),
        _time(plan, asked),
    ]
    parts += [_money(plan, asked), _overheads(plan)]
    parts.append("Assumed, and where figures are from:\n" + "\n".join(f"- {note}" for note in plan.notes))  # fmt: skip
    return "\n\n".join(part for part in parts if part)


# ---------------------------------------------------------------------- work


def _messages(plan: Plan) -> str:
    lines = []
    for what, rows in _grouped(plan.of(MESSAGES), lambda row: row.what).items():
        needed, todo = (sum(w.usage.calls for w in ws) for ws in ([r.needed for r in rows], [r.work for r in rows]))  # fmt: skip
        most = sum(row.most.usage.calls for row in rows)
        lines.append(
            f"{what[0].upper()}{what[1:]}: {needed:,} needed, {needed - todo:,} stored, {todo:,} to write"
            + (f" (at most {most:,}: the LLM chooses whose)" if most > todo else "")
        )
    return "\n".join(lines)


def _work(plan: Plan) -> list[list[str]]:
    """By task; by method or by model alone where that would be too long."""
    rows = [row for row in plan.rows if row.work.usage.calls or row.most.usage.calls]
    header = ["model", "what", "docs", "calls", "prompt tokens", "new tokens", "at most: prompt", "at most: new", "FLOPs"]  # fmt: skip
    by_task = _grouped(rows, lambda r: (r.model.name, r.llm, r.what, r.task))
    by_method = _grouped(rows, lambda r: (r.model.name, r.llm, r.what))
    by_model = _grouped(
        rows, lambda r: (r.model.name, r.kind, r.what if r.kind == MESSAGES else "")
    )
    for grouped in (by_task, by_method, by_model):
        if len(grouped) <= _SHOWN or grouped is by_model:
            return [header, *(_line(own) for own in grouped.values())]
    return [header]


def _what(rows: Sequence[Planned]) -> str:
    """What all of ``rows`` have in common."""
    tasks, methods = ({getattr(r, name) for r in rows} for name in ("task", "method"))
    first = rows[0]
    what = first.what if len(methods) == 1 else f"{len(methods)} methods"
    if first.kind == ENTAILMENT:
        what = f"entailment pairs, {what.removeprefix('entailment pairs, ')}"
    return (
        f"{what}, {short_task(first.task)}"
        if len(tasks) == 1 and first.kind != ENTAILMENT
        else what
    )


def short_task(task: str) -> str:
    return task.removeprefix("pluralism_")


def _line(rows: Sequence[Planned]) -> list[str]:
    work, most = _sum([row.work for row in rows]), _sum([row.most for row in rows])
    docs = sum({(row.llm, row.method, row.task): row.docs for row in rows}.values())
    flops = [row.flops for row in rows]
    known = sum(f for f in flops if f is not None)
    return [
        rows[0].model.name, _what(rows), f"{docs:,}", f"{work.usage.calls:,}", _big(work.usage.prompt_tokens),
        _big(work.usage.new_tokens), _big(most.usage.prompt_tokens), _big(most.usage.new_tokens),
        "unknown" if None in flops else f"{known:.2e}",
    ]  # fmt: skip


def _sum(works: Sequence[Work]) -> Work:
    total = Work()
    for work in works:
        total = total.plus(work)
    return total


def _grouped(rows: Sequence[Planned], key: Any) -> dict[Any, list[Planned]]:
    found: dict[Any, list[Planned]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _big(n: int) -> str:
    return f"{n:,}" if n < 10_000_000 else f"{n / 1e6:,.1f} M"


# ---------------------------------------------------------------------- memory


def _memory(plan: Plan, asked: Asked) -> str:
    header = ["memory", "parameters", "weights", "adapters", "KV cache", "together"]
    sized = [device for device in asked.devices if device.memory is not None]
    table = [[*header, *(f"{device.name} ({device.memory:g} GB)" for device in sized)]]
    for name, rows in held(plan).items():
        need = cost.memory(rows, adapters(plan, rows))
        if need is None:
            table.append([name, f"unknown ({rows[0].model.source})", *["–"] * (4 + len(sized))])
            continue
        size = rows[0].model
        table.append(
            [
                name, f"{(size.parameters or 0) / 1e9:.3g} B ({size.source})",
                *(_gb(value) for value in (need.weights, need.adapters)),
                _cache(need), _gb(need.total),
                *(_fits(cost.devices_needed(need.total, device)) for device in sized),
            ]
        )  # fmt: skip
    if len(table) == 1:
        return ""
    return f"{markdown(table)}{_together(plan)}"


def _together(plan: Plan) -> str:
    """One LLM and the communities' bases, where one process may hold them all."""
    models = held(plan)
    needs = {name: cost.memory(rows, adapters(plan, rows)) for name, rows in models.items()}
    kinds = {name: {row.kind for row in rows} - {ENTAILMENT} for name, rows in models.items()}
    own = [need for name, need in needs.items() if kinds[name]]
    llms = [name for name in models if LLM in kinds[name]]
    if len(llms) != 1 or len(own) < 2 or None in own:
        return ""
    size = sum(need.total for need in own if need)
    return f"\n\nLLM and communities in one process (llm=hf, engine: lora): {_gb(size)}"


def _cache(need: cost.Memory) -> str:
    if not need.rows:
        return "–"
    return f"{'' if need.exact else '≤ '}{_gb(need.cache)} ({need.rows} x {need.tokens:,} tokens)"


def _fits(n: int | None) -> str:
    return "?" if n is None else "fits" if n == 1 else f"needs {n} in tensor parallel"


def _gb(size: float) -> str:
    return f"{size / _GB:.1f} GB" if size >= 0.05 * _GB else f"{size / 1e6:.0f} MB"


# ---------------------------------------------------------------------- time, money


def _time(plan: Plan, asked: Asked) -> str:
    found = spent(plan, asked)
    if not found:
        return ""
    header = ["time on", "model", "devices", "prefill", "decoding", "in all", "device-hours", "at most: in all"]  # fmt: skip
    table = [header] + [
        [
            row.device, row.model, str(row.devices), _t(row.prefill), _t(row.decoding), _t(row.total),
            f"{row.device_hours:,.2g}" if row.device_hours < 10 else f"{row.device_hours:,.0f}", _t(row.most),
        ]
        for row in found
    ]  # fmt: skip
    totals = {d.name: sum(row.device_hours for row in found if row.device == d.name) for d in asked.devices}  # fmt: skip
    unknown = [name for name, rows in held(plan).items() if rows[0].model.parameters is None]
    return (
        f"{markdown(table)}\n\nDevice-hours in all: {', '.join(f'{n} {v:,.2f}' for n, v in totals.items())}"
        + f" (without {', '.join(unknown)}: size unknown)" * bool(unknown)
        + ". Several devices: tensor parallel that scales fully (llm=vllm; with hf's parallelize=True they take turns)"
        * any(row.devices > 1 for row in found)
        + f". At {asked.reached.flops:.0%} of the peak FLOP/s (--utilisation) and {asked.reached.bandwidth:.0%} of the "
        f"bandwidth (--bandwidth-utilisation), {KEPT_FREE:.0%} of memory kept free; loading is not included."
    )


def _t(value: float) -> str:
    """Seconds in a readable unit."""
    if value >= 3600:
        return f"{value / 3600:,.1f} h"
    return f"{value / 60:.1f} min" if value >= 60 else f"{value:.2g} s"


def _money(plan: Plan, asked: Asked) -> str:
    if asked.prices is None:
        return ""
    expected, most = cost.money(plan, asked.prices)
    off = f", {asked.prices.discount:.0%} off for batches" if asked.prices.discount else ""
    names = {row.model.name for row in plan.of(LLM) if not row.local}
    whose = f"of {', '.join(sorted(names))}" if names else "if an API answered in the LLM's place"
    return (
        f"Money {whose}: {expected:,.2f}, at most {most:,.2f} ({asked.prices.per_million_in:g} a million prompt tokens, "
        f"{asked.prices.per_million_out:g} a million new tokens{off})"
    )


def _overheads(plan: Plan) -> str:
    found = {llm: own for llm in plan.pools if (own := cost.overhead(plan, llm))}
    table = [["modular_pluralism: compute of the communities beside", "in FLOPs here", "by sizes, as the paper", "one community"]]  # fmt: skip
    table += [[llm, *map(_share, (own.flops, own.nominal, own.one))] for llm, own in found.items()]
    note = "The paper adds sizes up: (6 x 7) / 405 = 10.4 %, and 7 / 405 = 1.7 % where one community is called; tokens differ."  # fmt: skip
    return f"{markdown(table)}\n\n{note}" if found else ""


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
