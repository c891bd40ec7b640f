"""What the faults of one kind came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.chaos.work import Verdict


@dataclass
class Tally:
    """Counts of one kind of fault; ``notes`` say what was lost and what was wrong."""

    kind: str
    faults: int = 0
    commands: int = 0
    """Times that a command was brought to its end and compared."""
    lost: int = 0
    wrong: int = 0
    repeated: int = 0
    """Paid calls made a second time: their reply was in flight at a kill, damaged, or asked for by several at once."""
    details: dict[str, int] = field(default_factory=dict)
    """Faults by name."""
    notes: list[str] = field(default_factory=list)

    def fault(self, name: str, n: int = 1) -> None:
        self.faults += n
        self.details[name] = self.details.get(name, 0) + n

    def add(self, verdict: Verdict) -> None:
        """One command that was brought to its end, or was not."""
        self.commands += 1
        self.lost += len(verdict.lost)
        self.wrong += len(verdict.wrong)
        self.notes += [f"lost: {line}" for line in verdict.lost]
        self.notes += [f"silently wrong: {line}" for line in verdict.wrong]


def rows(tallies: Sequence[Tally]) -> list[list[str]]:
    """The table: one row a kind."""
    head = ["kind", "faults", "commands compared", "paid again", "lost", "silently wrong", "which"]  # fmt: skip
    return [head] + [
        [
            t.kind, str(t.faults), str(t.commands), str(t.repeated), str(t.lost), str(t.wrong),
            ", ".join(f"{n} {name}" for name, n in sorted(t.details.items(), key=lambda d: -d[1])),
        ]
        for t in tallies
    ]  # fmt: skip


def line(tallies: Sequence[Tally]) -> str:
    """The one line."""
    faults, lost, wrong = (sum(getattr(t, n) for t in tallies) for n in ("faults", "lost", "wrong"))
    return f"{faults} faults, {lost} lost, {wrong} silently wrong"
