"""What a command leaves that must not depend on what happened on the way: numbers, samples, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pluralism_eval.cache import Store
from pluralism_eval.results import read_run, runs_below

Outcome = Callable[[Path, str], dict[str, Any]]
"""(folder of the commands, what the command printed) → part → content that can be compared."""
_OF_THE_WAY = ("messages_generated", "reused")
"""Who wrote a message, this process or one before, is the way and not the result."""


def printed(folder: Path, said: str) -> dict[str, Any]:
    return {"printed": said}


def messages(folder: Path, said: str) -> dict[str, Any]:
    """Every message of the store."""
    return {"messages": Store(folder / "cache" / "messages.sqlite", "messages").items()}


def run(path: str) -> Outcome:
    """Scores, samples and transcript of the run in ``path``, as every later command reads them."""

    def read(folder: Path, said: str) -> dict[str, Any]:
        return _run(folder / path)

    return read


def study(path: str) -> Outcome:
    """All runs, tables and figures' numbers of a ``compare``."""

    def read(folder: Path, said: str) -> dict[str, Any]:
        found = {
            f"{file.parent.parent.name}/{part}": content
            for file in runs_below(folder / path / "runs")
            for part, content in _run(file).items()
        }
        return found | _report(folder / path)

    return read


def report(path: str) -> Outcome:
    """Tables and figures' numbers."""

    def read(folder: Path, said: str) -> dict[str, Any]:
        return _report(folder / path)

    return read


def files(path: str) -> Outcome:
    """Every file, byte by byte; hidden ones are what a killed process had not finished."""

    def read(folder: Path, said: str) -> dict[str, Any]:
        below = (p for p in sorted((folder / path).rglob("*")) if p.is_file())
        found = [
            p
            for p in below
            if not any(part.startswith(".") for part in p.relative_to(folder).parts)
        ]
        return {str(p.relative_to(folder)): p.read_bytes() for p in found}

    return read


def adapter(path: str) -> Outcome:
    """A trained adapter's weights and its record."""

    def read(folder: Path, said: str) -> dict[str, Any]:
        names = ("adapter_model.safetensors", "adapter_config.json", "training.json")
        return {name: (folder / path / name).read_bytes() for name in names}

    return read


def _run(path: Path) -> dict[str, Any]:
    found = read_run(path)
    ours = found.ours
    parts: dict[str, Any] = {
        "scores": found.results,
        "transcript": found.transcript,
        "configuration": {
            name: ours.get(name) for name in ("fingerprint", "readout_used", "rates")
        },
    }
    parts |= {f"samples of {task}": rows for task, rows in found.samples.items()}
    return {name: _plain(content) for name, content in parts.items()}


def _report(folder: Path) -> dict[str, Any]:
    found = [*(folder / "tables").iterdir(), *(folder / "figures").glob("*.csv")]
    page = (folder / "report.html").read_text(encoding="utf-8").rstrip()
    whole = {"page is whole": page.endswith("</html>")}
    return whole | {f"{p.parent.name}/{p.name}": p.read_text(encoding="utf-8") for p in found}


def _plain(value: Any) -> Any:
    """``value`` without what belongs to the way; NaN equals itself."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k not in _OF_THE_WAY}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return json.dumps(value, default=str) if isinstance(value, float) else value


def differences(whole: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Parts that are missing, new or other, each with the place of its first difference."""
    found = []
    for part in dict.fromkeys([*whole, *other]):
        if part not in whole or part not in other:
            found.append(f"{part} is {'new' if part in other else 'missing'}")
        elif whole[part] != other[part]:
            found.append(f"{part}{_where(whole[part], other[part])}")
    return found


def _where(a: Any, b: Any) -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [k for k in dict.fromkeys([*a, *b]) if a.get(k, _where) != b.get(k, _where)]
        return f".{keys[0]}{_where(a.get(keys[0]), b.get(keys[0]))}"
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        i = next(i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
        return f"[{i}]{_where(a[i], b[i])}"
    return f": {str(a)[:80]!r} became {str(b)[:80]!r}"
