"""How fast and how far: a token bucket a minute, and a spending limit."""

from __future__ import annotations

import time
from threading import Condition, Lock

from pluralism_eval.errors import PluralismError


class TokenBucket:
    """At most ``per_minute`` units a minute, evenly paced: one second's worth may go at once.

    A unit cost above one second's worth is let through when the bucket is full, and paid off after.
    """

    def __init__(self, per_minute: float | None) -> None:
        """``per_minute``: None: no limit."""
        self._rate = None if per_minute is None else per_minute / 60
        self._capacity = max(1.0, self._rate or 1.0)
        self._level, self._at, self._lock = self._capacity, time.monotonic(), Lock()

    def take(self, cost: float = 1.0) -> None:
        """Waits until ``cost`` units may be used."""
        if self._rate is None:
            return
        while True:
            with self._lock:
                now = time.monotonic()
                self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
                self._at = now
                wait = (min(cost, self._capacity) - self._level) / self._rate
                if wait <= 1e-9:
                    self._level -= cost
                    return
            time.sleep(wait)

    def correct(self, estimated: float, real: float) -> None:
        """Charges the difference once the real cost is known."""
        with self._lock:
            self._level = min(self._capacity, self._level + estimated - real)


class SpendLimit(PluralismError):
    """The next request could exceed the run's spending limit."""


class Budget:
    """Money spent, and what requests in flight may cost at most."""

    def __init__(self, price_in: float | None, price_out: float | None, limit: float | None):
        """Prices are of a million tokens; without both nothing is counted and nothing limited."""
        self._prices = None if price_in is None or price_out is None else (price_in, price_out)
        self._limit, self._changed = limit, Condition()
        self.spent = 0.0
        self._reserved = 0.0

    @property
    def known(self) -> bool:
        """True if prices were given."""
        return self._prices is not None

    def cost(self, prompt_tokens: float, new_tokens: float) -> float:
        if self._prices is None:
            return 0.0
        return (prompt_tokens * self._prices[0] + new_tokens * self._prices[1]) / 1e6

    def reserve(self, cost: float) -> None:
        """Sets ``cost`` aside, waiting for requests in flight where those decide.

        Raises:
            SpendLimit: it does not fit, whatever they cost.
        """
        with self._changed:
            while self._limit is not None and self.spent + self._reserved + cost > self._limit:
                if self._reserved <= 1e-15:
                    raise SpendLimit(
                        f"spend_limit={self._limit:g}: {self.spent:.6g} is spent and the next request may cost "
                        f"{cost:.6g}. What was answered is kept: run again with a higher limit to go on"
                    )
                self._changed.wait()
            self._reserved += cost

    def settle(self, reserved: float, cost: float) -> None:
        """Replaces what was set aside by the real cost (0 where nothing was paid)."""
        with self._changed:
            self._reserved -= reserved
            self.spent += cost
            self._changed.notify_all()
