"""Plans on paper: the figures a doc of the planned data, times as many docs as there would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from pluralism_eval.errors import PluralismError
from pluralism_eval.planning.rows import MESSAGES, Plan
from pluralism_eval.study import StudyLLM

PAPER = "paper"


@dataclass(frozen=True)
class PaperLLM:
    """One of the paper's LLMs in one alignment."""

    llm: StudyLLM
    settings: Mapping[str, Any]
    share: float
    """Of the docs that it saw."""


@lru_cache(maxsize=1)
def _paper() -> dict[str, Any]:
    text = (files("pluralism_eval.planning") / "paper.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def paper_docs() -> dict[str, int]:
    """Task → docs in the paper."""
    return dict(_paper()["docs"])


def paper_llms() -> list[PaperLLM]:
    """The paper's six LLMs, unaligned and aligned."""
    found = []
    for entry in _paper()["llms"]:
        own = {k: entry[k] for k in ("name", "llm", "llm_args", "chat") if k in entry}
        found.append(PaperLLM(StudyLLM(**own), entry.get("settings", {}), entry.get("share", 1.0)))
    return found


def read_scale(text: str) -> int | None:
    """Docs of ``--scale N``; None for ``paper``. Raises PluralismError for anything else."""
    if text == PAPER:
        return None
    plain = text.replace(",", "").replace("_", "")
    if not plain.isdigit() or int(plain) < 1:
        raise PluralismError(f"--scale {text!r} is neither paper nor a number of docs, at least 1")
    return int(plain)


def scaled(plan: Plan, docs: Mapping[str, int], shares: Mapping[str, float], note: str) -> Plan:
    """The plan for other numbers of docs.

    Args:
        docs: task → docs.
        shares: LLM → share of the docs that it sees; others all.

    Raises:
        PluralismError: a task of the plan has no number of docs.
    """
    missing = sorted({row.task for row in plan.rows} - set(docs))
    if missing:
        raise PluralismError(
            f"--scale paper: {', '.join(missing)} is not in the paper; leave it out of --tasks. Allowed: {', '.join(docs)}"
        )
    rows = []
    for row in plan.rows:
        share = 1.0 if row.kind == MESSAGES else shares.get(row.llm, 1.0)
        rows.append(row.times(docs[row.task] * share / row.docs))
    return replace(plan, rows=rows, notes=(note, *plan.notes), flops_a_second=plan.flops_a_second)


def divided(total: int, planned: Mapping[str, int]) -> dict[str, int]:
    """``total`` docs divided among tasks as the planned docs are, the rest to the largest fractions."""
    whole = sum(planned.values())
    exact = {task: total * n / whole for task, n in planned.items()}
    found = {task: int(value) for task, value in exact.items()}
    order = sorted(exact, key=lambda task: found[task] - exact[task])
    for task in order[: total - sum(found.values())]:
        found[task] += 1
    return found


def docs_of(plan: Plan) -> dict[str, int]:
    """Task → docs of one run of it."""
    found: dict[str, int] = {}
    for row in plan.rows:
        found[row.task] = max(found.get(row.task, 0), row.docs)
    return found
