"""``pluralism-eval influence``: what each community does to a run's scores, without asking any model again."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.commands.faithfulness import add_scorer
from pluralism_eval.data.sources import long_name, short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import influence
from pluralism_eval.metrics.exchanges import (
    TASK,
    check_method,
    chosen_scorer,
    community_names,
    entailed,
    exchanges,
)
from pluralism_eval.metrics.influence import Estimate, Part, TaskInfluence
from pluralism_eval.metrics.selections import SelectionGroup, TaskSelections, selections
from pluralism_eval.report.as_json import as_json
from pluralism_eval.report.table import markdown
from pluralism_eval.results import Run, as_written, read_run
from pluralism_eval.tasks import by_name, task_names

_METHOD = "modular_pluralism"


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "influence"
    )  # fmt: skip
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a modular_pluralism run: its --output_path"
    )
    parser.add_argument(
        "--task", nargs="+", default=[],
        help="tasks, by long or short name (default: all that need no scorer; overton with --nli)",
    )  # fmt: skip
    add_scorer(parser)
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.set_defaults(action=_influence)


def _influence(arguments: argparse.Namespace) -> None:
    run = read_run(arguments.run)
    check_method(run, [_METHOD])
    tasks = _tasks(run, arguments)
    scorer = chosen_scorer(run, arguments.nli, arguments.preset) if TASK in tasks else None
    with as_written(run.path):
        found = {task: _of(run, task, scorer, arguments.preset) for task in tasks}
    if arguments.json:
        print(as_json({"run": str(run.path), "scorer": scorer, "tasks": found}))
        return
    sections = [_selection_text(f) if isinstance(f, TaskSelections) else _influence_text(f, scorer)
                for f in found.values()]  # fmt: skip
    if TASK not in tasks and not arguments.task and TASK in _held(run):
        sections.append(
            f"## {TASK}\n\nNot shown: it needs an entailment scorer. Name one (--nli embedded), or ask for the task "
            "(--task overton), which takes the run's own."
        )
    print("\n\n".join(sections))


def _held(run: Run) -> list[str]:
    held = {line["task"] for line in run.transcript}
    return [task for task in task_names() if task in held]


def _tasks(run: Run, arguments: argparse.Namespace) -> list[str]:
    """The tasks asked for, in the order of the README's table.

    Raises:
        PluralismError: an unknown task, or none in the transcript.
    """
    if arguments.task:
        asked = {long_name(short_name(task)) for task in arguments.task}
        return [task for task in task_names() if task in asked]
    found = [task for task in _held(run) if task != TASK or arguments.nli]
    if not found:
        raise PluralismError(
            f"{run.path}: the transcript has none of {', '.join(task_names()[1:])}; keep it beside the results, or ask for "
            "--task overton"
        )
    return found


def _of(
    run: Run, task: str, scorer: str | None, preset: str | None
) -> TaskInfluence | TaskSelections:
    communities = community_names(run)
    if by_name(task).mode == "steerable":
        return selections(run, task, communities)
    if by_name(task).mode == "distributional":
        return influence.distributional(run, task, communities)
    assert scorer is not None
    docs = exchanges(run, preset)
    return influence.overton(task, entailed(docs, scorer), [d.situation for d in docs], communities)


# ---------------------------------------------------------------------- text


def _influence_text(found: TaskInfluence, scorer: str | None) -> str:
    part = found.total
    arrow, better = ("↑", "raises") if found.higher_is_better else ("↓", "lowers")
    lines = [
        f"## {found.task}\n",
        f"{part.docs} docs in {part.clusters} questions or situations. Score: {found.score} {arrow}; with all "
        f"communities {_shown(part.everyone)}, with none {_shown(part.nobody)}"
        f"{'' if found.priors is None else ' (uniform)'}. A positive influence {better} it.\n",
        markdown(_influence_rows(found)),
    ]
    total = sum(estimate.value for estimate in part.shapley.values())
    lines.append(
        f"\n- The Shapley values sum to {total:+.4f}, all that the communities change together."
    )
    if found.sampling_error:
        worst = max(found.sampling_error.values())
        lines.append(
            f"- They come from sampled orders: standard error at most {worst:.2g}, beside the intervals."
        )
    if found.priors is None:
        lines.append(
            f"- Entailment scorer {scorer}. The responses stay what they are: this is how much of them each community "
            "accounts for, not what the LLM would have said without it."
        )
    if found.left_out:
        lines.append(f"- {found.left_out} docs are left out: their responses have no sentence.")
    lines.append("- In brackets: 95 % bootstrap intervals, clustered by question or situation.")
    for title, parts in found.groups.items():
        if parts:
            lines.append("\n" + markdown(_part_rows(title, found.score, parts)))
    return "\n".join(lines)


def _influence_rows(found: TaskInfluence) -> list[list[str]]:
    part, priors = found.total, found.priors
    rows = [["community", *(["prior"] if priors else []), "Shapley ↑", "leave-one-out ↑"]]
    for name, shapley in part.shapley.items():
        prior = [f"{priors[name]:.3f}"] if priors else []
        rows.append([name, *prior, _signed(shapley), _signed(part.leave_one_out[name])])
    return rows


def _part_rows(title: str, score: str, parts: Sequence[Part]) -> list[list[str]]:
    names = list(parts[0].shapley)
    rows = [[title, "docs", score, *(f"Shapley ↑ {name}" for name in names)]]
    return rows + [
        [part.name, str(part.docs), f"{part.everyone.value:.3f}", *map(_signed, part.shapley.values())]
        for part in parts
    ]  # fmt: skip


def _selection_text(found: TaskSelections) -> str:
    total = found.total
    k = len(total.communities)
    lines = [
        f"## {found.task}\n",
        f"{total.selections} selections, {total.fallbacks} of them could not be read and fell back on a seeded random "
        f"community. By chance each community is selected in {1 / k:.3f}.\n",
        markdown(_selection_rows(found)),
        f"\n- {_test(total)}",
        "- Comments are always listed in pool order: a liking for a place in the list looks the same as one for a "
        "community.",
        "- A selection makes the whole answer, so what other communities would have given is not in the transcript: no "
        "leave-one-out, no Shapley value.",
        "- In brackets: 95 % bootstrap intervals, clustered by question or situation.\n",
        markdown(_group_rows(found)),
    ]
    return "\n".join(lines)


def _selection_rows(found: TaskSelections) -> list[list[str]]:
    rows = [["community", "selected", "share", "fallbacks", f"{found.score} given its message"]]
    for name, one in found.total.communities.items():
        right = _shown(one.right) + (f", {one.right.n} docs" if one.right.n else "")
        rows.append([name, str(one.count), _shown(one.selected), str(one.fallbacks), right])
    return rows


def _group_rows(found: TaskSelections) -> list[list[str]]:
    names = list(found.total.communities)
    rows = [[found.grouped_by, "selections", "fallbacks", *names, "p (alike)"]]
    for group in found.groups:
        shares = [_shown(one.selected) for one in group.communities.values()]
        p = group.uniformity.p_value
        shares.append("–" if math.isnan(p) else f"{p:.3g}")
        rows.append([group.name, str(group.selections), str(group.fallbacks), *shares])
    return rows


def _test(group: SelectionGroup) -> str:
    test = group.uniformity
    if math.isnan(test.p_value):
        return "No selection to test."
    how = "simulated, since few are expected of each" if test.simulated else "chi-square"
    return (
        f"Are all communities selected alike? χ² = {test.statistic:.2f}, p = {test.p_value:.3g} ({how}; docs taken as "
        "independent, those about one question are not)."
    )


def _shown(share: Any) -> str:
    """A share or an estimate with its interval."""
    if math.isnan(share.value):
        return "–"
    return f"{share.value:.3f}" + (
        "" if math.isnan(share.low) else f" [{share.low:.2f}, {share.high:.2f}]"
    )


def _signed(estimate: Estimate) -> str:
    interval = f" [{estimate.low:+.3f}, {estimate.high:+.3f}]"
    return f"{estimate.value:+.4f}" + ("" if math.isnan(estimate.low) else interval)
