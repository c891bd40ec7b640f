"""Files changed behind a command's back: bytes flipped, ends cut off; then the same command again."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.chaos.commands import Command
from tests.faults.chaos.processes import Place
from tests.faults.chaos.tally import Tally
from tests.faults.chaos.work import Verdict, Work

_KEPT = (
    *("cache/*.sqlite", "cache/*.sqlite-wal", "cache/*.lines/*", "answers/*.sqlite"),
    *("compare/runs/*/answers*", "compare/runs/*/study.json", "compare/runs/*/transcript_*"),
)
"""What is kept between runs, to be read again: not the results themselves, nor lm-eval's own ``answers/*.db``,
which holds nothing and which lm-eval opens before we are asked."""
_FILES = 3  # damaged at once, at most
_BYTES = 8  # flipped in one file, at most


def inject(
    work: Work, n: int, chance: random.Random, tally: Tally, step: Callable[[], None]
) -> None:
    """``n`` damaged files, a few at a time, found by a command that reads them."""
    able = [c for c in work.commands if c.pays]
    while tally.faults < n and able:
        command = chance.choice(able)
        with work.finished(command) as place:
            if chance.random() < 0.5:  # everything is to be made again, from what is kept
                shutil.rmtree(place.folder / "compare", ignore_errors=True)
            if chance.random() < 0.3:
                _stop_midway(work, command, place, chance)
            found = sorted(p for pattern in _KEPT for p in place.folder.glob(pattern) if p.is_file() and p.stat().st_size)  # fmt: skip
            for file in chance.sample(found, min(len(found), chance.randint(1, _FILES))):
                tally.fault(f"{harm(file, chance)} {_kind(file)}")
                step()
            work.server.reset()
            verdict = work.finish(command, place)
            if verdict.lost:  # it said what is wrong; does it then go on?
                verdict = work.finish(command, place)
            tally.repeated += len(work.server.paid)
        tally.add(Verdict([f"{why} (damaged files)" for why in verdict.lost], verdict.wrong))


def harm(file: Path, chance: random.Random) -> str:
    """Damages ``file``; what was done to it."""
    data = bytearray(file.read_bytes())
    if chance.random() < 0.4:
        del data[chance.randrange(len(data)) :]
        done = "cut"
    else:
        for _ in range(chance.randint(1, _BYTES)):
            data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        done = "flipped"
    file.write_bytes(data)
    return done


def _stop_midway(work: Work, command: Command, place: Place, chance: random.Random) -> None:
    """Leaves what a killed process leaves, journals included."""
    shutil.rmtree(place.folder / "cache")
    work.server.reset()
    wanted = chance.randint(1, max(1, work.whole[command.name].requests))
    with work.start(command, place) as process:
        while process.status is None and work.server.requests < wanted:
            time.sleep(0.002)
        process.send(signal.SIGKILL)
        process.wait()


def _kind(file: Path) -> str:
    return (
        file.name.split("_")[0]
        if "transcript" in file.name or "answers" in file.name
        else file.name
    )
