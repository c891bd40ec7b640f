"""The test server with scripted replies: it counts what it is paid for, and fails as it is told."""

from __future__ import annotations

import random
from collections import Counter

from tests.openai_server import Ask, Faults, Offer, Scripted, canonical
from tests.openai_server import Server as ApiServer

MODELS = ("llm", "base", "left", "center", "right")
FAULTS = ("429_ms", "500", "503", "timeout", "closed", "cut_body", "cut_json", "wrong_model")
"""Refusals; no reply for a moment and then none at all; a connection that ends before, and in the middle of
a reply; half a reply announced as a whole one; a reply of a model that was not asked."""
_SILENCE = 0.3  # seconds
_RETRY_AFTER = 0.02  # seconds
_LATENCY = 0.004  # seconds
_TOKENS: tuple[str, ...] = (*"ABCDEFGH", "1", "2", "yes", "no", "the", "people")
_WHO = ("Neighbours", "Parents", "Some", "Many", "Few", "Others", "Teachers", "Friends")
_DO = ("value", "fear", "respect", "question", "defend", "praise", "doubt", "share")
_WHAT = ("honesty", "freedom", "duty", "care", "fairness", "tradition", "safety", "the law")
_SHORT = 20
"""New tokens up to which a choice or a verdict is asked for, not a text."""


class Server(ApiServer):
    """``with Server() as server``: at ``server.url`` until the block ends; equal requests get equal replies."""

    def __init__(self) -> None:
        offer = Offer(MODELS, echo="refused", latency=_LATENCY, idempotency=False)
        super().__init__(Scripted(_text), offer)

    def reset(self, share: float = 0.0, seed: int = 0) -> None:
        """Once all clients are gone: an empty ledger, and other faults.

        Args:
            share: of the requests that meet a fault; which ones follows from ``seed``, the request and
                how often it came. No request fails more than twice in a row.
        """
        self.settle()
        self.ledger.clear()
        rates = dict.fromkeys(FAULTS, share / len(FAULTS))
        self.faults = self.app.faults = Faults(
            rates, seed=seed, retry_after=_RETRY_AFTER, timeout=_SILENCE
        )

    @property
    def requests(self) -> int:
        """Completions asked for, whatever became of them."""
        with self.ledger.lock:
            return sum(request.method == "POST" for request in self.ledger.requests)

    @property
    def paid(self) -> Counter[str]:
        """Key of a reply in the client's store → usable replies that were sent whole. Proofs of life, which are asked
        anew each time, have no such key."""
        paid: Counter[str] = Counter()
        with self.ledger.lock:
            for name, times in self.ledger.usable.items():
                key, _, attempt = name.rpartition("-")
                paid.update({key: times} if key and attempt else {})
        return paid


def _text(ask: Ask, i: int) -> str:
    """The ``i``-th reply to a request, by the request's own text."""
    draw = random.Random(f"{canonical(ask.body)} {i}")
    if ask.max_tokens == 1:
        return draw.choice(_TOKENS)
    if ask.max_tokens <= _SHORT:
        return draw.choice("12")
    parts = ((draw.choice(words) for words in (_WHO, _DO, _WHAT)) for _ in range(draw.randint(2, 4)))  # fmt: skip
    return " ".join(" ".join(part) + "." for part in parts)
