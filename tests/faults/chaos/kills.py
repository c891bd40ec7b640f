"""Signals at random moments; then the same command again, until it comes to its end."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.chaos.commands import Command
from tests.faults.chaos.processes import Place, Started
from tests.faults.chaos.server import Server
from tests.faults.chaos.tally import Tally
from tests.faults.chaos.work import Verdict, Whole, Work, stored_replies

_SIGNALS = (*[signal.SIGKILL] * 8, signal.SIGTERM, signal.SIGINT)
_ROUND = 5
"""Kills that one command meets before it may end."""
_FRESH = 10
"""One in so many hits a new interpreter, imports included."""
_IN_FLIGHT = 16
"""Requests that a client has open at most."""
_PATIENCE = 60.0  # seconds that a signal may take


def inject(
    work: Work, n: int, chance: random.Random, tally: Tally, step: Callable[[], None]
) -> None:
    """``n`` kills over all commands, by their weights."""
    total = sum(command.weight for command in work.commands)
    left = {c.name: max(1, round(n * c.weight / total)) for c in work.commands}
    while tally.faults < n:
        todo = [c for c in work.commands if left[c.name] > 0] or work.commands
        command = chance.choice(todo)
        before = tally.faults
        _round(work, command, min(_ROUND, n - tally.faults), chance, tally, step)
        left[command.name] -= max(1, tally.faults - before)


def _round(
    work: Work,
    command: Command,
    most: int,
    chance: random.Random,
    tally: Tally,
    step: Callable[[], None],
) -> None:
    work.server.reset()
    again: Counter[str] = Counter()
    lost: list[str] = []
    with work.fresh(command) as place:
        for _ in range(most):
            fresh = chance.randrange(_FRESH) == 0
            with work.start(command, place, fresh) as process:
                if not _reached(
                    process, work.whole[command.name], work.server, chance, fresh, work.warm.seconds
                ):
                    break
                number = chance.choice(_SIGNALS)
                process.send(number)
                if process.wait(_PATIENCE) is None:
                    lost.append(f"{command.name} does not end at {number.name}")
            if process.status == 0:  # it was faster
                break
            tally.fault(
                f"{number.name} {'(new interpreter) ' if fresh else ''}{command.name.split()[0]}"
            )
            step()
            unstored = _unstored(work, place)
            if len(unstored) > _IN_FLIGHT:
                lost.append(
                    f"{command.name}: {len(unstored)} paid replies were not stored at a kill"
                )
            again.update(unstored)
        verdict = work.finish(command, place)
    for key, paid in work.server.paid.items():
        if paid > 1:
            tally.repeated += paid - 1
            if paid - 1 > again[key]:
                lost.append(f"{command.name}: a stored reply was paid {paid} times")
    tally.add(Verdict([*lost, *verdict.lost], verdict.wrong))


def _reached(
    process: Started,
    whole: Whole,
    server: Server,
    chance: random.Random,
    fresh: bool,
    warmth: float,
) -> bool:
    """Waits for a random moment of ``process``: a moment of its time, or of its requests and a little more.

    False if it ended before.
    """
    left = whole.requests - len(server.paid)
    seen = server.requests
    if whole.requests and left > 0 and chance.random() < 0.7:
        wanted, moment = chance.randint(1, left), chance.uniform(0, 0.02)
        while server.requests - seen < wanted:
            if process.status is not None:
                return False
            time.sleep(0.001)
        end = process.seconds + moment
    else:
        end = chance.uniform(0, whole.seconds + (warmth if fresh else 0))
    while process.seconds < end:
        if process.status is not None:
            return False
        time.sleep(0.001)
    return process.status is None


def _unstored(work: Work, place: Place) -> set[str]:
    """Paid replies that the dead client did not store."""
    work.server.settle()
    paid = list(work.server.paid)
    return set(paid) - stored_replies(place.folder, paid) if paid else set()
