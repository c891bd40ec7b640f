"""Is a submission what its samples say? Every claim that can be recomputed is, and every wrong place named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pluralism_eval import __version__
from pluralism_eval.leaderboard import describe, schema, submit
from pluralism_eval.leaderboard.checks import Check, How, check_of, task_checks
from pluralism_eval.leaderboard.duplicates import answers_of, repository_order
from pluralism_eval.leaderboard.recompute import shown

UNPROVEN = (
    "What this cannot prove: who ran it and when, and that the responses, the recorded verdicts, the settings and the "
    "usage come from the model that is named. Only running it again can."
)
DUPLICATE = "duplicate"
Status = Literal["verified", "not verified", "duplicate", "rejected"]


@dataclass(frozen=True)
class Verdict:
    """One submission, looked at."""

    folder: Path
    content: Mapping[str, Any] = field(default_factory=dict)
    """Empty where ``submission.json`` cannot be read."""
    checks: tuple[Check, ...] = ()

    @property
    def status(self) -> Status:
        """``not verified``: nothing is wrong, but samples or input were not there to recompute and compare.

        ``duplicate``: nothing is wrong but that another submission with these responses came first.
        """
        wrong = {check.what for check in self.checks if check.status == "wrong"}
        if wrong:
            return "duplicate" if wrong == {DUPLICATE} else "rejected"
        tasks = self.content.get("tasks", {})
        whole = {check.what for check in self.checks if check.status == "ok"}
        needed = {f"{what} {task}" for task in tasks for what in _NEEDED}
        return "verified" if tasks and needed <= whole else "not verified"

    def reasons(self) -> list[str]:
        """Why it is not verified."""
        bad = [c for c in self.checks if c.status == "wrong"]
        if bad:
            return [f"{c.what}: {p}" for c in bad for p in c.problems or (c.seen,)]
        open_ = [c for c in self.checks if c.status == "unchecked" and c.what.split()[0] in _NEEDED]
        return [f"{c.what}: {c.seen}" for c in open_]

    def docs_check(self, task: str) -> Check:
        """The check that its docs of ``task`` are those of the real input."""
        return next(c for c in self.checks if c.what == f"docs {task}")


_NEEDED = ("docs", "scores")
"""Checks of a task without which nothing is verified."""


def verify(folder: Path, how: How | None = None) -> Verdict:
    """Looks at everything in ``folder``. Bad submissions are a verdict, not an exception."""
    how = how or How()
    try:
        content = schema.load(folder)
    except schema.Damaged as error:
        return Verdict(folder, {}, (Check("schema", "wrong", "", tuple(str(error).splitlines())),))
    checks = [Check("schema", "ok", f"version {schema.VERSION}"), _identity(content), _preset(content)]  # fmt: skip
    extra = sorted({p.name for p in folder.iterdir()} - _named(content) - {schema.FILE})
    if extra:
        checks.append(
            Check("files", "unchecked", f"not part of the submission: {', '.join(extra)[:200]}")
        )
    for task, part in content["tasks"].items():
        checks += task_checks(folder, task, part, how)
    version = content["environment"]["pluralism_eval"]
    if version != __version__ and any(c.what.startswith("scores ") and c.status == "wrong" for c in checks):  # fmt: skip
        seen = f"made by {version}, this is {__version__}, which may score otherwise: verify it with {version}, or submit the run again"
        checks.append(Check("version", "unchecked", seen))
    return Verdict(folder, content, tuple(checks))


def _named(content: Mapping[str, Any]) -> set[str]:
    return {str(part["samples"]["file"]) for part in content["tasks"].values()}


def _identity(content: Mapping[str, Any]) -> Check:
    expected = submit.identity_of(content["hashes"]["fingerprint"], content["tasks"])
    wrong = content["identity"] != expected
    problem = f"identity: expected {expected} (of its hashes), found {content['identity']}"
    return check_of("identity", [problem] if wrong else [], "agrees with its hashes")


def _preset(content: Mapping[str, Any]) -> Check:
    """Is every task scored by the preset that the method ran with?"""
    ran = content["configuration"].get("preset")
    if ran is None:
        return Check("preset", "unchecked", "the model has none of its own")
    problems = [
        f"{task}: setting.preset: expected {shown(ran)} (configuration.preset), found {shown(part['setting']['preset'])}"
        for task, part in content["tasks"].items()
        if describe.plain(part["setting"]["preset"]) != ran
    ]
    return check_of("preset", problems, shown(ran))


def verify_each(given: Sequence[Path], how: How | None = None) -> Iterator[Verdict]:
    """Verdicts on ``given``, each also compared with the others and with what lies beside it.

    Of two submissions with the same responses the one that was first in the repository counts; the other is a
    duplicate. Both count where nobody can say which was first.
    """
    how = how or How()
    resolved = [folder.resolve() for folder in given]
    beside = [f for parent in dict.fromkeys(p.parent for p in resolved) for f in submit.folders(parent)]  # fmt: skip
    answers = {f: found for f in dict.fromkeys([*beside, *resolved]) if (found := _answers(f))}
    places = repository_order(answers)
    known: dict[Path, Verdict] = {}

    def is_sound(folder: Path) -> bool:
        if folder not in known:
            known[folder] = verify(folder, replace(how, given=()))
        return known[folder].status == "verified"

    for folder, path in zip(given, resolved, strict=True):
        verdict = verify(folder, how)
        known.setdefault(path, verdict)
        if verdict.status == "verified":
            alike = {f: answers[f] for f in answers if f != path and answers[path] & answers[f] and is_sound(f)}  # fmt: skip
            verdict = replace(
                verdict, checks=(*verdict.checks, *_duplicate(path, answers[path], alike, places))
            )
        yield verdict


def _answers(folder: Path) -> frozenset[tuple[str, str]]:
    """What the submission says that it holds; nothing where it cannot be read."""
    try:
        return answers_of(schema.load(folder))
    except schema.Damaged:
        return frozenset()


def _duplicate(
    path: Path,
    own: frozenset[tuple[str, str]],
    alike: Mapping[Path, frozenset[tuple[str, str]]],
    places: Mapping[Path, float],
) -> list[Check]:
    """A check where others hold responses of ``path``: all of them were there before, or some, or nobody can say.

    Args:
        own: what ``path`` holds.
        alike: what sound submissions hold of it.
        places: the order in the repository.
    """
    by_age = sorted(alike, key=lambda f: (places[f], f.name))
    earlier = [f for f in by_age if places[f] < places[path]]
    known = frozenset[tuple[str, str]]().union(*(alike[f] for f in earlier))
    if own <= known:
        told = f"the same responses as {_names(earlier)}, which was in the repository before it"
        return [Check(DUPLICATE, "wrong", "", (told,))]
    together = [f for f in by_age if places[f] == places[path]]
    seen = []
    if earlier:
        tasks = ", ".join(sorted(task for task, _ in own & known))
        seen.append(f"in {tasks} the same responses as {_names(earlier)}, which was in the repository before it")  # fmt: skip
    if together:
        seen.append(
            f"the same responses as {_names(together)}; the history here does not say which was first, so both are shown"
        )
    return [Check(DUPLICATE, "unchecked", ". ".join(seen))] if seen else []


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)
