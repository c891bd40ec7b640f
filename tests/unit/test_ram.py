"""Memory is the container's where it has a limit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pluralism_eval import ram


@pytest.mark.parametrize(
    ("limit", "used", "total", "free"),
    [
        (None, None, 64e9, 50e9),
        ("max\n", "3000000000\n", 64e9, 50e9),
        ("8000000000\n", "3000000000\n", 8e9, 5e9),
        ("900000000000\n", "3000000000\n", 64e9, 50e9),
        ("8000000000\n", None, 8e9, 50e9),
    ],
)
def test_the_lesser_of_the_machines_and_the_containers(
    limit: str | None, used: str | None, total: float, free: float,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, content in (("memory.max", limit), ("memory.current", used)):
        if content is not None:
            (tmp_path / name).write_text(content)
    monkeypatch.setattr(ram, "_CGROUP", tmp_path)
    machine = SimpleNamespace(total=64e9, available=50e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert (ram.total(), ram.free()) == (total, free)
