"""The one exception type that users are meant to read."""

from __future__ import annotations

from collections.abc import Sequence

from pluralism_eval.secrets import redact


class PluralismError(ValueError):
    """Bad input: says what is wrong, the value received, what is allowed and what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


def raise_all(what: str, problems: Sequence[str]) -> None:
    """Raise one :class:`PluralismError` that lists all ``problems``; nothing if there are none."""
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise PluralismError(f"{what}: {len(problems)} problem(s)\n{lines}")
