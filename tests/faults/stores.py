"""Rows as each cache holds them, and what a store serves of them after a fault."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralism_eval.cache import Store, digest


def _message(i: int) -> Any:
    text = f"Community {i} thinks „so“. " * (1 + i % 3 + (i == 30) * 180)
    return {"community": f"c{i % 6}", "text": text, "n_tokens": i}


def _reply(i: int) -> Any:
    choice = {"message": {"content": f"reply {i}"}, "logprobs": {"content": [{"logprob": -i / 7}]}}
    return {"id": f"r{i}", "model": "m", "choices": [choice], "usage": {"prompt_tokens": i}}


def _answer(i: int) -> Any:
    return {"text": "", "logprobs": [-i / 3, -i / 9], "messages": [_message(i)], "samples": i}


CACHES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "messages": ("messages", _message),
    "api": ("replies", _reply),
    "nli": ("nli", lambda i: [i / 50, 1 / 3, 1 - i / 50]),
    "judge": ("judge", lambda i: f"Response {'AB'[i % 2]} is better. " * (1 + i % 3)),
    "answers": ("answers", _answer),
    "hashes": ("files", lambda i: digest(i)),
}
"""File → (table, value of row i)."""


def rows_of(cache: str, n: int = 50) -> dict[str, Any]:
    """Key → value, as ``cache`` keeps them."""
    return {digest([cache, i]): CACHES[cache][1](i) for i in range(n)}


@dataclass
class Tally:
    """What came of many faults."""

    faults: int = 0
    wrong: int = 0
    """Values served that were not the ones written."""
    errors: dict[str, int] = field(default_factory=dict)
    recovered: list[float] = field(default_factory=list)
    """Share of the rows that were still served, a fault."""
    again: int = 0
    """Faults after which the store did not take all rows again."""

    @property
    def clean(self) -> bool:
        return self.faults > 0 and not self.wrong and not self.errors and not self.again

    def line(self, what: str) -> str:
        mean = sum(self.recovered) / len(self.recovered) if self.recovered else 0.0
        return (
            f"{what}: {self.faults:,} faults, {self.wrong} wrong values, {sum(self.errors.values())} exceptions, "
            f"{self.again} stores not usable afterwards; rows still served {100 * mean:.1f} %"
            + "".join(f"\n  {n} x {error}" for error, n in self.errors.items())
        )


def serve(tally: Tally, path: Path, table: str, rows: dict[str, Any]) -> None:
    """Reads all rows of a damaged store in both ways, then writes them again."""
    tally.faults += 1
    try:
        store = Store(path, table)
        found, listed = store.get(list(rows)), store.items()
        for served in (found, listed):
            tally.wrong += sum(rows.get(key) != value for key, value in served.items())
        tally.recovered.append(len(found) / len(rows))
        store.put(rows)
        tally.again += store.get(list(rows)) != rows
    except Exception as error:  # what is counted here
        name = f"{type(error).__name__}: {str(error)[:120]}"
        tally.errors[name] = tally.errors.get(name, 0) + 1


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder in memory where there is one, without the warnings of damaged stores."""
    memory = Path("/dev/shm")
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(folder, ignore_errors=True)


def fresh(folder: Path, files: dict[str, bytes]) -> Path:
    """``folder``, emptied, with ``files`` in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
