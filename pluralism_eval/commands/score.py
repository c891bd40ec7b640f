"""``pluralism-eval score``: any file of finished answers, its baselines, groups and uncertainty."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from pluralism_eval import scoring
from pluralism_eval.data.sources import long_name, short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.report import comparison, tabular
from pluralism_eval.report.as_json import as_json
from pluralism_eval.report.breakdown import breakdown_rows, breakdowns
from pluralism_eval.report.table import markdown, overview
from pluralism_eval.tasks import TASKS


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("score")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="JSON with output or pred_distribution filled in, or samples_*.jsonl; several are compared",
    )  # fmt: skip
    parser.add_argument("--task", required=True, help=f"{', '.join(TASKS)}, or lm-eval's name")
    parser.add_argument(
        "--preset", default="paper", help="paper (default), reference, or with single differences"
    )
    parser.add_argument("--nli", help="overton: entailment scorer (default: the preset's)")
    parser.add_argument(
        "--nli-directions", default="one", help="overton: one (default) or both directions"
    )
    parser.add_argument(
        "--count-failures",
        action="store_true",
        help="missing and malformed answers count as failures instead of being an error",
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.set_defaults(action=_score)


def _score(arguments: argparse.Namespace) -> None:
    names = [file.stem for file in arguments.files]
    if len(set(names)) < len(names):
        names = [str(file.with_suffix("")) for file in arguments.files]
    if len(set(names)) < len(names):
        raise PluralismError(f"a file is given twice: {', '.join(names)}")
    found = {
        name: scoring.score_file(
            file, arguments.task, arguments.preset, arguments.nli,
            arguments.nli_directions, arguments.count_failures,
        )
        for name, file in zip(names, arguments.files, strict=True)
    }  # fmt: skip
    task = long_name(short_name(arguments.task))
    runs = {name: {task: scored.samples} for name, scored in found.items()}
    paired = comparison.comparisons(runs, list(combinations(names, 2)))
    if arguments.json:
        print(as_json(_everything(task, found, paired)))
        return
    print(f"{task}, preset {arguments.preset}\n")
    print(tabular.markdown(overview(runs)))
    for name, scored in found.items():
        print(f"\n## {name}\n\n{_notes(scored)}\n")
        print(markdown(_summary_rows(scored)))
        for title, groups in breakdowns(task, scored.samples).items():
            print("\n" + markdown(breakdown_rows(task, title, groups)))
    if paired:
        print("\n## Differences\n")
        print(markdown(comparison.comparison_rows(paired)))
        print(
            "\nPaired over docs, whole clusters (questions, situations) at once; Holm's correction is over the rows "
            "above. d_z: mean difference in its standard deviations; g: share of disagreements won, minus one half."
        )


def _notes(scored: scoring.Scored) -> str:
    clusters = {sample["doc"]["cluster"] for sample in scored.samples}
    lines = [f"- {len(scored.samples)} items in {len(clusters)} clusters (questions, situations)"]
    lines += [f"- failure, {n} items: {reason}" for reason, n in scored.failures.items()]
    lines += [f"- {kind.replace('_', ' ')}: {n}" for kind, n in scored.oddities.items()]
    unparsed = sum(sample.get("unparsed", 0) for sample in scored.samples)
    empty = sum(sample.get("empty_response", 0) for sample in scored.samples)
    lines += [f"- {int(unparsed)} answers could not be read"] if unparsed else []
    lines += [f"- {int(empty)} responses are empty: coverage 0"] if empty else []
    return "\n".join(lines)


def _summary_rows(scored: scoring.Scored) -> list[list[str]]:
    rows = [["score", "value", "95 % interval", "standard error", "sd over items"]]
    for s in scoring.summaries(scored):
        arrow = "↑" if s.higher_is_better else "↓"
        interval = "" if math.isnan(s.low) else f"[{s.low:.4f}, {s.high:.4f}]"
        rows.append(
            [f"{s.name} {arrow}", _shown(s.value), interval, _shown(s.stderr), _shown(s.sd)]
        )
    return rows


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _everything(task: str, found: Mapping[str, scoring.Scored], paired: Any) -> dict[str, Any]:
    return {
        "task": task,
        "files": {
            name: {
                "preset": scored.preset,
                "items": len(scored.samples),
                "failures": scored.failures,
                "oddities": scored.oddities,
                "scores": {s.name: s for s in scoring.summaries(scored)},
                "groups": breakdowns(task, scored.samples),
            }
            for name, scored in found.items()
        },
        "differences": paired,
    }
