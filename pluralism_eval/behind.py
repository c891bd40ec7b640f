"""Work that goes on beside other work: results are read and written while the model computes the next ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Behind:
    """A thread that does what it is given, in order; never more than one piece behind.

    An error is raised when the next piece is given, which is done all the same, or at the end. The end waits for the last piece, also when
    the work before it was interrupted.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="behind")
        self._last: Future[Any] | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()
        elif self._last is not None and (also := self._last.exception()) is not None:
            log.error("Another error, meanwhile: %s", also)

    def start(self, work: Callable[..., T], *given: Any) -> Future[T]:
        """``work(*given)``, once the piece before it is done; returns then, and raises what went wrong with that one."""
        before, self._last = self._last, self._thread.submit(work, *given)
        if before is not None:
            before.result()
        return self._last

    def wait(self) -> None:
        """Until nothing is left to do. Raises what went wrong."""
        if self._last is not None:
            self._last.result()
