"""Mutation testing of ``pluralism_eval/metrics/`` and ``distribution.py``: mutants by mutmut, tests in forks of one session.

    pip install 'mutmut>=3.8'
    python tests/mutation/run.py FOLDER [--sample 1000] [--seed 8]

Works on a copy of the project in FOLDER, and goes on where it stopped when called again with the same one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = (
    "golden/test_metrics.py",
    *(
        f"unit/test_{name}.py"
        for name in (
            "distance", "distribution", "metrics", "metric_edges", "statistics", "uncertainty", "coverage", "entailment",
            "faithfulness", "influence", "judge",
        )
    ),
)  # fmt: skip
SLOW = (  # seconds each, and the same code is tested beside them
    "unit/test_entailment.py::test_the_embedded_judge_on_real_pairs",
    "unit/test_statistics.py::test_equal_methods_are_told_apart_five_times_in_a_hundred",
    "unit/test_statistics.py::test_the_clustered_interval_covers_at_its_nominal_rate_and_the_plain_one_does_not",
    "unit/test_judge.py::test_a_run_that_wins_by_length_alone_gets_one_half",
    "unit/test_distance.py::test_every_released_gold_distribution_against_scipy",
)
CONFIG = """
[mutmut]
source_paths=pluralism_eval
only_mutate=
    pluralism_eval/metrics/*.py
    pluralism_eval/distribution.py
also_copy=
    model_wrappers
    task_configs
    results
"""
GENERATE = """
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.makedirs("mutants", exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.create_mutants(1)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sample", type=int, help="mutants that are tried; default: all")
    parser.add_argument("--seed", type=int, default=8, help="of the sample")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if not (folder / "mutants").exists():
        _copy(folder)
        _python(folder, ["-c", GENERATE], {})
    names = sorted(_mutants(folder))
    if arguments.sample:
        names = random.Random(arguments.seed).sample(names, arguments.sample)
    chosen, found = folder / "chosen.txt", folder / "found.txt"
    chosen.write_text("\n".join(names))
    plugin = ["-p", "tests.mutation.forks", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts="]  # fmt: skip
    tests = [f"tests/{name}" for name in TESTS] + [f"--deselect=tests/{name}" for name in SLOW]
    told = {"MUTANTS": str(chosen), "FOUND": str(found)}
    _python(folder / "mutants", ["-m", "pytest", "-q", *plugin, *tests], told)
    lines = (line.split(" ", 2) for line in found.read_text().splitlines())
    outcomes = {name: outcome for name, outcome, _ in lines}
    print(table({name: outcomes[name] for name in names}))


def table(outcomes: dict[str, str]) -> str:
    """Killed, timed out, survived and untested mutants of every file; a timeout is a kill."""
    rows = []
    for file in [*sorted({_file(name) for name in outcomes}), "all"]:
        n = Counter(o for name, o in outcomes.items() if file in (_file(name), "all"))
        kinds = [n[kind] for kind in ("killed", "timeout", "survived", "untested")]
        score = (kinds[0] + kinds[1]) / sum(kinds)
        rows.append(f"| {file} | {sum(kinds)} | {' | '.join(map(str, kinds))} | {score:.1%} |")
    head = "| file | mutants | killed | timeout | survived | no test | score |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def _file(mutant: str) -> str:
    return mutant.partition(".x")[0].removeprefix("pluralism_eval.")


def _copy(folder: Path) -> None:
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("pluralism_eval", "model_wrappers", "task_configs", "tests", "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in ("model_wrappers", "task_configs"):  # where an installed package has them
        shutil.copytree(ROOT / name, folder / "pluralism_eval" / name, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "setup.cfg").write_text(CONFIG)


def _python(folder: Path, arguments: list[str], more: dict[str, str]) -> None:
    """The base interpreter with this one's packages: an editable installation would shadow the mutants."""
    more = more | {
        "PYTHONPATH": os.pathsep.join([str(folder), sysconfig.get_path("purelib")]),
        "CI": "1",  # Hypothesis: the same examples every time, no deadline
        "OMP_NUM_THREADS": "1",
        "PLURALISM_EVAL_CACHE": str(folder / "cache"),
        "PLURALISM_EVAL_TEST_DATA": os.environ.get(
            "PLURALISM_EVAL_TEST_DATA", str(ROOT.parent / "shared" / "data")
        ),
    }
    python = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([python, *arguments], cwd=folder, env={**os.environ, **more}, check=True)


def _mutants(folder: Path) -> list[str]:
    metas = (folder / "mutants" / "pluralism_eval").rglob("*.meta")
    return [name for meta in metas for name in json.loads(meta.read_text())["exit_code_by_key"]]


if __name__ == "__main__":
    main()
