"""``python -m tests.bench``: what the models' work costs here, by the plain algorithm, and by lm-eval's ``hf``.

Whole studies run first, each with nothing kept. A sample of what their models were asked, evenly spread, is then put
to ours, to the authors' algorithm (:mod:`tests.bench.plain`) and to lm-eval's ``hf`` in turn. Answers must agree:
distributions and readings within 1e-4, greedy texts letter by letter (ties of floating-point numbers aside).
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import json
import logging
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pluralism_eval.files import write_atomic
from tests.bench.report import table
from tests.bench.study import PHASES, QUICK, Asked, Sizes, Study, peak_gb

ROOT = Path(__file__).parents[2]


def _say(line: str) -> None:
    print(line, flush=True)


def studies(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], Asked]:
    """Walls, phases and calls of whole studies; of a rerun, and of a method that finds all messages stored."""
    walls, phases = [], []
    for n in range(sizes.studies):
        study = Study(folder / str(n), sizes)
        walls.append(study.run())
        phases.append(study.phases())
        _say(f"study {n + 1} of {sizes.studies}: {walls[-1]:.1f} s")
    asked = study.asked()
    before = study.stamps()
    rerun = study.run()
    unchanged = study.stamps() == before
    second = study.run("modular_pluralism", "second")
    _say(f"rerun: {rerun:.1f} s, modular_pluralism over stored messages: {second:.1f} s")
    return {
        "command": "pluralism-eval " + " ".join(study.arguments(sizes.methods, "OUTPUT")).replace(str(study.folder), "FOLDER"),
        "seconds": walls,
        "phases": {
            name: {"questions": len(getattr(asked, name)), "seconds": [row[name]["seconds"] for row in phases],
                   "floor_seconds": [row[name]["floor_seconds"] for row in phases],
                   "prompt_tokens": phases[0][name]["prompt_tokens"], "new_tokens": phases[0][name]["new_tokens"]}
            for name in PHASES
        },
        "calls": study.calls(),
        "rerun": {"seconds": rerun, "runs_repeated": not unchanged},
        "stored_messages": {"seconds": second, "calls": study.calls("second")},
        "peak_gb": peak_gb(resource.RUSAGE_CHILDREN),
    }, asked  # fmt: skip


def spread(items: Sequence[Any], n: int) -> list[Any]:
    """``n`` of ``items``, evenly spread; all for 0."""
    if not n or n >= len(items):
        return list(items)
    return [items[int((i + 0.5) * len(items) / n)] for i in range(n)]


def machine() -> dict[str, Any]:
    import torch
    import transformers

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
    }  # fmt: skip


def bench(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Everything, as it goes into the file."""
    whole, asked = studies(folder, sizes)
    from tests.bench.phases import Contenders

    contenders = Contenders(sizes)
    found = {
        name: contenders.measure(name, spread(getattr(asked, name), sizes.shares[name]), _say)
        for name in PHASES
    }
    long = None
    if sizes.long:
        long = contenders.long_messages(spread(asked.messages, sizes.long))
        _say(f"messages of up to {sizes.long_tokens} tokens: {long['tokens_per_second_ratio']:.2f}")
    return {
        "machine": machine(), "sizes": asdict(sizes), "study": whole,
        "phases": {name: asdict(measured) for name, measured in found.items()},
        "long_messages": long,
        "peak_gb_of_all_in_one_process": peak_gb(),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test of about two minutes")
    add(
        "--full",
        action="store_true",
        help="every question of the study to all three: half an hour or more",
    )
    add("--limit", type=int, help=f"docs a task (default: {Sizes.limit})")
    add("--repeats", type=int, help=f"of the phases (default: {Sizes.repeats})")
    add("--studies", type=int, help=f"whole ones (default: {Sizes.studies})")
    add(
        "--long",
        type=int,
        help=f"messages of up to {Sizes.long_tokens} tokens (default: {Sizes.long})",
    )
    add("--output", type=Path, default=ROOT / "results" / "bench")  # fmt: skip
    arguments = parser.parse_args()
    given = {
        name: getattr(arguments, name)
        for name in ("limit", "repeats", "studies", "long")
        if getattr(arguments, name) is not None
    }
    sizes = replace(QUICK if arguments.quick else Sizes(), **given)
    if arguments.full:
        sizes = replace(sizes, shares=dict.fromkeys(PHASES, 0))
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pluralism-bench-") as name:
        found = bench(sizes, Path(name))
    found = {
        "command": " ".join(["python -m tests.bench", *sys.argv[1:]]),
        "seconds": time.perf_counter() - start,
        **found,
    }
    write_atomic(arguments.output / "cpu.json", json.dumps(found, indent=1) + "\n")
    report = table(found)
    write_atomic(arguments.output / "README.md", report)
    print(report)
    faults = [line for row in found["phases"].values() for line in row["differ"]]
    return 1 if faults or found["study"]["rerun"]["runs_repeated"] else 0


if __name__ == "__main__":
    sys.exit(main())
