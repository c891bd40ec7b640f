"""What was irregular in runs: one row a run and task, nothing left out because it is zero elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from pluralism_eval.results import Run

SHARES = {
    "selection_fallbacks": "selections not read",
    "uniform_fallbacks": "options: uniform fallback",
    "unread_answers": "answers with no option read",
    "unread_replies": "replies not read",
    "empty_messages": "empty messages",
    "refused_messages": "refused messages",
    "resampled_messages": "messages sampled again",
    "imported_messages": "imported messages",
    "messages_cut_at_length_limit": "messages cut at their limit",
    "prompts_with_passages_cut": "prompts with passages cut",
    "prompts_with_broken_tokens": "prompts with special tokens in messages, broken",
    "prompts_cut_by_the_model": "prompts that the model cut",
    "skipped_docs": "docs skipped: prompt too long",
    "refused_prompts": "refused prompts",
    "empty_responses": "empty responses",
    "docs_without_other_orders": "docs asked in one order only",
    "tied_answers": "answers whose likeliest options tie",
    "masses_above_1": "option masses above 1",
    "hidden_probability": "probability not shown",
}
"""Rate of the transcript → in words; shares in [0, 1], 0 is regular."""

MOVES = {
    "order_spread": "moved by option order",
    "template_spread": "moved by wording",
    "sample_spread": "moved by message sample",
    "mean_option_mass": "option mass, mean",
    "min_option_mass": "option mass, least",
}
"""Measures in [0, 1] that are no error rates."""


def rows(runs: Mapping[str, Run]) -> list[list[str]]:
    """Rows of text, the header first: every rate that is not zero, and what was used."""
    header = ["run", "task", "docs", "prompts", "messages", "new", "irregular (share)", "measured"]
    found = [header]
    for label, run in runs.items():
        for task, rates in run.ours.get("rates", {}).items():
            odd = [f"{words} {_share(rates[k])}" for k, words in SHARES.items() if rates.get(k)]
            seen = [f"{words} {rates[k]:.2f}" for k, words in MOVES.items() if k in rates]
            counts = [
                str(int(rates.get(k, 0)))
                for k in ("docs", "prompts", "messages", "messages_generated")
            ]
            name = task.removeprefix("pluralism_")
            found.append(
                [label, name, *counts, "; ".join(odd) or "nothing", "; ".join(seen) or "–"]
            )
    return found


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else f"{value:.2%}"
