"""``pluralism-eval annotate make | read``: the paper's human study, its page and its results."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.metrics.judge import SEED
from pluralism_eval.people import agreement, exports, study
from pluralism_eval.people.agreement import Estimate
from pluralism_eval.people.exports import OUTCOMES, Export, Key
from pluralism_eval.report.as_json import as_json
from pluralism_eval.report.table import markdown


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("annotate")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    make = actions.add_parser("make", help="a web page for annotators, and the key to its answers")
    make.add_argument(
        "run", type=Path, metavar="RUN",
        help="a run's folder (--log_samples), its samples_*.jsonl, or the authors' JSON with output",
    )  # fmt: skip
    make.add_argument("--baseline", type=Path, required=True, help="what it is compared with")
    make.add_argument(
        "--output", type=Path, required=True, help="the page, *.html; its key goes beside it"
    )
    make.add_argument(
        "--pairs", type=int, default=study.PAIRS, help=f"how many at most (default: {study.PAIRS})"
    )
    make.add_argument(
        "--seed", type=int, default=SEED,
        help=f"draws the pairs; the same as of `judge`, whose pairs then include them (default: {SEED})",
    )  # fmt: skip
    make.add_argument("--title", default=study.TITLE, help="heading of the page; name no system")
    make.set_defaults(action=_make)
    read = actions.add_parser("read", help="rates and agreement from what annotators exported")
    read.add_argument("key", type=Path, metavar="KEY", help="the *.key.json beside the page")
    read.add_argument("exports", type=Path, nargs="+", metavar="EXPORT", help="one per annotator")
    read.add_argument("--judge", type=Path, help="what `pluralism-eval judge ... --json` printed")
    read.add_argument("--json", action="store_true", help="everything as JSON")
    read.set_defaults(action=_read)


def _make(arguments: argparse.Namespace) -> None:
    made = study.make_study(
        arguments.run, arguments.baseline, arguments.pairs, arguments.seed, arguments.title
    )
    key = study.write_study(made, arguments.output)
    n = len(made.key["pairs"])
    names = made.key["run"]["name"], made.key["baseline"]["name"]
    print(f"Study {made.id}: {n} pairs of {made.n_common}, {names[0]} against {names[1]}")
    if n < arguments.pairs:
        print(f"- there are fewer than the {arguments.pairs} asked for")
    if made.left_out:
        print(f"- left out, {made.left_out} situations: only one of the two answered them")
    for what, pairs in made.peculiar.items():
        print(f"- {pairs} of {n} pairs: {what}")
    print(
        f"\n{arguments.output}: for annotators; opens in any browser, without a server or network"
    )
    print(f"{key}: tells the systems apart; keep it to yourself")
    print(f"\nThen: pluralism-eval annotate read {key} EXPORT...")


def _read(arguments: argparse.Namespace) -> None:
    key = exports.read_key(arguments.key)
    found = exports.read_exports(arguments.exports, key)
    verdicts = exports.read_judge(arguments.judge, key) if arguments.judge else None
    results = _results(key, found, verdicts)
    if arguments.json:
        print(as_json(results))
    else:
        print("\n".join(_report(results)))


def _results(
    key: Key, found: Sequence[Export], verdicts: Mapping[str, str] | None
) -> dict[str, Any]:
    votes = agreement.majority(found, key)
    return {
        "study": key.study,
        "run": key.run,
        "baseline": key.baseline,
        "pairs": len(key.pairs),
        "annotators": {e.annotator: _annotator(e, key) for e in found},
        "mean": agreement.mean_rates(found),
        "majority": agreement.majority_rates(votes),
        "undecided": sum(vote is None for vote in votes.values()),
        "unanswered": len(key.pairs) - len(votes),
        "fleiss_kappa": agreement.fleiss(found, key),
        "sides": agreement.sides(found),
        "median_seconds": agreement.median_seconds(found),
        "judge": None if verdicts is None else agreement.with_judge(votes, key, verdicts),
        "votes": [
            {"id": key.pairs[pair].doc, "outcome": vote or "tie", "undecided": vote is None}
            for pair, vote in votes.items()
        ],
    }


def _annotator(export: Export, key: Key) -> dict[str, Any]:
    answers = list(export.answers.values())
    return {
        "answered": len(answers),
        "unanswered": len(key.pairs) - len(answers),
        **agreement.rates(answers),
        "first_side": agreement.sides([export]).first,
        "decided": agreement.sides([export]).decided,
        "median_seconds": agreement.median_seconds([export]),
        "file": str(export.path),
    }


def _report(results: Mapping[str, Any]) -> list[str]:
    n, people = results["pairs"], results["annotators"]
    lines = [
        f"Study {results['study']}: {results['run']} against {results['baseline']}, {n} pairs, "
        f"{len(people)} annotator(s)\n",
        markdown(_people_rows(people)),
        "",
        markdown(_rate_rows(results)),
        "",
    ]
    incomplete = sum(row["unanswered"] > 0 for row in people.values())
    if incomplete:
        lines.append(
            f"- {incomplete} annotator(s) left pairs unanswered; what they answered counts"
        )
    if results["unanswered"]:
        lines.append(f"- {results['unanswered']} pairs were answered by nobody")
    if results["undecided"]:
        lines.append(
            f"- {results['undecided']} pairs have no outcome with the most votes; the majority vote calls them ties"
        )
    lines.append(
        f"- Fleiss' kappa: {_shown(results['fleiss_kappa'])}, over the pairs that all annotators answered "
        f"(the paper's five people, on 100 pairs of theirs: {agreement.PAPER_KAPPA})"
    )
    lines.append(_sides_line(results["sides"]))
    lines.append(f"- median time on a pair: {results['median_seconds']:.1f} s")
    return lines + (_judge_lines(results["judge"]) if results["judge"] else [])


def _people_rows(people: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = [["annotator", "answered", *OUTCOMES, "first side", "median time"]]
    for name, row in people.items():
        shares = [f"{row[outcome]:.3f}" for outcome in OUTCOMES]
        first = f"{row['first_side']} of {row['decided']}"
        rows.append([name, str(row["answered"]), *shares, first, f"{row['median_seconds']:.1f} s"])
    return rows


def _rate_rows(results: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "pairs", *OUTCOMES]]
    for name, title in (("mean", "all answers"), ("majority", "majority vote")):
        found: dict[str, Estimate] = results[name]
        pairs = str(found[OUTCOMES[0]].n_pairs)
        rows.append([title, pairs, *(_rate(found[outcome]) for outcome in OUTCOMES)])
    return rows


def _rate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}{_interval(estimate)}"


def _shown(estimate: Estimate) -> str:
    """``0.468 [0.35, 0.58] (100 pairs)``, or why there is no number."""
    if math.isnan(estimate.value):
        return f"none ({estimate.n_pairs} pairs): {estimate.why_nan}"
    return f"{estimate.value:.4f}{_interval(estimate)} ({estimate.n_pairs} pairs)"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return " [too few pairs for an interval]"
    return f" [{estimate.low:.2f}, {estimate.high:.2f}]"


def _sides_line(sides: agreement.Sides) -> str:
    shown = f"the run was shown first in {sides.run_first:.0%} of the answers"
    if not sides.decided:
        return f"- position: every answer is a tie ({shown})"
    return (
        f"- position: the response shown first was chosen in {sides.first} of {sides.decided} answers that are no "
        f"tie ({sides.first / sides.decided:.1%}; one half expected, binomial p = {sides.p_value:.3f}); {shown}"
    )


def _judge_lines(judge: agreement.WithJudge) -> list[str]:
    return [
        f"- the majority vote and the judge say the same: {_shown(judge.agreement)}",
        f"- Cohen's kappa of the two: {_shown(judge.kappa)}",
        f"- not compared: {judge.unparsed} pairs with an unparsed verdict, {judge.missing} that the judge did not see",
    ]
