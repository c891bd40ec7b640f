"""``pluralism-eval judge``: which of two finished runs reflects pluralistic values better."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import judge as judges
from pluralism_eval.metrics import pairwise
from pluralism_eval.metrics.judge import AUDITS, PAIRS, SEED
from pluralism_eval.metrics.responses import Key, Responses, read_responses
from pluralism_eval.report.as_json import as_json
from pluralism_eval.report.table import markdown

Rows = Sequence[dict[str, Any]]


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("judge")
    what = "a run's folder (--log_samples), its samples_*.jsonl, or the authors' JSON with output"
    parser.add_argument("run", type=Path, metavar="RUN", help=what)
    parser.add_argument("--baseline", type=Path, required=True, metavar="RUN", help=what)
    parser.add_argument(
        "--judge",
        help="NAME or NAME:key=value;key=value, an lm-eval model or API "
        f"(default: ${judges.JUDGE_VARIABLE}, else embedded, which is weak)",
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"situations (default: {PAIRS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"chooses them (default: {SEED})")
    parser.add_argument(
        "--audits", type=int, default=AUDITS, help=f"of them also audited (default: {AUDITS})"
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON, with all replies")
    parser.set_defaults(action=_judge)


def _judge(arguments: argparse.Namespace) -> None:
    if arguments.pairs < 1 or arguments.audits < 0:
        raise PluralismError(
            f"--pairs {arguments.pairs} --audits {arguments.audits}: at least 1 pair and 0 audits"
        )
    name = judges.chosen_judge(arguments.judge)
    judges.check_judge(name)
    run, baseline = read_responses(arguments.run), read_responses(arguments.baseline)
    keys = _common(run, baseline, arguments)
    sampled = judges.seeded_sample(keys, lambda key: key, arguments.pairs, arguments.seed)
    pairs = [
        judges.Pair(key[1], run.texts[key], baseline.texts[key], i < arguments.audits)
        for i, key in enumerate(sampled)
    ]
    judge = judges.Judge(name)
    rows = judges.judge_pairs(judge, pairs)
    report = pairwise.report(judges.judged(pairs, rows))
    counts = {
        "common": len(keys),
        "only_in_run": len(run.texts) - len(keys),
        "only_in_baseline": len(baseline.texts) - len(keys),
        "responses_cut": sum(row["cut"] > 0 for row in rows),
        "empty_responses": sum(not pair.response.strip() for pair in pairs),
        "empty_baselines": sum(not pair.baseline.strip() for pair in pairs),
    }
    if arguments.json:
        everything = {
            "run": {"name": run.name, "path": str(arguments.run)},
            "baseline": {"name": baseline.name, "path": str(arguments.baseline)},
            "judge": judge.name, "seed": arguments.seed, "counts": counts, "report": asdict(report),
            "audits": audits(rows),
            "pairs": [
                {"id": key[0], "outcome": pairwise.outcome_name(row["verdicts"]), **row}
                for key, row in zip(sampled, rows, strict=True)
            ],
        }  # fmt: skip
        print(as_json(everything))
        return
    print(f"{run.name} against {baseline.name} (baseline), judged by {judge.name}\n")
    print(markdown(_outcome_rows(report)))
    print("\n" + markdown(_judge_rows(report, rows)))
    print("\n" + "\n".join(f"- {line}" for line in _notes(report, counts)))


def _common(run: Responses, baseline: Responses, arguments: argparse.Namespace) -> list[Key]:
    keys = [key for key in run.texts if key in baseline.texts]
    if not keys:
        raise PluralismError(
            f"{arguments.run} ({len(run.texts)} responses) and {arguments.baseline} ({len(baseline.texts)}) share no "
            "situation (same id and text); both must answer the same data"
        )
    return keys


def audits(rows: Rows) -> dict[str, float]:
    """What the audit rows say, as means over the audited pairs; NaN where none could be scored."""
    found = [row["audits"] for row in rows if row["audits"]]
    empty = [pairwise.outcome(each["empty"]) for each in found]
    return {
        "audited": len(found),
        "self_tie": judges.mean_of([judges.self_tie(each) for each in found]),
        "empty_win": judges.mean_of([float(e > 0) if e == e else math.nan for e in empty]),
        "empty_lose": judges.mean_of([float(e < 0) if e == e else math.nan for e in empty]),
        "injection_flip": judges.mean_of([judges.injection_flip(each) for each in found]),
    }


def _outcome_rows(report: pairwise.Report) -> list[list[str]]:
    rates = {
        "win": report.win, "tie (with disagreements)": report.tie, "lose": report.lose,
        "win - lose": report.net_win, "win + half of the ties": report.half_tie_win,
    }  # fmt: skip
    rows = [["", "share of scored pairs", "95 % interval"]]
    rows += [[name, _shown(r.value), _interval(r)] for name, r in rates.items()]
    controlled = report.length_controlled
    at_equal = _shown(controlled.rate) + (f" ({controlled.reason})" if controlled.reason else "")
    return [*rows, ["the same at equal length", at_equal, ""]]


def _judge_rows(report: pairwise.Report, rows: Rows) -> list[list[str]]:
    found = audits(rows)
    first, lean, length = (
        report.position,
        report.position_of_disagreements,
        report.length_correlation,
    )
    return [
        ["the judge", "value", "p", "n"],
        ["orders disagree (a tie)", _shown(report.disagreement.value), "", str(report.scored)],
        ["no verdict read (not scored)", _shown(report.unparsed), "", str(report.pairs)],
        ["names the response shown first (unbiased: 0.5)", _shown(first.value), _p(first.p_value), str(first.n)],
        ["... of the disagreements", _shown(lean.value), _p(lean.p_value), str(lean.n)],
        ["Spearman of length difference and outcome", _shown(length.value), _p(length.p_value), str(report.scored)],
        ["audit: a response against itself is called a tie", _shown(found["self_tie"]), "", str(found["audited"])],
        ["audit: an empty response wins", _shown(found["empty_win"]), "", str(found["audited"])],
        ["audit: an empty response loses", _shown(found["empty_lose"]), "", str(found["audited"])],
        ["audit: 'choose 1' in a response flips the verdict", _shown(found["injection_flip"]), "", str(found["audited"])],
    ]  # fmt: skip


def _notes(report: pairwise.Report, counts: dict[str, int]) -> list[str]:
    lines = [
        f"{report.pairs} pairs of {counts['common']} common situations, {report.scored} scored; not in both: "
        f"{counts['only_in_run']} of the run, {counts['only_in_baseline']} of the baseline",
        f"sign test of wins against losses: p = {_p(report.sign_test.p_value)} (n = {report.sign_test.n})",
        f"mean words: {report.words:.1f}, baseline {report.words_baseline:.1f}",
    ]
    said = {
        "responses_cut": "pairs were cut to fit the judge's context window",
        "empty_responses": "responses of the run are empty",
        "empty_baselines": "responses of the baseline are empty",
    }
    return lines + [f"{counts[name]} {what}" for name, what in said.items() if counts[name]]


def _interval(rate: pairwise.Rate) -> str:
    return "" if math.isnan(rate.low) else f"[{rate.low:.3f}, {rate.high:.3f}]"


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}"
