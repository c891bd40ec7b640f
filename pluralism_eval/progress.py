"""Progress bars: each work's own, or one line for a whole study."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from pluralism_eval.files import saving

_shown: _Line | None = None


class _Line:
    """Where the bars of a study go, and what stands before them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.prefix = stream, ""


def bar(total: int, what: str, unit: str, disable: bool | None = False) -> Any:
    """A tqdm bar; within :func:`one_line` it takes the study's line and leaves nothing behind.

    Args:
        disable: as tqdm's: None hides it where standard error is no terminal.
    """
    if _shown is None:
        return tqdm(total=total, desc=what, unit=unit, disable=disable)
    terminal = _shown.stream.isatty()
    return tqdm(
        total=total, desc=f"{_shown.prefix}{what}", unit=unit, disable=bool(disable) or not terminal,
        file=_shown.stream, leave=False, dynamic_ncols=True,
    )  # fmt: skip


@contextmanager
def one_line(log: Path) -> Iterator[None]:
    """All bars on one line, and whatever else is written to standard error goes to ``log``.

    What an exception ends is still shown by whoever catches it: it is raised on.
    """
    global _shown
    with saving(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    before = _shown
    with log.open("a", encoding="utf-8") as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        _shown = _Line(sys.stderr)
        try:
            with redirect_stderr(file):
                yield
        finally:
            _shown = before


def step(n: int, total: int, what: str) -> None:
    """What the bars that follow belong to: run ``n`` of ``total``."""
    if _shown is not None:
        _shown.prefix = f"[{n}/{total}] {what}: "
