"""Tasks, their input files, damage in these, and the entailment scorer."""

from __future__ import annotations

from collections import Counter

from pluralism_eval import plugin
from pluralism_eval.data.docs import build_docs, chosen_nli, read_items
from pluralism_eval.data.sources import DATA_VARIABLE, blob_id, input_file
from pluralism_eval.doctor import hub
from pluralism_eval.doctor.findings import Blocked, Finding, of_error
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.coverage import scoring
from pluralism_eval.metrics.entailment import scorer_names
from pluralism_eval.tasks import OVERTON, TASKS

_ORIGIN = "https://raw.githubusercontent.com"


def tasks(run: Run) -> list[Finding]:
    """Names, and whether lm-eval can load them with these settings."""
    check = "tasks"
    ours, foreign, wrong = run.tasks
    found = [
        Finding(check, "problem", f"--tasks {name}: no such task",
                f"Allowed of ours: pluralism, pluralism_eval, {', '.join(plugin.TASKS)}")
        for name in wrong
    ]  # fmt: skip
    if foreign:
        seen = f"{', '.join(foreign)}: not ours, so not looked at (lm-eval takes half a minute to index its tasks)"
        do = f"lm_eval validate --tasks {','.join(foreign)}"
        found.append(Finding(check, "warning", seen, do))
    try:
        loaded, failed = run.loaded()
    except Blocked:
        if wrong:
            return found
        raise
    for task, error in failed.items():
        found += [
            Finding(check, "problem", f"{task}: {f.seen}", "correct what it names")
            for f in of_error(check, error)
        ]
    n = sum(len(queries) for queries in loaded.values())
    if ours and not failed and not wrong:
        note = f" (on the sample's docs: {', '.join(run.sampled)})" if run.sampled else ""
        seen = f"{len(ours)} of ours load, {n} queries with all option orders{note}"
        found.insert(0, Finding(check, "ok", seen))
    return found


def data(run: Run) -> list[Finding]:
    """Input files: there, as released, how many docs, and how many of them damaged."""
    check, (name, clean) = "data", run.data
    found: list[Finding] = []
    missing: list[str] = []
    for short in dict.fromkeys(run.inputs.values()):
        if run.to_download(short):
            missing.append(short)
            continue
        try:
            path = input_file(short, name)
            items = read_items(path)
            docs = build_docs(short, items, {"input": path.stem, "preset": "paper"}, path.name)
        except PluralismError as error:
            do = f"--metadata data=sample, or data=FOLDER, or {DATA_VARIABLE}"
            found += of_error(check, error, do)
            continue
        released = blob_id(path.read_bytes()) == TASKS[short].blob
        if name == "authors" and not released:
            seen = f"{short}: {path} is not the authors' file (its git blob id differs)"
            found.append(Finding(check, "problem", seen, f"delete it; it is downloaded again: {path}"))  # fmt: skip
            continue
        lost = TASKS[short].damage(items)
        used = len(docs) - (len(lost) if clean else 0)
        seen = f"{short}: {used} docs of {path.name}" + (" (as released)" if released else "")
        if lost and not clean:
            reasons = ", ".join(f"{n} x {reason}" for reason, n in Counter(lost.values()).items())
            seen += f"; {len(lost)} of them damaged: {reasons}"
            do = f"data=cleaned{'' if name == 'authors' else ':' + name} drops them"
            found.append(Finding(check, "warning", seen, do))
        else:
            found.append(Finding(check, "ok", seen))
    found += _to_download(run, missing) if missing else []
    return found or [Finding(check, "ok", "no input of ours is read")]


def _to_download(run: Run, missing: list[str]) -> list[Finding]:
    places = [path for path in map(run.to_download, missing) if path is not None]
    names = ", ".join(path.name for path in places)
    if hub.can_reach(_ORIGIN):
        seen = f"will be downloaded once, to {places[0].parent}: {names}"
        return [Finding("data", "ok", seen)]
    seen = f"not in the cache ({places[0].parent}), and GitHub cannot be reached: {names}"
    do = f"--metadata data=sample (ships with the package) or data=FOLDER, or put them there, or {DATA_VARIABLE}"
    return [Finding("data", "problem", seen, do)]


def scorer(run: Run) -> list[Finding]:
    """Entailment scorers of Overton coverage."""
    check = "entailment scorer"
    if OVERTON not in run.tasks[0]:
        return [Finding(check, "ok", "not needed by these tasks")]
    nli = _nli(run)
    if not run.hub.reachable and any(repo.what == "scorer" for repo in run.hub.missing):
        raise Blocked("hub")
    directions = str(run.metadata.get("nli_directions", "one"))
    try:
        names = scoring(nli, directions, run.preset)["nli"]
    except PluralismError as error:
        return of_error(check, error, "--metadata nli=embedded needs nothing more (weak)")
    if names == "embedded":
        seen = "embedded: right on 0.485 of 66 hand-written pairs, a guess on 0.333"
        do = "for numbers that count: --metadata nli=vitaminc+wanli (from the Hub)"
        return [Finding(check, "ok", seen, do)]
    return [Finding(check, "ok", names)]


def scorers(run: Run) -> list[str]:
    """Names of the scorers that this run loads."""
    return scorer_names(_nli(run)) if OVERTON in run.tasks[0] else []


def _nli(run: Run) -> str:
    given = run.metadata.get("nli")
    return chosen_nli(None if given is None else str(given), run.preset)
