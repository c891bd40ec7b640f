"""Work beside other work: in order, at most one piece behind, nothing lost and no error unseen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pluralism_eval import ranks
from pluralism_eval.behind import Behind


def test_the_next_batch_is_worked_on_while_one_is_read() -> None:
    begun, events = {i: threading.Event() for i in range(4)}, []

    def work(batch: int) -> int:
        events.append(("work", batch))
        begun[batch].set()
        return 10 * batch

    def read(batch: int, made: int) -> str:
        if batch < 3:
            assert begun[batch + 1].wait(10), "reading holds up the work"
        events.append(("read", batch))
        return f"{batch}: {made}"

    assert ranks.by_turns(range(4), work, read=read) == ["0: 0", "1: 10", "2: 20", "3: 30"]
    assert [batch for kind, batch in events if kind == "read"] == [0, 1, 2, 3]
    assert not any(thread.name.startswith("behind") for thread in threading.enumerate())


def test_never_more_than_one_piece_behind() -> None:
    may_go_on, started = threading.Event(), []

    def slow(i: int) -> int:
        started.append(i)
        assert may_go_on.wait(10)
        return i

    with Behind() as behind:
        first = behind.start(slow, 1)
        threading.Timer(0.1, may_go_on.set).start()
        second = behind.start(slow, 2)  # waits for the first
        assert first.done()
    assert second.result() == 2
    assert started == [1, 2]


def fail(number: int) -> None:
    raise ValueError(f"piece {number}")


def give(
    *pieces: tuple[Callable[[Any], Any], Any], then: type[BaseException] | None = None
) -> None:
    """All ``pieces`` of work; an error after them, if any."""
    with Behind() as behind:
        for work, given in pieces:
            behind.start(work, given)
        if then:
            raise then


def test_an_error_ends_the_work_at_the_next_piece_or_at_the_end() -> None:
    done: list[Any] = []
    with pytest.raises(ValueError, match="piece 1"):
        give((fail, 1), (done.append, 2))
    with pytest.raises(ValueError, match="piece 3"):
        give((done.append, 2), (fail, 3))
    assert done == [2, 2], "what comes after a failure is lost"
    worked: list[int] = []
    with pytest.raises(ValueError, match="piece 0"):
        ranks.by_turns(range(9), worked.append, read=lambda batch, _: fail(batch))
    assert len(worked) <= 2


def test_an_interruption_waits_for_what_is_being_written(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        give((written.append, "a block"), then=KeyboardInterrupt)
    assert written == ["a block"]
    with caplog.at_level(logging.ERROR), pytest.raises(KeyboardInterrupt):
        give((fail, 7), then=KeyboardInterrupt)
    assert "piece 7" in caplog.text
