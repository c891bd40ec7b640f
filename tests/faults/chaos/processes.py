"""Commands of this package as processes that can be killed: in a new interpreter, or forked from a warm one.

A warm one has imported what commands need, so that a kill in its first seconds hits work and not imports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Lock, Thread

from pluralism_eval.errors import PluralismError
from tests.faults.chaos.warm import limit

PATIENCE = 600.0
"""Seconds that a command may take."""
_NONE = -1
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Place:
    """Where commands run."""

    folder: Path
    environment: Mapping[str, str]


class Warm:
    """The process that forks commands; see :mod:`tests.faults.chaos.warm`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.chaos.warm"], env={**os.environ, **environment}, cwd=_ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.statuses: dict[int, int] = {}
        self._pids: Queue[int] = Queue()
        self._lock = Lock()
        Thread(target=self._read, daemon=True).start()
        self._started()
        self.seconds = time.monotonic() - began
        """That its imports took."""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "status" in told:
                self.statuses[told["pid"]] = told["status"]
            else:
                self._pids.put(told["pid"])
        self._pids.put(_NONE)

    def _started(self) -> int:
        """What it answers next."""
        pid = self._pids.get(timeout=PATIENCE)
        if pid == _NONE:
            raise PluralismError(
                f"the process that starts commands has ended (status {self._process.wait()}); is there memory enough?"
            )
        return pid

    def status(self, pid: int) -> int | None:
        """Of the command ``pid``; None while it runs."""
        ended = self._process.poll() is not None  # and whatever it started with it
        return self.statuses.get(pid, -signal.SIGKILL if ended else None)

    def start(
        self, argv: Sequence[str], place: Place, out: Path, err: Path, most: int | None
    ) -> int:
        """The process id of a new command."""
        environment = {**os.environ, **place.environment}
        told = {"argv": list(argv), "folder": str(place.folder), "environment": environment,
                "out": str(out), "err": str(err), "most": most}  # fmt: skip
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
            return self._started()

    def close(self) -> None:
        """Ends it and all that it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


class Started:
    """A running command; what it says goes to files, so that no pipe outlives it."""

    def __init__(
        self,
        argv: Sequence[str],
        place: Place,
        log: Path,
        warm: Warm | None,
        most: int | None = None,
    ) -> None:
        """
        Args:
            log: its output goes to ``log.out`` and ``log.err``.
            warm: who forks it; None: a new interpreter.
            most: bytes that a file may grow to, as if the disk were full beyond.
        """
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        self._began, self._ended = time.monotonic(), 0.0
        self._warm, self._new = warm, None
        if warm is not None:
            self.pid = warm.start(argv, place, self._out, self._err, most)
            return
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._new = subprocess.Popen(
                [sys.executable, "-m", "pluralism_eval.cli", *argv], cwd=place.folder,
                env={**os.environ, **place.environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True, preexec_fn=lambda: limit(most),
            )  # fmt: skip
        self.pid = self._new.pid

    @property
    def seconds(self) -> float:
        """From its start to now, or to when it was seen to have ended."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        found = self._new.poll() if self._new else self._warm.status(self.pid)  # type: ignore[union-attr]
        if found is not None:
            self._ended = self._ended or time.monotonic()
        return found

    def send(self, number: signal.Signals) -> None:
        """To it and all that it started."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit status; None if it did not end in time (it is killed then)."""
        while self.status is None:
            if self.seconds > seconds:
                self.send(signal.SIGKILL)
                while self.status is None:
                    time.sleep(0.005)
                return None
            time.sleep(0.002)
        return self.status

    def said(self) -> str:
        """Its standard output."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def complaint(self) -> str:
        """What it wrote to standard error."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left running, whatever happened."""
        self.send(signal.SIGKILL)
        self.wait(0)
