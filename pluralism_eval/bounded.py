"""Templates and regular expressions of strangers, evaluated in a process of their own that has limits.

No check of its text can tell whether a template ends or a pattern backtracks for ever, and Python cannot interrupt
``"x" * 10**9`` or a match. So a helper process does it; one is started when it is first needed, and again
after it was ended. A request costs some 0.1 ms.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval import bounded_worker
from pluralism_eval.errors import PluralismError

SECONDS = 2.0
"""Processor time of one request."""
_WALL = 30.0
"""Seconds on the clock of one request: the processor may be busy with other things."""


_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""All that the process knows of the environment: no keys."""


class BoundedError(PluralismError):
    """What a stranger's template or pattern said, or which limit it met."""

    def __init__(self, message: str, limit: bool = False) -> None:
        super().__init__(message)
        self.limit = limit


def render(template: str, values: Mapping[str, Any]) -> str:
    """``template`` (Jinja) filled in with plain ``values``.

    Raises:
        BoundedError: what jinja2 says, or a limit: 2 s, 512 MB, 4,000,000 characters.
    """
    return str(_worker.ask("render", template, dict(values)))


def check_template(template: str) -> None:
    """Raises BoundedError where ``template`` is none, or compiling it takes too much."""
    _worker.ask("check_template", template)


def check_chat_template(tokenizer: Any, turns: Sequence[Mapping[str, Any]]) -> None:
    """Fills in a model's chat template here before transformers does it without limits; each template once.

    Other faults of a template are left to whoever uses it.

    Raises:
        PluralismError: it met a limit.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str) or template in _chat_templates:
        return
    special = {k: str(v) for k, v in (getattr(tokenizer, "special_tokens_map", None) or {}).items()}
    values = {"messages": [dict(t) for t in turns], "add_generation_prompt": True, "tools": None}
    try:
        _worker.ask("render_chat", template, {**special, **values})
    except BoundedError as error:
        if error.limit:
            name = getattr(tokenizer, "name_or_path", "")
            raise PluralismError(
                f"the chat template of {name!r} cannot be used: {error}; use another model or template"
            ) from None
    _chat_templates.add(template)


_chat_templates: set[str] = set()
"""Those that were found to be within the limits."""


def check_patterns(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Raises BoundedError where matching all ``patterns`` with all ``names`` takes more than 2 s, or one is none."""
    _worker.ask("match", list(patterns), list(names))


class _Worker:
    """The helper process, by need."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def ask(self, task: str, *arguments: Any) -> Any:
        """What the helper answers. Raises BoundedError."""
        request = json.dumps([task, arguments], default=str).encode()
        with self._lock:
            process = self._running()
            try:
                said = self._exchanged(process, request)
            except (
                BaseException
            ):  # also an interruption: what it answers later must not be taken for another's
                self.end()
                raise
            if said is None:
                self.end()
                raise BoundedError(
                    f"it takes more than {SECONDS:g} s of processor time, or does not end", True
                )
        found = json.loads(said)
        if "error" in found:
            raise BoundedError(found["error"], found.get("limit", False))
        return found["value"]

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; one that this process's parent started before a fork is left to it."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            script = str(Path(bounded_worker.__file__))
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", script, str(SECONDS), json.dumps([p for p in sys.path if p])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )  # fmt: skip
            self._owner = os.getpid()
        return self._process

    @staticmethod
    def _exchanged(process: subprocess.Popen[bytes], request: bytes) -> bytes | None:
        """The answer to ``request``; None where the process ended or gave none in time."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(request).to_bytes(4, "big") + request)
            process.stdin.flush()
        except OSError:  # it ended
            return None
        until = time.monotonic() + _WALL
        received = bytearray()
        while len(received) < 4 or len(received) < 4 + int.from_bytes(received[:4], "big"):
            ready, _, _ = select.select([process.stdout], [], [], max(until - time.monotonic(), 0))
            block = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not block:
                return None
            received += block
        return bytes(received[4:])

    def end(self) -> None:
        """Ends the process, if it is ours."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_worker = _Worker()
atexit.register(_worker.end)
