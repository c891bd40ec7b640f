"""What happened to the requests of a run: plain counts, safe under threads."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from pluralism_eval.api.replies import Reply

NAMES = (
    "requests",
    "paid",
    "stored",
    "prompt_tokens",
    "new_tokens",
    "rate_limited",
    "server_errors",
    "timeouts",
    "connection_errors",
    "cut_bodies",
    "unreadable_bodies",
    "over_limit",
    "rejected",
    "wrong_model",
    "no_choices",
    "missing_choices",
    "missing_content",
    "missing_logprobs",
    "short_logprobs",
    "missing_usage",
    "ended_at_once",
    "refusals",
    "content_filtered",
    "length_limited",
    "asked_one_by_one",
    "batches",
    "lost_batches",
    "said_our_key",
)
"""Attempts; answers that were paid for and those that were stored; tokens of the paid ones; then
whatever was irregular, by kind."""


class Counts:
    """Counts that only grow, and which models answered."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, name: str, n: int = 1) -> None:
        assert name in NAMES, name
        with self._lock:
            self._counts[name] += n

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def of_reply(self, reply: Reply, n: int, text: bool) -> None:
        """A reply that was paid for; ``n`` choices were asked for, and words if ``text``."""
        with self._lock:
            own = self._counts
            own["paid"] += 1
            own["prompt_tokens"] += reply.prompt_tokens
            own["new_tokens"] += reply.new_tokens
            own["missing_usage"] += not reply.usage
            own["missing_choices"] += max(0, n - len(reply.choices))
            for choice in reply.choices:
                own["refusals"] += choice.refused == "refusal"
                own["content_filtered"] += choice.refused == "content_filter"
                own["ended_at_once"] += choice.first == ()
                own["length_limited"] += text and choice.finish == "length"
                own["missing_content"] += text and not choice.text and not choice.refused
            self._models[reply.model] += 1

    def as_dict(self) -> dict[str, object]:
        """All counts by name, and ``models``: who said to have answered, how often."""
        with self._lock:
            return {**{name: self._counts[name] for name in NAMES}, "models": dict(self._models)}
