"""What of one task of a submission can be recomputed: its samples, docs, scores, rates and verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pluralism_eval.data.sources import short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import docs, inputs, pins, recompute, samples, schema
from pluralism_eval.leaderboard.recompute import same, shown
from pluralism_eval.metrics.entailment import ALIASES, scorer_names
from pluralism_eval.scoring import summarise
from pluralism_eval.tasks import TASKS

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
    which: str = ""
    """Of docs that are those of the real input: ``all``, ``the first 12``, or ``12 drawn with seed 0``."""
    baselines: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """The same: (value, docs that count) of each, computed from the real input."""


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
    own, counts = part["input"], part["docs"]
    label = inputs.label_of(short, own["blob"], own["damaged_dropped"])
    expected = {
        "input.authors_blob": (TASKS[short].blob, own["authors_blob"]),
        "input.is_authors": (own["blob"] == TASKS[short].blob, own["is_authors"]),
        "input.data": (label, own["data"]),
        "samples.rows": (counts["n"], part["samples"]["rows"]),
    }
    problems = [f"{name}: expected {a}, found {b}" for name, (a, b) in expected.items() if a != b]
    if own["file"].removesuffix(".json").removesuffix("_small") != TASKS[short].input:
        problems.append(f"input.file: expected {TASKS[short].input}.json, found {own['file']}")
    if counts["n"] > counts["of"]:
        problems.append(f"docs.n: at most {counts['of']} (docs.of), found {counts['n']}")
    return check_of(f"claims {task}", problems, f"docs: {counts['n']:,} of {counts['of']:,}, data: {own['data']}")  # fmt: skip


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
    told = "; coverage by the recorded verdicts" if TASKS[short].is_text else ""
    checks.append(check_of(f"scores {task}", problems, f"{n} recomputed from the raw responses{told}"))  # fmt: skip
    if whole:
        checks.append(_rates(task, short, part, scored))
    if whole and TASKS[short].is_text:
        checks.append(_verdicts(task, rows, how))
    return checks


def _setting_problems(
    short: str, part: Mapping[str, Any], rows: Sequence[samples.Row]
) -> list[str]:
    names = ["preset", "orders", *(("nli", "nli_directions") if TASKS[short].is_text else ())]
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
    if TASKS[short].is_text:
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
    """Are the docs those of the input file: golds, questions, options, groups, their number and their choice?"""
    own, what = part["input"], f"docs {task}"
    real = _real(short, own, how)
    if real is None:
        seen = f"items not checked: the input is not at hand; give --data FOLDER with {own['file']} (git blob {own['blob']})"
        return Check(what, "unchecked", seen)
    found = docs.compare(short, real, own["damaged_dropped"], rows)
    problems = list(found.problems)
    if found.of and found.of != part["docs"]["of"]:
        problems.append(f"docs.of: expected {found.of}, found {part['docs']['of']}")
    if problems:
        return check_of(what, problems, "")
    by = "the hashes that ship with this package" if isinstance(real, pins.Pinned) else real.path.name  # fmt: skip
    which = found.which if found.which == "all" else f"{found.which} of"
    seen = f"{which} {found.of:,}, golds and questions equal to {by} ({own['data']})"
    return Check(what, "ok", seen, (), found.which, docs.baselines(short, found.docs))


def _real(short: str, own: Mapping[str, Any], how: How) -> inputs.Input | pins.Pinned | None:
    """The input with the blob id that is claimed: its file where that is at hand, else its pinned hashes."""
    places = [*([how.data] if how.data else []), "sample", "authors", None]  # None: the variable's
    at_hand = (inputs.at_hand(short, place) for place in places)
    file = next((found for found in at_hand if found and found.blob == own["blob"]), None)
    if file is not None:
        return replace(file, dropped=own["damaged_dropped"])
    pinned = pins.pinned().get(own["blob"])
    return pinned if pinned and pinned.task == short else None


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
