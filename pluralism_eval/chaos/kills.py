"""Signals at random moments; then the same command again, until it comes to its end."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from pluralism_eval.chaos.commands import Command
from pluralism_eval.chaos.processes import Place, Started
from pluralism_eval.chaos.server import Ledger
from pluralism_eval.chaos.tally import Tally
from pluralism_eval.chaos.work import Verdict, Whole, Work, stored_replies

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
    ledger = work.server.reset()
    again: Counter[str] = Counter()
    lost: list[str] = []
    with work.fresh(command) as place:
        for _ in range(most):
            fresh = chance.randrange(_FRESH) == 0
            with work.start(command, place, fresh) as process:
                if not _reached(
                    process, work.whole[command.name], ledger, chance, fresh, work.warm.seconds
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
            unstored = _unstored(work, ledger, place)
            if len(unstored) > _IN_FLIGHT:
                lost.append(
                    f"{command.name}: {len(unstored)} paid replies were not stored at a kill"
                )
            again.update(unstored)
        verdict = work.finish(command, place)
    for key, paid in ledger.paid.items():
        if paid > 1:
            tally.repeated += paid - 1
            if paid - 1 > again[key]:
                lost.append(f"{command.name}: a stored reply was paid {paid} times")
    tally.add(Verdict([*lost, *verdict.lost], verdict.wrong))


def _reached(
    process: Started,
    whole: Whole,
    ledger: Ledger,
    chance: random.Random,
    fresh: bool,
    warmth: float,
) -> bool:
    """Waits for a random moment of ``process``: a moment of its time, or of its requests and a little more.

    False if it ended before.
    """
    left = whole.requests - len(ledger.paid)
    seen = ledger.requests
    if whole.requests and left > 0 and chance.random() < 0.7:
        wanted, moment = chance.randint(1, left), chance.uniform(0, 0.02)
        while ledger.requests - seen < wanted:
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


def _unstored(work: Work, ledger: Ledger, place: Place) -> set[str]:
    """Paid replies that the dead client did not store."""
    work.server.settle()
    paid = list(ledger.paid)
    return set(paid) - stored_replies(place.folder, paid) if paid else set()
