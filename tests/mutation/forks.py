"""pytest plugin: runs the collected tests once for every mutant, in a fork of the process that imported them.

mutmut makes the mutants, all in one file with a switch; here the switch is turned. A mutant meets the tests that reach its
function, the fastest first, until one fails. Read from the environment: ``MUTANTS``, a file of names, and ``FOUND``, where
a line ``name outcome test`` is added for each; names that it has already are left out.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation import trampoline

_SPARE, _FACTOR = 5.0, 5.0
"""Seconds of CPU that a mutant may take, and how often longer than the unchanged code."""


def pytest_runtestloop(session: pytest.Session) -> bool:
    hits: set[str] = set()
    reached: dict[str, list[tuple[float, pytest.Item]]] = defaultdict(list)
    trampoline.record_trampoline_hit = lambda name, caller=None: hits.add(name)
    _switch("stats")
    for item in session.items:
        hits.clear()
        started = time.process_time()
        if not _passes(item):
            raise pytest.UsageError(f"{item.nodeid} fails without any mutant")
        for name in hits:
            reached[name].append((time.process_time() - started, item))
    _switch("")
    found = Path(os.environ["FOUND"])
    known = (
        {line.split()[0] for line in found.read_text().splitlines()} if found.exists() else set()
    )
    for name in Path(os.environ["MUTANTS"]).read_text().split():
        if name not in known:
            tests = sorted(reached[name.partition("__mutmut_")[0]], key=lambda pair: pair[0])
            with found.open("a") as file:
                file.write(f"{name} {_outcome(name, tests)}\n")
    return True


def _switch(mutant: str) -> None:
    os.environ["MUTANT_UNDER_TEST"] = mutant
    trampoline.set_mutant_under_test(mutant)


def _passes(item: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=None)
    return not any(report.failed for report in reports)


def _outcome(mutant: str, tests: list[tuple[float, Any]]) -> str:
    """``killed`` and by which test, ``timeout``, ``survived`` or ``untested``."""
    if not tests:
        return "untested -"
    read, write = os.pipe()
    child = os.fork()
    if not child:
        limit = int(_FACTOR * sum(seconds for seconds, _ in tests) + _SPARE)
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit + 1))
        _switch(mutant)
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the process ends soon
        failed = "survived -"
        try:
            failed = next((f"killed {i.nodeid}" for _, i in tests if not _passes(i)), failed)
        except BaseException as error:
            failed = f"killed {type(error).__name__}"
        os.write(write, failed.encode()[:400])
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read().replace("\n", " ") or "timeout -"
