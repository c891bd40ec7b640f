"""What the paper says of a figure in its text, where it prints no numbers, and the same of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pluralism_eval.reproduce import paper, patching
from pluralism_eval.reproduce.cells import Cell
from pluralism_eval.reproduce.targets import OURS

_PATCHED = {"+ Asia": ("Japan", "India"), "+ Africa": ("Nigeria", "Kenya")}
"""Row of Figure 6 → the countries that its patch is for."""


def improvements(found: Sequence[Cell], higher_is_better: bool) -> dict[str, float]:
    """LLM → by how many percent the paper's method is better than the strongest other one."""
    gains = {}
    for llm in dict.fromkeys(c.llm for c in found):
        own = {c.row: c.ours for c in found if c.llm == llm}
        others = [value for row, value in own.items() if row != OURS]
        if OURS in own and others:
            best = max(others) if higher_is_better else min(others)
            change = own[OURS] - best if higher_is_better else best - own[OURS]
            gains[llm] = 100 * change / best if best else float("nan")
    return gains


def lines(
    target: str, found: Sequence[Cell], changes: Mapping[str, Mapping[str, list[patching.Delta]]]
) -> list[str]:
    """Sentences with ours and the paper's, for figures 2, 4 and 6; none for the others."""
    text: Any = paper.tables().get(target, {}).get("in_text", {})
    if target == "figure2":
        printed = text["improvement_vs_strongest_baseline_percent"]
        said = ", ".join(f"{value} % for {model}" for model, value in printed.items())
        gains = improvements(found, higher_is_better=True)
        return [_gain(llm, gain, "coverage rises", said) for llm, gain in gains.items()]
    if target == "figure4":
        said = f"{text['overall_reduction_vs_strongest_baseline_percent_avg']} % on average"
        gains = improvements(found, higher_is_better=False)
        return [_gain(llm, gain, "the distance falls", said) for llm, gain in gains.items()]
    if target == "figure6":
        said = (
            f"{text['asia_added_js_reduction_percent']} % (Japan, India) with Asia, "
            f"{text['africa_added_js_reduction_percent']} % (Nigeria, Kenya) with Africa"
        )
        return [
            f"- {llm}, {pool}: over the countries that the patch is for, the distance falls by {fall:.1f} %; the paper says {said}"
            for llm, by_task in changes.items()
            for deltas in by_task.values()
            for pool, fall in patching.reductions(deltas, _PATCHED).items()
        ] or [f"- too few docs of the countries that the patches are for; the paper says {said}"]
    return []


def _gain(llm: str, gain: float, what: str, said: str) -> str:
    return f"- {llm}: {what} by {gain:.1f} % against the strongest baseline; the paper says {said}"
