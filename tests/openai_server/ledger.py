"""What the server saw, sent and billed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import RLock
from typing import Any


def canonical(body: Any) -> str:
    """One text for equal bodies."""
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Lower-case names, without ``authorization``."""
    authorized: bool
    """It carried an ``Authorization`` header."""
    body: Any
    """Parsed JSON; bytes of anything else; None."""


@dataclass
class Bill:
    """Completions of one body: ``billed = delivered + cut``, and what was sent again for free."""

    endpoint: str
    body: dict[str, Any]
    billed: int = 0
    delivered: int = 0
    cut: int = 0
    """Billed, but the client did not get all of it (or of the output file, for batches)."""
    replayed: int = 0
    """Stored replies delivered again under the same idempotency key."""
    in_batch: int = 0
    """Of ``billed``."""


@dataclass
class Ledger:
    """Everything here may be read while the server runs."""

    requests: list[Request] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    """Of answers whose headers were sent."""
    bills: dict[tuple[str, str], Bill] = field(default_factory=dict)
    """(endpoint as ``/v1/completions``, canonical body) → bill."""
    usable: Counter[str] = field(default_factory=Counter)
    """``Idempotency-Key`` → replies made for it that no fault touched, whether its client still lived or not."""
    peak: int = 0
    """Largest number of generation requests in flight at once."""
    in_flight: int = 0
    lock: RLock = field(default_factory=RLock, repr=False)

    def bill(self, endpoint: str, body: dict[str, Any]) -> Bill:
        """That of ``body``, whether it was ever asked or not."""
        with self.lock:
            return self.bills.setdefault((endpoint, canonical(body)), Bill(endpoint, body))

    def charge(self, bill: Bill, *, cut: bool, batch: bool = False) -> None:
        with self.lock:
            bill.billed += 1
            bill.in_batch += batch
            bill.cut += cut
            bill.delivered += not cut

    def correct(self, bill: Bill, delivered: int) -> None:
        """``delivered`` of the cut ones were delivered after all; negative: the other way round."""
        with self.lock:
            bill.cut -= delivered
            bill.delivered += delivered

    def replay(self, bill: Bill, times: int) -> None:
        with self.lock:
            bill.replayed += times

    def clear(self) -> None:
        """As if nothing had been asked yet."""
        with self.lock:
            for kept in (self.requests, self.statuses, self.bills, self.usable):
                kept.clear()
            self.peak = 0

    def enter(self) -> None:
        with self.lock:
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)

    def leave(self) -> None:
        with self.lock:
            self.in_flight -= 1

    def total(self, column: str = "billed") -> int:
        """Sum of one field over all bills."""
        with self.lock:
            return sum(getattr(bill, column) for bill in self.bills.values())

    def paths(self) -> Counter[str]:
        """``METHOD /path`` → requests seen."""
        with self.lock:
            return Counter(f"{r.method} {r.path}" for r in self.requests)
