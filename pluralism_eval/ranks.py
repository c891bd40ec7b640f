"""The processes of one launch (``torchrun``, ``accelerate launch``) do one run together.

All of them take the same steps on the same docs, and the first one reports. Where a step is a list of
batches, each is computed by one process and its result given to all. The batches are those of a
single process: what a model makes of a row depends, in the last digits, on the batch around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, overload

from pluralism_eval import heartbeat
from pluralism_eval.behind import Behind
from pluralism_eval.usage import Usage

T = TypeVar("T")
M = TypeVar("M")
R = TypeVar("R")
# one process may compute for hours while the others wait for it; who is gone, heartbeat.py notices
_LONG = timedelta(weeks=52)


class _Launch:
    """This process's place in the launch."""

    rank, size = 0, 1
    group: Any = None
    together = False


_launch = _Launch()


def join(rank: int, size: int) -> None:
    """To be called once by each of the ``size`` processes, after torch has connected them."""
    import torch.distributed as dist

    if _launch.size != size:
        # what is exchanged is small and not on the device
        _launch.group = dist.new_group(backend="gloo", timeout=_LONG)
        _launch.rank, _launch.size = rank, size
        heartbeat.start(rank, size, lambda value: _exchange("heartbeat", value))


def is_first() -> bool:
    """True in the process that reports; in a run of one process always."""
    return _launch.rank == 0


@contextmanager
def together() -> Iterator[None]:
    """Batches are shared inside, which all processes of the launch must enter, with equal data.

    Outside, each process works for itself.
    """
    before, _launch.together = _launch.together, True
    try:
        yield
    finally:
        _launch.together = before


def shared() -> bool:
    """True where batches are computed by turns."""
    return _launch.together and _launch.size > 1


@overload
def by_turns(
    batches: Sequence[T], work: Callable[[T], R], usage: Usage | None = None
) -> list[R]: ...


@overload
def by_turns(
    batches: Sequence[T],
    work: Callable[[T], M],
    usage: Usage | None = None,
    *,
    read: Callable[[T, M], R],
) -> list[R]: ...


def by_turns(
    batches: Sequence[T],
    work: Callable[[T], Any],
    usage: Usage | None = None,
    *,
    read: Callable[[T, Any], Any] | None = None,
) -> list[Any]:
    """``work`` of every batch, in their order; each done by one process and known to all.

    A process that fails leaves at once, and its launcher stops the others.

    Args:
        usage: where ``work`` counts what it uses; afterwards it holds what all processes used.
        read: makes the result of a batch and what ``work`` gave for it, while the next batch is worked on.
    """
    if not shared():
        return _in_order(batches, work, read)
    counted = usage or Usage()
    before = replace(counted)
    _launch.together = False  # within a batch there is nothing to share
    try:
        own = _in_order(batches[_launch.rank :: _launch.size], work, read)
    finally:
        _launch.together = True
    found = _exchange(f"{len(batches)} batches", (own, counted.since(before)))
    for rank, (_, used) in enumerate(found):
        if rank != _launch.rank:
            counted.add(used.calls, used.prompt_tokens, used.new_tokens)
    parts = [iter(part) for part, _ in found]
    return [next(parts[i % _launch.size]) for i in range(len(batches))]


def _in_order(
    batches: Sequence[T], work: Callable[[T], Any], read: Callable[[T, Any], Any] | None
) -> list[Any]:
    if read is None:
        return [work(batch) for batch in batches]
    with Behind() as reading:
        found = [reading.start(read, batch, work(batch)) for batch in batches]
    return [result.result() for result in found]


def agree(value: T) -> T:
    """The first process's ``value``, in all of them: of what may differ, such as a store's content."""
    return _exchange("agree", value if is_first() else None)[0] if shared() else value  # type: ignore[return-value]


def everyones(value: T) -> list[T]:
    """[n_processes] values, by rank."""
    return _exchange("everyones", value) if shared() else [value]


def _exchange(step: str, own: T) -> list[T]:
    import torch.distributed as dist

    found: list[Any] = [None] * _launch.size
    dist.all_gather_object(found, (step, own), group=_launch.group)
    steps = [name for name, _ in found]
    if len(set(steps)) > 1:
        raise RuntimeError(f"the processes of this launch are out of step: {steps}")
    return [value for _, value in found]
