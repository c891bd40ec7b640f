"""The memory that this process may use: the machine's, or its container's."""

from __future__ import annotations

from pathlib import Path

import psutil  # comes with accelerate

_CGROUP = Path("/sys/fs/cgroup")


def total() -> float:
    """Bytes."""
    return min(float(psutil.virtual_memory().total), _limit())


def free() -> float:
    """Bytes that nobody uses at the moment."""
    left = float(psutil.virtual_memory().available)
    try:
        used = int((_CGROUP / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return left
    return min(left, _limit() - used)


def _limit() -> float:
    try:
        return float(int((_CGROUP / "memory.max").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return float("inf")
