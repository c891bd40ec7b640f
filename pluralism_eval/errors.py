"""The one exception type that users are meant to read."""

from __future__ import annotations

from collections.abc import Sequence

from pluralism_eval.secrets import redact


class PluralismError(ValueError):
    """Bad input: says what is wrong, the value received, what is allowed and what to change.

    What it repeats may be anybody's: secrets are hidden, and control characters, which a terminal would obey,
    are written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(harmless(redact(message)))


def harmless(text: str) -> str:
    """``text`` for a terminal: its lines as they are, what else cannot be printed as ``\\x1b``."""
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in text)


def raise_all(what: str, problems: Sequence[str]) -> None:
    """Raise one :class:`PluralismError` that lists all ``problems``; nothing if there are none."""
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise PluralismError(f"{what}: {len(problems)} problem(s)\n{lines}")
