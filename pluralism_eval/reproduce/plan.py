"""What a study will cost, before it is run: a pilot's measurements, every call counted (see ``planning``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.planning.rows import ENTAILMENT, LLM, MESSAGES, Plan, Planned
from pluralism_eval.reproduce.build import Options
from pluralism_eval.results import Run
from pluralism_eval.study import RunSpec
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


def make_plan(specs: Sequence[RunSpec], output: Path, pilot: int, options: Options) -> Plan:
    """A plan of ``specs`` from ``pilot`` docs a task.

    Raises:
        PluralismError: as the runs would.
    """
    from pluralism_eval.planning.pilot import plan_by_pilot  # takes lm-eval in

    return plan_by_pilot(specs, output / "pilot", pilot, options.batch_size, options.device)


def hours(plan: Plan, prices: Prices) -> float | None:
    """Of the LLMs and the communities; None where the size of a model that has work to do is unknown."""
    needed = [row.flops for row in plan.of(LLM, MESSAGES) if row.work.usage.calls]
    speed = plan.flops_a_second
    if prices.tflops is not None:
        speed = prices.tflops * 1e12 * prices.utilisation
    if speed is None or any(flops is None for flops in needed):
        return None
    return sum(flops for flops in needed if flops is not None) / speed / 3600


def money(plan: Plan, prices: Prices) -> float | None:
    if prices.per_million_in is None or prices.per_million_out is None:
        return None
    used = plan.total(LLM)
    return (
        used.prompt_tokens * prices.per_million_in + used.new_tokens * prices.per_million_out
    ) / 1e6


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
        "what", "docs", "calls", "prompt tokens", "new tokens", "FLOPs", "stored", "entailment pairs",
    ]  # fmt: skip
    return [header] + [
        [
            _what(row), str(row.docs), f"{row.work.usage.calls:,}", f"{row.work.usage.prompt_tokens:,}",
            f"{row.work.usage.new_tokens:,}", "unknown" if row.flops is None else f"{row.flops:.2e}",
            f"{row.stored:,}" if row.kind == MESSAGES else "", f"{pairs:,}" if (pairs := _pairs(plan, row)) else "",
        ]
        for row in plan.of(LLM, MESSAGES)
    ]  # fmt: skip


def _what(row: Planned) -> str:
    return f"{row.llm}: {row.what}, {row.task}" if row.kind == LLM else f"{row.what}, {row.task}"


def _pairs(plan: Plan, row: Planned) -> int:
    """Entailment pairs of an LLM's row, of all scorers."""
    own = (row.llm, row.method, row.task)
    return sum(
        each.work.usage.calls
        for each in plan.of(ENTAILMENT)
        if row.kind == LLM and (each.llm, each.method, each.task) == own
    )


def as_json(plan: Plan, prices: Prices) -> Mapping[str, Any]:
    return {
        "llm": plan.total(LLM).as_dict(),
        "communities": plan.total(MESSAGES).as_dict(),
        "rows": [
            {
                "what": _what(row), "docs": row.docs, "usage": row.work.usage.as_dict(), "flops": row.flops,
                "parameters": row.model.parameters, "stored": row.stored, "pairs": _pairs(plan, row),
            }
            for row in plan.of(LLM, MESSAGES)
        ],
        "hours": hours(plan, prices),
        "money": money(plan, prices),
    }  # fmt: skip
