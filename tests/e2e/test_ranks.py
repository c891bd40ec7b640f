"""One, two and three processes of a launch give the same run, to the last byte."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.model
SCRIPT = """
import json, sys
from pathlib import Path
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from pluralism_eval import plugin

plugin.register_models()
out = Path(sys.argv[1])
tasks = TaskManager(
    include_path=str(plugin.task_folder()), include_defaults=False, metadata={"data": "sample", "nli": "embedded"}
)
found = simple_evaluate(
    "modular_pluralism",
    model_args={
        "communities": sys.argv[2], "messages": "store", "message_max_tokens": 4, "message_batch": 4,
        "batch_tokens": 512, "transcript": "transcript.jsonl",
    },
    tasks=["pluralism_overton_nli", "pluralism_steerable_vk", "pluralism_distributional_globalopinionqa"],
    task_manager=tasks, limit=3, gen_kwargs={"max_gen_toks": 6}, bootstrap_iters=0,
)
if found:
    kept = {name: found[name] for name in ("results", "samples")} | {"ours": found["config"]["pluralism"]}
    Path("results.json").write_text(json.dumps(kept, default=str))
"""


def run(processes: int, folder: Path, pool: Path) -> dict[str, Any]:
    folder.mkdir()
    script = folder.parent / "run.py"
    script.write_text(SCRIPT)
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    done = subprocess.run(
        [sys.executable, *(launch if processes > 1 else []), str(script), str(folder), str(pool)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder, capture_output=True, text=True, check=False,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    with sqlite3.connect(folder / "store" / "messages.sqlite") as db:
        rows = db.execute("SELECT key, value FROM messages ORDER BY key").fetchall()
    return {
        **json.loads((folder / "results.json").read_text()),
        "transcript": (folder / "transcript.jsonl").read_text(),
        "messages": rows,
    }


def test_processes_of_one_launch_are_one_run(tmp_path: Path) -> None:
    """3 docs a task and batches of 4: neither docs nor batches divide by the number of processes."""
    pool = tmp_path / "pool.yaml"
    pool.write_text("[embedded/news_left, embedded/news_right]")
    alone = run(1, tmp_path / "1", pool)
    assert len(alone["messages"]) == 3 * 3 * 2
    assert alone["ours"]["usage"]["communities"]["calls"] == 3 * 3 * 2
    assert alone["ours"]["usage"]["llm"]["calls"] > 0
    for processes in (2, 3):
        found = run(processes, tmp_path / str(processes), pool)
        for part, value in alone.items():
            assert json.dumps(found[part]) == json.dumps(value), (processes, part)
