"""Several processes on one store at once, some of them killed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.faults.chaos.tally import Tally
from tests.faults.chaos.work import Verdict, Work, last_line

TOGETHER = 8
_KILLED = 2
_OF = ("messages", "judge")
"""Commands whose whole work is in stores."""


def inject(
    work: Work, n: int, chance: random.Random, tally: Tally, step: Callable[[], None]
) -> None:
    """At least ``n`` processes, eight at a time in one folder; each must end well unless it was killed."""
    able = [c for c in work.commands if c.name in _OF]
    while tally.faults < n and able:
        command = able[tally.commands % len(able)]
        work.server.reset()
        with work.fresh(command) as place, ExitStack() as stack:
            running = [stack.enter_context(work.start(command, place)) for _ in range(TOGETHER)]
            for victim in chance.sample(running, _KILLED):
                time.sleep(chance.uniform(0, work.whole[command.name].seconds / _KILLED))
                victim.send(signal.SIGKILL)
            ended = [process.wait() for process in running]
            wrong_end = [
                p for p, s in zip(running, ended, strict=True) if s not in (0, -signal.SIGKILL)
            ]
            tally.fault(f"{command.name} beside {TOGETHER - 1} others", TOGETHER)
            step()
            verdict = work.finish(command, place)
            lost = [f"{command.name}, one of {TOGETHER} at once: {last_line(p)}" for p in wrong_end]
        tally.repeated += sum(paid - 1 for paid in work.server.paid.values())
        tally.add(Verdict(lost + verdict.lost, verdict.wrong))
