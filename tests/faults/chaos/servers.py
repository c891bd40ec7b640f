"""A server that fails: what it answered in the end is paid once, and nothing else enters the numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.faults.chaos.tally import Tally
from tests.faults.chaos.work import Verdict, Work

_SHARE = 0.3  # of the requests


def inject(
    work: Work, n: int, chance: random.Random, tally: Tally, step: Callable[[], None]
) -> None:
    """Commands that pay, until ``n`` requests have failed."""
    able = [c for c in work.commands if c.pays]
    while tally.faults < n and able:
        command = able[tally.commands % len(able)]
        with work.fresh(command) as place:
            work.server.reset(_SHARE, chance.getrandbits(32))
            verdict = work.finish(command, place)
        for name, count in work.server.injected.items():
            tally.fault(name, count)
        step()
        twice = sum(paid > 1 for paid in work.server.paid.values())
        lost = [f"{command.name}: {twice} replies were paid more than once"] if twice else []
        tally.add(Verdict(verdict.lost + lost, verdict.wrong))
