"""A finished run → a submission: every score recomputed, then a folder that appears whole or not at all."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.data.sources import short_name
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.files import leads_out
from pluralism_eval.leaderboard import describe, docs, inputs, samples, schema
from pluralism_eval.leaderboard.recompute import differences, rescored, same, shown
from pluralism_eval.results import Run
from pluralism_eval.scoring import Summary, summarise
from pluralism_eval.tasks import TASKS, task_names

log = logging.getLogger(__name__)
_SHOWN = 10
_LENGTHS = {"--name": 120, "--by": 120, "--note": 500}


@dataclass(frozen=True)
class Submission:
    """One submission, not yet written."""

    content: dict[str, Any]
    packed: dict[str, bytes]
    """File name → packed samples."""

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return slug_of(self.content)


def slug_of(content: Mapping[str, Any]) -> str:
    """Letters and digits of its name, and the beginning of its identity."""
    words = re.sub(r"[^a-z0-9]+", "-", str(content["name"]).lower()).strip("-")[:60].strip("-")
    return f"{words or 'run'}-{content['identity'][:8]}"


def make(
    run: Run,
    name: str = "",
    by: str = "",
    note: str = "",
    with_samples: bool = True,
    data: str | None = None,
) -> Submission:
    """The submission of ``run``.

    Args:
        name: how the leaderboard calls it; default: method and LLM.
        data: where its input files are, as in ``--metadata data=``; default: the run's own.

    Raises:
        PluralismError: all problems at once, each with its place.
    """
    raw = run.raw
    tasks = [task for task in task_names() if task in run.results]
    problems = _words_problems({"--name": name, "--by": by, "--note": note})
    if not tasks:
        problems.append(f"no automatic task among {', '.join(run.results) or 'no task'}; at least one of {', '.join(task_names())}")  # fmt: skip
    parts: dict[str, dict[str, Any]] = {}
    packed = {}
    for task in tasks:
        if not run.samples.get(task):
            problems.append(f"{task}: no samples; run it with --log_samples")
            continue
        short = short_name(task)
        part = _task(run, raw, task, data)
        problems += [f"{task}: {problem}" for problem in part.problems]
        parts[task] = part.content
        if with_samples and not part.problems:
            part.content["samples"]["file"] = samples.file_name(short)
            packed[samples.file_name(short)] = samples.packed(part.rows)
    raise_all(f"{run.path} cannot be submitted", problems)
    hashes = describe.hashes(run, raw)
    described = describe.system(run, raw)
    llm = describe.short_llm(described["llm"])
    default = f"{described['method']}, {llm}" if llm else described["method"]
    content = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "identity": identity_of(hashes["fingerprint"], parts),
        "name": (describe.line(name) or default)[:120],
        "by": describe.line(by),
        "note": describe.line(note),
        "system": described,
        "tasks": parts,
        "configuration": describe.configuration(run, raw),
        "hashes": hashes,
        "liveness": describe.plain(run.ours.get("liveness", {})),
        "usage": describe.plain(run.ours.get("usage", {})),
        "api": describe.plain(run.ours.get("api", {})),
        "environment": describe.environment(raw, run),
        "command": describe.command(run, raw, tasks, {t: p["docs"] for t, p in parts.items()}),
    }
    listening = describe.listening(run)
    if listening:
        content["listening"] = listening
    raise_all(f"{run.path} makes no valid submission", schema.problems_of(content))
    return Submission(content, packed)


def identity_of(fingerprint: Any, tasks: Mapping[str, Any]) -> str:
    """Two submissions with one identity are the same run."""
    told = {t: [p["docs"]["sha256"], p["samples"]["sha256"]] for t, p in sorted(tasks.items())}
    return digest([fingerprint, told])


def _words_problems(given: Mapping[str, str]) -> list[str]:
    return [
        f"{flag} has {len(text)} characters; at most {_LENGTHS[flag]}"
        for flag, text in given.items()
        if len(text) > _LENGTHS[flag]
    ]


# ---------------------------------------------------------------------- one task


@dataclass(frozen=True)
class _Part:
    content: dict[str, Any]
    rows: list[samples.Row]
    problems: list[str]


def _task(run: Run, raw: Mapping[str, Any], task: str, data: str | None) -> _Part:
    short, logged = short_name(task), run.samples_of(task)
    rows, problems = [], []
    for row in logged:
        try:
            rows.append(samples.kept(short, row))
        except schema.Damaged as error:
            problems.append(f"doc {row.get('doc_id')}: {error}")
    if problems:
        return _Part({}, [], _first(problems))
    scored, problems = rescored(short, rows)
    problems += samples.order_problems(rows)
    for own, row in zip(scored, logged, strict=False) if len(scored) == len(logged) else ():
        missing = [name for name in own if name not in row and name not in ("doc_id", "doc")]
        if missing:
            version = run.ours.get("version")
            problems.append(f"samples lack {', '.join(missing[:4])} ...: another version of this package ({version}) made them; run it again")  # fmt: skip
            break
        names = [n for n in own if n not in ("doc_id", "doc", *TASKS[short].logged)]
        problems += [f"doc {row['doc_id']}: {d}" for d in differences(own, row, names)]
    if problems:
        return _Part({}, rows, _first(problems))
    found = summarise(short, scored)
    problems += _result_problems(found, run.results[task], str(logged[0].get("filter", "none")))
    config = (raw.get("configs") or {}).get(task) or {}
    given = data or (config.get("metadata") or {}).get("data")
    source = inputs.at_hand(short, given)
    if source is None:
        problems.append(
            f"its input file (data={describe.plain(given) or 'authors'}) is not at hand; give --data"
        )
        return _Part({}, rows, _first(problems))
    compared = docs.compare(short, source, source.dropped, rows)
    content = task_content(short, rows, found, source, compared.of)
    content["setting"] |= {
        "num_fewshot": int((raw.get("n-shot") or {}).get(task) or 0),
        "generation": describe.plain(config.get("generation_kwargs") or {}),
        "task_version": describe.plain((raw.get("versions") or {}).get(task)),
        "task_hash": (raw.get("task_hashes") or {}).get(task),
    }
    content["rates"] = describe.plain((run.ours.get("rates") or {}).get(task) or {})
    return _Part(content, rows, _first([*problems, *compared.problems]))


def task_content(
    short: str, rows: Sequence[samples.Row], found: Sequence[Summary], source: inputs.Input, of: int
) -> dict[str, Any]:
    """What a submission says of one task, as far as samples and input tell it."""
    meta = rows[0]["doc"]["pluralism"]
    overton = TASKS[short].is_text
    return {
        "docs": {
            "n": len(rows),
            "of": of,
            "clusters": len({row["doc"]["cluster"] for row in rows}),
            "sha256": samples.docs_sha256(rows),
        },
        "input": {
            "data": source.label(short),
            "file": source.path.name,
            "blob": source.blob,
            "authors_blob": TASKS[short].blob,
            "is_authors": source.blob == TASKS[short].blob,
            "damaged_dropped": source.dropped,
        },
        "setting": {
            "preset": meta["preset"],
            "orders": meta["orders"],
            "nli": describe.plain(meta["nli"]) if overton else None,
            "nli_directions": meta["nli_directions"] if overton else None,
        },
        "samples": {"file": None, "rows": len(rows), "sha256": samples.sha256_of(rows)},
        "scores": {s.name: _score(s) for s in found if not s.baseline},
        "baselines": {s.name: {"value": _number(s.value), "n": s.n} for s in found if s.baseline},
        "rates": {},
    }


def _score(s: Summary) -> dict[str, Any]:
    numbers = {"value": s.value, "low": s.low, "high": s.high, "stderr": s.stderr}
    return {
        **{name: _number(value) for name, value in numbers.items()},
        "n": s.n,
        "higher_is_better": s.higher_is_better,
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _result_problems(found: Sequence[Summary], results: Mapping[str, Any], of: str) -> list[str]:
    """Scores of the results file that its samples do not give."""
    problems = []
    for s in found:
        for name, value in ((s.name, s.value), (f"{s.name}_stderr", s.stderr)):
            key = f"{name},{of}"
            if s.baseline and name != s.name:
                continue  # lm-eval's own, not clustered
            if key not in results:
                problems.append(f"the results file has no {key}")
            elif not same(value, results[key]):
                problems.append(f"{key} is {shown(value)} from the samples, the results file says {shown(results[key])}")  # fmt: skip
    return problems


def _first(problems: Sequence[str]) -> list[str]:
    more = len(problems) - _SHOWN
    return list(problems) if more <= 0 else [*problems[:_SHOWN], f"... and {more} more"]


# ---------------------------------------------------------------------- the folder


def write(submission: Submission, output: Path) -> Path:
    """Writes the folder of ``submission`` below ``output`` and returns it.

    Raises:
        PluralismError: the same submission is there already, or the folder cannot be written.
    """
    target = output / submission.slug
    other = existing(submission.content["identity"], output)
    if other or target.exists():
        raise _already(other or target)
    scratch = None
    try:
        output.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".submitting-", dir=output))
        scratch.chmod(0o755)
        for name, content in submission.packed.items():
            (scratch / name).write_bytes(content)
        (scratch / schema.FILE).write_text(schema.write(submission.content), encoding="utf-8")
        os.rename(scratch, target)  # of a folder onto one with files in it: refused by the system
        scratch = None
    except OSError as error:
        if target.exists():  # somebody else was faster
            raise _already(target) from error
        raise PluralismError(f"--output {str(output)!r} cannot be written: {error}") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _already(folder: Path) -> PluralismError:
    return PluralismError(
        f"this run was submitted already: {folder}. Nothing was written; remove that folder to submit it anew"
    )


def existing(identity: str, output: Path) -> Path | None:
    """The submission below ``output`` that has this identity."""
    for folder in folders(output):
        try:
            if schema.load(folder)["identity"] == identity:
                return folder
        except schema.Damaged:
            continue  # verify says what is wrong with it
    return None


def folders(output: Path) -> list[Path]:
    """Folders of submissions below ``output``, by name; half-written ones are hidden."""
    if not output.is_dir():
        return []
    found = sorted(p for p in output.iterdir() if p.is_dir() and not p.name.startswith("."))
    links = [p for p in found if leads_out(p, output)]
    if links:
        log.warning(
            "%s: left out, since it is a link out of the folder", ", ".join(p.name for p in links)
        )
    return [p for p in found if p not in links]
