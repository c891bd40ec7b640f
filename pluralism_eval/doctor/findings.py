"""What a check says, and how it is kept free of secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pluralism_eval.secrets import is_secret_name, redact

Level = Literal["ok", "warning", "problem", "skipped"]
_HIDDEN = "***"
_SHORTEST = 5  # a shorter value may be an ordinary word
_PAIR = re.compile(r"([\w-]+)[\"']?\s*[=:]\s*[\"']?([^,;\s\"'}]+)")
_IN_URL = re.compile(r"[?&]([\w-]+)=([^&#\s,;]+)")
_LIKE = re.compile(r"key|secret|passw|credential|auth|bearer|token(?!s|iz)", re.IGNORECASE)
_LIKE_FROM = 8  # characters, where only the name looks like a secret's


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    check: str
    level: Level
    seen: str
    do: str = ""
    """What to change; empty where there is nothing to do."""


class Blocked(Exception):
    """Something that a check needs could not be had; the check called ``owner`` says why."""

    def __init__(self, owner: str, cause: Exception | None = None) -> None:
        super().__init__(f"needs what {owner!r} found missing")
        self.owner, self.cause = owner, cause


def of_error(check: str, error: Exception, do: str = "") -> list[Finding]:
    """One problem for each that ``error`` lists (:func:`pluralism_eval.errors.raise_all`)."""
    text = str(error) or type(error).__name__
    listed = [line.strip()[2:] for line in text.splitlines() if line.startswith("  - ")]
    return [Finding(check, "problem", one_line(part), do) for part in listed or [text]]


def one_line(text: str) -> str:
    """Of whatever a server or a file says: a terminal obeys nothing in it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class Curtain:
    """Hides the values of secret variables and arguments wherever they turn up."""

    def __init__(self, given: Any, variables: Iterable[str] = ()) -> None:
        """
        Args:
            given: arguments; values under secret names are hidden, at any depth and in text forms.
            variables: more environment variables that hold keys.
        """
        values = set(_secrets_in(given))
        values |= {os.environ.get(name, "") for name in variables}
        values |= {value for name, value in os.environ.items() if is_secret_name(name)}
        values |= {v for n, v in os.environ.items() if _like_secret(n) and len(v) >= _LIKE_FROM}
        kept = {v for v in values if len(v) >= _SHORTEST and not os.path.exists(v)}
        self._values = sorted(kept, key=len, reverse=True)

    def hide(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, _HIDDEN)
        return redact(text)


def _secrets_in(given: Any) -> Iterable[str]:
    if isinstance(given, Mapping):
        for name, value in given.items():
            if _like_secret(str(name)):
                yield from _leaves(value)
            yield from _secrets_in(value)
    elif isinstance(given, (list, tuple)):
        for value in given:
            yield from _secrets_in(value)
    elif isinstance(given, str):
        for name, value in _PAIR.findall(given) + _IN_URL.findall(given):
            if _like_secret(name):
                yield value


def _like_secret(name: str) -> bool:
    """More names than :func:`pluralism_eval.secrets.is_secret_name` knows: what is hidden in vain does
    no harm here."""
    return bool(_LIKE.search(name)) and not name.endswith("variable")


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
        yield from str(value).split()  # "Bearer KEY"
