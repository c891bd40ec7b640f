"""``pluralism-eval faithfulness``: what the communities said against what the LLM made of it (Figure 5)."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from pluralism_eval.metrics.exchanges import (
    METHODS,
    TASK,
    check_method,
    chosen_preset,
    chosen_scorer,
    community_names,
    exchanges,
)
from pluralism_eval.metrics.faithfulness import Content, Coverage, Faithfulness, Share, faithfulness
from pluralism_eval.report.as_json import as_json
from pluralism_eval.report.plots import Bar, bar_plot, check_plot
from pluralism_eval.report.table import markdown
from pluralism_eval.results import as_written, read_run

_SHUFFLED = "shuffled"


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("faithfulness")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run: its --output_path")
    add_scorer(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled baseline (default: 0)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .png or .svg")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.set_defaults(action=_faithfulness)


def add_scorer(parser: argparse.ArgumentParser) -> None:
    """The flags that choose the entailment scorer and the sentence splitter."""
    parser.add_argument(
        "--nli",
        metavar="SCORER",
        help="entailment scorer (default: the run's first, or --preset's)",
    )
    parser.add_argument(
        "--preset", help="whose scorer and sentence splitter (default: the run's own preset)"
    )


def _faithfulness(arguments: argparse.Namespace) -> None:
    if arguments.plot:
        check_plot(arguments.plot)
    run = read_run(arguments.run)
    check_method(run, METHODS)
    with as_written(run.path):
        scorer = chosen_scorer(run, arguments.nli, arguments.preset)
        docs = exchanges(run, arguments.preset)
        found = faithfulness(docs, community_names(run), scorer, arguments.seed)
    if arguments.plot:
        _plot(arguments.plot, run.name, found)
    if arguments.json:
        preset = chosen_preset(run, arguments.preset).name
        print(as_json({"run": str(run.path), "method": run.name, "task": TASK, "preset": preset,
                       "seed": arguments.seed, "faithfulness": found}))  # fmt: skip
        return
    print(f"{run.name}, {TASK}: {found.docs} responses about {found.situations} situations\n")
    print(markdown(_coverage_rows(found)) + "\n")
    print(markdown(_content_rows(found)) + "\n")
    print("\n".join(_notes(found)))


def _coverage_rows(found: Faithfulness) -> list[list[str]]:
    header = ["community", "messages", "empty", "covered by the response ↑", _SHUFFLED]
    total = {"(all)": found.all_messages} if len(found.communities) > 1 else {}
    return [header] + [
        [name, str(c.covered.n), str(c.empty), _shown(c.covered), _shown(c.shuffled)]
        for name, c in (found.communities | total).items()
    ]


def _content_rows(found: Faithfulness) -> list[list[str]]:
    own, other = found.new_content, found.new_content_shuffled
    kinds = (
        ("sentences that no message entails", own.sentences, other.sentences),
        ("the same, mean over responses", own.by_response, other.by_response),
        ("responses with such a sentence", own.responses, other.responses),
    )
    header = ["new content", "of", "share ↑", _SHUFFLED]
    return [header] + [[name, str(a.n), _shown(a), _shown(b)] for name, a, b in kinds]


def _notes(found: Faithfulness) -> list[str]:
    lines = [
        f"- Entailment scorer {found.scorer}: accuracy {found.scorer_accuracy:.3f} on {found.scorer_checked} "
        f"hand-written pairs (a guess: 0.333); {found.pairs} pairs of a message and a sentence.",
    ]
    if found.unread or found.shuffled_unread:
        lines.append(
            f"- Without a readable verdict: {found.unread} of {found.pairs} pairs, shuffled {found.shuffled_unread} of "
            f"{found.shuffled_pairs}. They entail nothing: coverage is too low by them, new content too high."
        )
    if found.empty_responses:
        lines.append(
            f"- {found.empty_responses} of {found.docs} responses have no sentence: their messages count as not covered, "
            "and they have no part in new content."
        )
    if found.docs_cut:
        lines.append(
            f"- In {found.docs_cut} docs messages were cut to fit the LLM, which has not seen their ends."
        )
    if found.unpaired:
        lines.append("- There is no other situation to take messages from: nothing is shuffled.")
    else:
        lines.append("- Shuffled: each response against the messages about another situation.")
    above = found.above_shuffled
    if above:
        lines.append(
            f"- Covered minus shuffled, over {above.n_docs} docs: {above.difference:+.3f} "
            f"[{above.low:.2f}, {above.high:.2f}], p = {above.p_value:.3g} ({above.test})."
        )
    return [*lines, "- In brackets: 95 % bootstrap intervals over situations."]


def _shown(share: Share) -> str:
    if math.isnan(share.value):
        return "–"
    interval = "" if math.isnan(share.low) else f" [{share.low:.2f}, {share.high:.2f}]"
    return f"{share.value:.3f}{interval}"


def _plot(path: Path, method: str, found: Faithfulness) -> None:
    reflected, new = "messages reflected in the response", "sentences no message entails"
    groups = [[_coverage_bar(name, c, reflected) for name, c in found.communities.items()]]
    if len(found.communities) > 1:
        groups.append([_coverage_bar("all messages", found.all_messages, reflected)])
    groups.append([_content_bar("new content", found.new_content, found.new_content_shuffled, new)])
    caption = (
        f"{found.docs} responses about {found.situations} situations, {found.empty_responses} of them without a sentence; "
        f"{found.pairs:,} pairs of a message and a sentence.\n"
        f"Scorer {found.scorer}, accuracy {found.scorer_accuracy:.3f} on {found.scorer_checked} pairs (a guess: 0.333). "
        "Lines: 95 % intervals over situations."
    )
    bar_plot(
        path, groups, f"Faithfulness of {method}", "with another situation's messages", caption
    )


def _coverage_bar(name: str, coverage: Coverage, series: str) -> Bar:
    own = coverage.covered
    return Bar(name, _interval(own), own.n, _interval(coverage.shuffled), series)


def _content_bar(name: str, content: Content, shuffled: Content, series: str) -> Bar:
    own = content.sentences
    return Bar(name, _interval(own), own.n, _interval(shuffled.sentences), series)


def _interval(share: Share) -> tuple[float, float, float]:
    return share.value, share.low, share.high
