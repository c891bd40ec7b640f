"""Submissions that hold the same responses, and which of them was first in the repository."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pluralism_eval.leaderboard import schema

_SECONDS = 30


def answers_of(content: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """(task, hash of its docs and responses) of a submission: what it holds, whatever else it says."""
    return frozenset((task, part["samples"]["sha256"]) for task, part in content["tasks"].items())


def repository_order(folders: Iterable[Path]) -> dict[Path, float]:
    """Folder → the number of the commit that brought its ``submission.json`` to this branch, from the first one on.

    Infinite where no commit did, and everywhere outside a git repository. The order of commits counts, not their
    dates: whoever makes a commit chooses its date. Of two folders with one number nobody can say which was first.
    """
    found: dict[Path, float] = dict.fromkeys(folders, math.inf)
    for parent in {folder.parent for folder in found}:
        for number, names in enumerate(_added(parent)):
            for name in names:
                folder = parent / Path(name).parent
                if folder in found:
                    found[folder] = min(found[folder], number)
    return found


def _added(parent: Path) -> list[list[str]]:
    """[n_commits] the submissions below ``parent`` that each commit added, the first commit first."""
    command = [
        "git", "-C", str(parent), "-c", "core.quotePath=false", "log", "--first-parent", "-m", "--reverse", "--no-renames",
        "--diff-filter=A", "--no-ext-diff", "--format=%x00", "--name-only", "--relative", "--", f":(glob)*/{schema.FILE}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):  # no git, no repository
        return []
    return [commit.split("\n") for commit in done.stdout.split("\0")]
