"""How far an LLM's answers move with the messages that it is shown: the figures, kept, read and put into words.

:mod:`pluralism_eval.listening` measures them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

from pluralism_eval.cache import Store, cache_root

VARIABLE = "PLURALISM_EVAL_LISTENING"
"""``off``: ``listening=auto`` measures nothing."""
HARDLY = 0.1
"""Below it, differences between methods mean little."""
LEVELS = ("quoted", "argued")
NAMES = (*LEVELS, "selection", "responses")
NOT_MEASURED = "not_measured"
_CLOZE = "readout=cloze reads the options' texts, which small LLMs follow where they cannot bind letters (servers: it needs echo)"


@dataclass(frozen=True)
class Heard:
    """A figure in its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Probes."""


def figures(row: Any) -> dict[str, Heard]:
    """Of ``config.pluralism.listening``, a submission or the store; empty where it was not measured.

    What is not as this package writes it is left out: results may be a stranger's.
    """
    found = {}
    for name in NAMES if isinstance(row, Mapping) else ():
        own = row.get(name)
        if not isinstance(own, Mapping):
            continue
        numbers: list[Any] = [own.get(f.name) for f in fields(Heard)]
        if all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
            found[name] = Heard(*numbers)
    return found if found.keys() >= set(LEVELS) else {}


def sentence(found: Mapping[str, Heard], name: str = "this LLM") -> str:
    """What a table's reader has to know about the LLM called ``name``."""
    quoted, argued = (found[level].value for level in LEVELS)
    moves = f"{name} moves by {quoted:.2f} of 1 with its message"
    if quoted <= -HARDLY:
        return f"{moves}: it goes against what messages say, so differences between methods mean little"
    if quoted < HARDLY:
        return f"{moves}: it hardly hears messages, so differences between methods mean little"
    return f"{moves} (by {argued:.2f} where that argues for an option without naming it)"


def short(found: Mapping[str, Heard]) -> str:
    """``0.94 [0.91, 0.96], argued 0.04 [0.02, 0.06], ...``."""
    shown = [f"{n} {h.value:.2f} [{h.low:.2f}, {h.high:.2f}]" for n, h in found.items()]
    return ", ".join(shown)


# ---------------------------------------------------------------------- the store


SHIPPED = files("pluralism_eval.data") / "listening_embedded.json"
"""What was measured of the embedded LLM: as a store's key → row (``make listening`` measures it anew)."""


def store() -> Store:
    """Key → what was measured, with the LLM and the readout that it is of."""
    return Store(cache_root() / "listening.sqlite", "listening")


def known(keys: Sequence[str]) -> dict[str, Any]:
    """Key → row, of those that were measured here or come with the package."""
    shipped = {key: row for key, row in _shipped().items() if key in keys}
    return {**shipped, **store().get(keys)}


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return rows


def advice(row: Mapping[str, Any]) -> str:
    """A readout that hears better than the one of ``row``: the best one measured on this LLM, else a likely one."""
    own = figures(row)["quoted"].value
    rivals = [
        (found["quoted"].value, str(other["readout"]), bool(other["chat"]))
        for other in store().items().values()
        if other["llm"] == row["llm"] and (found := figures(other))
    ]
    value, readout, chat = max(rivals, default=(own, "", False))
    if value > max(own, HARDLY):
        name = "options" if readout == "letters" else readout
        return f"readout={name}{' in the chat template' if chat else ''} hears better: {value:.2f} of 1"
    if row["readout"] != "cloze":
        return _CLOZE
    if not row["chat"]:
        return "chat=true, if it has a chat template; `pluralism-eval readouts` compares readouts"
    return "no readout that was tried hears better; `pluralism-eval readouts` compares them, or take a larger LLM"


def warning(row: Mapping[str, Any], name: str) -> str:
    """What has to be said of figures below :data:`HARDLY`, with what to do about it; else empty."""
    found = figures(row)
    if not found or found["quoted"].value >= HARDLY:
        return ""
    return f"{sentence(found, name)} (readout {row['readout']}). Try: {advice(row)}"


def as_row(found: Mapping[str, Heard]) -> dict[str, Any]:
    return {name: asdict(heard) for name, heard in found.items()}
