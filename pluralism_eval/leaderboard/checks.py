"""What of one task of a submission can be recomputed: its samples, docs, scores, rates and verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pluralism_eval.data.sources import INPUTS, short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import inputs, recompute, samples, schema
from pluralism_eval.leaderboard.recompute import same, shown
from pluralism_eval.metrics.entailment import ALIASES, scorer_names
from pluralism_eval.scoring import summarise

Status = Literal["ok", "wrong", "unchecked"]
_SHOWN = 50


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    status: Status
    seen: str
    problems: tuple[str, ...] = ()
    """Every wrong place: task, score or doc, expected, found."""


@dataclass(frozen=True)
class How:
    """What verifying may use besides the submission."""

    given: tuple[Path, ...] = ()
    """Samples, or folders with some, for submissions without."""
    data: str | None = None
    """Where input files are; default: the sample that ships, and what was downloaded before."""
    rescore: bool = False
    nli: str | None = None
    """Scorers in the place of the recorded ones; with ``rescore``."""


def check_of(what: str, problems: Iterable[str], seen: str) -> Check:
    found = list(problems)
    if not found:
        return Check(what, "ok", seen)
    shown_ = found[:_SHOWN] + ([f"... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])  # fmt: skip
    return Check(what, "wrong", f"{len(found)} wrong", tuple(shown_))


def task_checks(folder: Path, task: str, part: Mapping[str, Any], how: How) -> list[Check]:
    short = short_name(task)
    checks = [_claims(task, short, part)]
    file = part["samples"]["file"]
    if file is not None and file != samples.file_name(short):
        problem = f"file: expected {samples.file_name(short)}, found {file!r}"
        return [*checks, Check(f"samples {task}", "wrong", "", (problem,))]
    try:
        found = _samples(folder, task, file, how)
    except schema.Damaged as error:
        return [*checks, Check(f"samples {task}", "wrong", "", (str(error),))]
    if found is None:
        seen = "samples are not included; give them with --samples"
        return [*checks, Check(f"scores {task}", "unchecked", seen)]
    rows, digest = found
    return [*checks, *_rows(task, short, part, rows, digest, how)]


def _samples(
    folder: Path, task: str, file: str | None, how: How
) -> tuple[list[samples.Row], str] | None:
    short = short_name(task)
    for path in how.given:
        for found in [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl*")):
            if found.name == samples.file_name(short):
                return samples.read_packed(found)
            if re.fullmatch(rf"samples_{task}_[^/]*\.jsonl", found.name):
                return samples.read_logged(short, found)
    if file is None:
        return None
    path = folder / file
    if not path.is_file():
        raise schema.Damaged(f"{file} is missing")
    try:
        return samples.read_packed(path)
    except schema.Damaged as error:
        raise schema.Damaged(f"{file}: {error}") from error


def _claims(task: str, short: str, part: Mapping[str, Any]) -> Check:
    """What can be seen without samples: do the statements about input and docs agree?"""
    own, docs = part["input"], part["docs"]
    label = inputs.label_of(short, own["blob"], own["damaged_dropped"])
    expected = {
        "input.authors_blob": (INPUTS[short][1], own["authors_blob"]),
        "input.is_authors": (own["blob"] == INPUTS[short][1], own["is_authors"]),
        "input.data": (label, own["data"]),
        "samples.rows": (docs["n"], part["samples"]["rows"]),
    }
    problems = [f"{name}: expected {a}, found {b}" for name, (a, b) in expected.items() if a != b]
    if docs["n"] > docs["of"]:
        problems.append(f"docs.n: at most {docs['of']} (docs.of), found {docs['n']}")
    return check_of(f"claims {task}", problems, f"docs: {docs['n']:,} of {docs['of']:,}, data: {own['data']}")  # fmt: skip


def _rows(
    task: str,
    short: str,
    part: Mapping[str, Any],
    rows: Sequence[samples.Row],
    digest: str,
    how: How,
) -> list[Check]:
    problems = samples.order_problems(rows)
    expected = {
        "rows": (part["samples"]["rows"], len(rows)),
        "sha256": (part["samples"]["sha256"], digest),
        "docs.sha256": (part["docs"]["sha256"], samples.docs_sha256(rows)),
    }
    problems += [f"{name}: expected {a}, found {b}" for name, (a, b) in expected.items() if a != b]
    checks = [check_of(f"samples {task}", problems, f"{len(rows):,} rows, hashes agree")]
    if not rows:
        return checks
    checks.append(_input(task, short, part, rows, how))
    scored, problems = recompute.rescored(short, rows)
    problems += _setting_problems(short, part, rows)
    whole = len(scored) == len(rows)
    if whole:
        problems += _score_problems(short, part, scored)
    n = len(part["scores"]) + len(part["baselines"])
    told = "; coverage by the recorded verdicts" if short == samples.OVERTON else ""
    checks.append(check_of(f"scores {task}", problems, f"{n} recomputed from the raw responses{told}"))  # fmt: skip
    if whole:
        checks.append(_rates(task, short, part, scored))
    if whole and short == samples.OVERTON:
        checks.append(_verdicts(task, rows, how))
    return checks


def _setting_problems(
    short: str, part: Mapping[str, Any], rows: Sequence[samples.Row]
) -> list[str]:
    names = ["preset", "orders", *(("nli", "nli_directions") if short == samples.OVERTON else ())]
    found = []
    for name in names:
        seen = {str(_meta(row).get(name)) for row in rows}
        if seen != {str(part["setting"][name])}:
            found.append(f"setting.{name}: expected {shown(' and '.join(sorted(seen)))} (its docs), found {shown(part['setting'][name])}")  # fmt: skip
    clusters = len({str(row["doc"].get("cluster")) for row in rows})
    if clusters != part["docs"]["clusters"]:
        found.append(f"docs.clusters: expected {clusters}, found {part['docs']['clusters']}")
    return found


def _meta(row: samples.Row) -> Mapping[str, Any]:
    meta = row["doc"].get("pluralism")
    return meta if isinstance(meta, dict) else {}


def _score_problems(
    short: str, part: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]
) -> list[str]:
    try:
        summaries = summarise(short, scored)
    except (ValueError, TypeError, KeyError, ArithmeticError, IndexError) as error:
        return [f"the scores cannot be computed: {type(error).__name__} {error}"]
    found = []
    for place, baseline in (("scores", False), ("baselines", True)):
        own = {s.name: s for s in summaries if s.baseline == baseline}
        claimed = part[place]
        found += [f"{name}: expected in {place}, found nothing" for name in own if name not in claimed]  # fmt: skip
        found += [f"{name}: no score of this task in {place}" for name in claimed if name not in own]  # fmt: skip
        for name in own.keys() & claimed.keys():
            for key, value in claimed[name].items():
                expected = getattr(own[name], key)
                if not same(expected, value):
                    found.append(f"{name}.{key}: expected {shown(expected)}, found {shown(value)}")
    return sorted(found)


def _rates(
    task: str, short: str, part: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]
) -> Check:
    """Of the rates of irregular things, those that samples show."""
    expected: dict[str, float] = {"docs": len(scored)}
    if short == samples.OVERTON:
        expected["empty_responses"] = fmean(s["empty_response"] for s in scored)
    else:
        masses = [s["option_mass"] for s in scored]
        expected |= {"mean_option_mass": fmean(masses), "min_option_mass": min(masses)}
    rates = part["rates"]
    checked = [name for name in expected if name in rates]
    problems = [
        f"{name}: expected {shown(expected[name])}, found {shown(rates[name])}"
        for name in checked
        if not same(expected[name], rates[name])
    ]
    if not checked:
        return Check(f"rates {task}", "unchecked", "none given that samples show")
    left = len(rates) - len(checked)
    return check_of(f"rates {task}", problems, f"{', '.join(checked)} recomputed; {left} others are as submitted")  # fmt: skip


def _input(
    task: str, short: str, part: Mapping[str, Any], rows: Sequence[samples.Row], how: How
) -> Check:
    """Are the docs, gold answers included, those of the input file?"""
    own, what = part["input"], f"docs {task}"
    places = [how.data] if how.data else ["sample", "authors", None]  # None: the variable's
    found = [source for place in places if (source := inputs.at_hand(short, place))]
    source = next((source for source in found if source.blob == own["blob"]), None)
    if source is None:
        seen = "the input file is not at hand: gold answers were not compared with it; give --data"
        return Check(what, "unchecked", seen)
    source = replace(source, dropped=own["damaged_dropped"])
    problems, of = inputs.doc_problems(short, source, rows)
    if of and of != part["docs"]["of"]:
        problems.append(f"docs.of: expected {of}, found {part['docs']['of']}")
    return check_of(what, problems, f"equal to {source.path.name} ({own['data']}), gold answers included")  # fmt: skip


def _verdicts(task: str, rows: Sequence[samples.Row], how: How) -> Check:
    what = f"verdicts {task}"
    if not (how.rescore or how.nli):
        return Check(what, "unchecked", "as recorded; --rescore reads the responses again with the scorer")  # fmt: skip
    recorded = str(_meta(rows[0]).get("nli"))
    unknown = set(scorer_names(recorded)) - {*ALIASES.values(), "embedded"}
    if unknown and not how.nli:  # a submission must not choose what is loaded or asked here
        return Check(what, "unchecked", f"scorer {shown(recorded)} is no published one; if you trust it, give --nli")  # fmt: skip
    try:
        problems = recompute.verdict_problems(rows, how.nli)
    except PluralismError as error:
        return Check(what, "unchecked", f"the scorer cannot be used: {error}")
    return check_of(what, problems, f"the same by {how.nli or recorded}")
