"""A disk that is full at some moment: no file may grow beyond a limit, until there is room again."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from tests.faults.chaos.commands import Command
from tests.faults.chaos.processes import Started
from tests.faults.chaos.tally import Tally
from tests.faults.chaos.work import Verdict, Work

_LEAST = 4096  # bytes
_OWN = ("said-", "cache/")
"""What is not an earlier result: output of this test, and stores, which grow."""


def inject(
    work: Work, n: int, chance: random.Random, tally: Tally, step: Callable[[], None]
) -> None:
    """Until ``n`` commands have met the limit."""
    able = [c for c in work.commands if work.whole[c.name].largest > 2 * _LEAST]
    tries = 0
    while tally.faults < n and able and tries < 10 * n:
        tries += 1
        command = chance.choice(able)
        most = int(_LEAST * (work.whole[command.name].largest / _LEAST) ** chance.random())
        with work.fresh(command) as place:
            before = _hashes(place.folder)
            with work.start(command, place, most=most) as process:
                process.wait()
            if process.status == 0:  # it came through
                tally.add(work.verdict(command, place, process))
                continue
            tally.fault(f"limit {command.name.split()[0]}")
            step()
            lost = _complaints(command, process, most)
            after = _hashes(place.folder)
            lost += [f"{command.name}: {name} was harmed by a full disk" for name in before if before[name] != after.get(name)]  # fmt: skip
            verdict = work.finish(command, place)
        tally.add(Verdict(lost + verdict.lost, verdict.wrong))


def _complaints(command: Command, process: Started, most: int) -> list[str]:
    """Not one clear error."""
    said = [
        line for line in process.complaint().splitlines() if line.startswith("pluralism-eval: ")
    ]
    if process.status in (1, 2) and len(said) == 1:
        return []
    return [f"{command.name}, no file above {most} bytes: status {process.status} without one clear error"]  # fmt: skip


def _hashes(folder: Path) -> dict[str, str]:
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {name: sha256(p.read_bytes()).hexdigest() for name, p in found.items() if not name.startswith(_OWN)}  # fmt: skip
