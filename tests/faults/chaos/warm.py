"""A process that has imported what commands import, and forks one for each command it is told.

Told by JSON lines on its standard input; it answers ``{"pid": n}``, and ``{"pid": n, "status": s}`` once that one has
ended. When its input ends, so do all that it started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

_IMPORTS = (
    "lm_eval.__main__", "lm_eval.evaluator", "matplotlib.pyplot", "openai", "sklearn.linear_model", "statsmodels.api",
    "transformers", "pluralism_eval.cli", "pluralism_eval.llm.openai_api",
)  # fmt: skip


def main() -> None:
    _import_all()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; whoever started it ends it
    signal.set_wakeup_fd(wake)
    running: set[int] = set()
    answer({"pid": 0})  # ready
    while True:
        ready, _, _ = select.select([sys.stdin, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _bury(running)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                break
            running.add(_fork(json.loads(line)))
    for pid in running:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for pid in running:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def answer(value: dict[str, int]) -> None:
    print(json.dumps(value), flush=True)


def _bury(running: set[int]) -> None:
    """Says of each child that has ended how it did."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            running.discard(pid)
            answer({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _fork(told: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        with suppress(OSError):
            os.setpgid(pid, pid)  # also here: it may be killed before it comes to it
        answer({"pid": pid})
        return pid
    status = 1
    try:
        status = _command(**told)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)


def _command(
    argv: list[str], folder: str, environment: dict[str, str], out: str, err: str, most: int | None
) -> int:
    """What the ``pluralism-eval`` script does; files may not grow beyond ``most`` bytes."""
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, number, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (out, 1, os.O_WRONLY),
        (err, 2, os.O_WRONLY),
    ):
        os.dup2(os.open(name, flags | os.O_CREAT, 0o644), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    limit(most)
    sys.argv = ["pluralism-eval", *argv]
    from pluralism_eval import cli

    return cli.main(argv)


def limit(most: int | None) -> None:
    """No file of this process may grow beyond ``most`` bytes, as if the disk were full there."""
    if most is not None:
        import resource  # POSIX only

        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _import_all() -> None:
    for name in _IMPORTS:
        import_module(name)
    from lm_eval.api.registry import get_model

    from pluralism_eval import plugin

    plugin.register_models()
    for method in plugin.METHODS:
        get_model(method)


if __name__ == "__main__":
    main()
