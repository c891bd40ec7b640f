"""Is a submission what its samples say? Every claim that can be recomputed is, and every wrong place named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pluralism_eval import __version__
from pluralism_eval.leaderboard import schema, submit
from pluralism_eval.leaderboard.checks import Check, How, check_of, task_checks

UNPROVEN = (
    "What this cannot prove: that the responses, the recorded verdicts, the settings and the usage come from the model "
    "that is named. Only running it again can."
)


@dataclass(frozen=True)
class Verdict:
    """One submission, looked at."""

    folder: Path
    content: Mapping[str, Any] = field(default_factory=dict)
    """Empty where ``submission.json`` cannot be read."""
    checks: tuple[Check, ...] = ()

    @property
    def status(self) -> Literal["verified", "rejected", "not verified"]:
        """``not verified``: nothing is wrong, but samples were not there to recompute scores from."""
        if any(check.status == "wrong" for check in self.checks):
            return "rejected"
        tasks = self.content.get("tasks", {})
        recomputed = sum(c.what.startswith("scores ") and c.status == "ok" for c in self.checks)
        return "verified" if tasks and recomputed == len(tasks) else "not verified"

    def reasons(self) -> list[str]:
        """Why it is not verified."""
        bad = [c for c in self.checks if c.status == "wrong"]
        if bad:
            return [f"{c.what}: {p}" for c in bad for p in c.problems or (c.seen,)]
        return [f"{c.what}: {c.seen}" for c in self.checks if c.status == "unchecked"]


def verify(folder: Path, how: How | None = None, others: Mapping[str, Path] | None = None) -> Verdict:  # fmt: skip
    """Looks at everything in ``folder``. Bad submissions are a verdict, not an exception.

    Args:
        others: identity → folder of submissions that came before.
    """
    how = how or How()
    try:
        content = schema.load(folder)
    except schema.Damaged as error:
        return Verdict(folder, {}, (Check("schema", "wrong", "", tuple(str(error).splitlines())),))
    checks = [Check("schema", "ok", f"version {schema.VERSION}"), _identity(content, others or {})]
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


def _identity(content: Mapping[str, Any], others: Mapping[str, Path]) -> Check:
    expected = submit.identity_of(content["hashes"]["fingerprint"], content["tasks"])
    problems = []
    if content["identity"] != expected:
        problems.append(
            f"identity: expected {expected} (of its hashes), found {content['identity']}"
        )
    if expected in others:
        problems.append(f"duplicate: the same run as {others[expected].name}")
    return check_of("identity", problems, "agrees with its hashes, no other submission has it")


def verify_each(given: Sequence[Path], how: How | None = None) -> Iterator[Verdict]:
    """Verdicts on ``given``, each also compared with those before it and with what lies beside it.

    Of two equal submissions the one with the earlier date, then name, came first.
    """
    resolved = [folder.resolve() for folder in given]
    beside = [f for parent in dict.fromkeys(p.parent for p in resolved) for f in submit.folders(parent)]  # fmt: skip
    dates = {folder: _date(folder) for folder in dict.fromkeys([*beside, *resolved])}
    first: dict[str, Path] = {}
    for folder in sorted(dates, key=lambda f: (dates[f][0], f.name)):
        first.setdefault(dates[folder][1], folder)
    for folder, path in zip(given, resolved, strict=True):
        yield verify(folder, how, {i: f for i, f in first.items() if i and f != path})


def _date(folder: Path) -> tuple[str, str]:
    """(date, identity by its hashes) as far as they can be read."""
    try:
        content = schema.load(folder)
    except schema.Damaged:
        return "", ""
    identity = submit.identity_of(content["hashes"]["fingerprint"], content["tasks"])
    return str(content["environment"]["date"]), identity
