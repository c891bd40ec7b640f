"""One and two processes (``PLURALISM_EVAL_TEST_RANKS``: others too) of a launch give the same run, to the last byte."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import ranks
from pluralism_eval.cache import CACHE_VARIABLE, cache_root
from pluralism_eval.metrics.entailment import check_accuracy
from pluralism_eval.plugin import METHODS
from pluralism_eval.usage import Usage

DOCS = int(os.environ.get("PLURALISM_EVAL_TEST_RANK_DOCS", "1"))
SIZES = [int(n) for n in os.environ.get("PLURALISM_EVAL_TEST_RANKS", "1,2").split(",")]
SCRIPT = """
import json, os, sys
from pathlib import Path
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from pluralism_eval import plugin
from pluralism_eval.metrics import entailment

plugin.register_models()
short = {"preset": "paper+choice_max_tokens=2", "orders": 1}
tasks = TaskManager(
    include_path=str(plugin.task_folder()), include_defaults=False,
    metadata={"data": "sample", "nli": "embedded", **short},
)
small = {"communities": "pool.yaml", "messages": "store", "message_max_tokens": 4, "message_batch": 4, "batch_tokens": 512}
kept = {}
for method in plugin.METHODS:
    path = Path(f"{method}.jsonl")
    found = simple_evaluate(
        method, model_args={**small, **short, "transcript": str(path)},
        tasks=["pluralism"], task_manager=tasks, limit=int(sys.argv[1]), batch_size=2,
        gen_kwargs={"max_gen_toks": 4}, bootstrap_iters=0,
    )
    if found:
        kept[method] = {
            "results": found["results"], "samples": found["samples"], "ours": found["config"]["pluralism"],
            "transcript": path.read_text(),
        }
entailment.load_scorer("embedded").lot = 3
pairs = [("Cats sleep.", f"Some {animal} sleep.") for animal in ("cats", "dogs", "old and very tired dogs", "birds")]
kept["entailment"] = list(entailment.score_pairs("embedded", pairs).values())
if os.environ.get("RANK", "0") == "0":
    Path("found.json").write_text(json.dumps(kept, default=str))
"""


def run(processes: int, folder: Path) -> dict[str, Any]:
    """What is found in ``folder`` after a launch of ``processes``, with a cache of its own."""
    (folder / "cache").mkdir(parents=True)
    (folder / "cache" / "models").symlink_to(cache_root() / "models")
    with (
        closing(sqlite3.connect(cache_root() / "nli.sqlite")) as ours,
        closing(sqlite3.connect(folder / "cache" / "nli.sqlite")) as copy,
    ):
        ours.backup(copy)
    (folder / "pool.yaml").write_text("[embedded/news_left, embedded/news_right]")
    script = folder / "run.py"
    script.write_text(SCRIPT)
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0"]
    launch += ["--num_processes", str(processes)]
    done = subprocess.run(
        [sys.executable, *(launch if processes > 1 else []), str(script), str(DOCS)],
        env={**os.environ, "OMP_NUM_THREADS": "1", CACHE_VARIABLE: str(folder / "cache")},
        cwd=folder, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    with closing(sqlite3.connect(folder / "store" / "messages.sqlite")) as db:
        rows = db.execute("SELECT key, value FROM messages ORDER BY key").fetchall()
    assert not list(folder.glob("*.rank*"))
    return {**json.loads((folder / "found.json").read_text()), "messages": rows}


@pytest.mark.model
def test_processes_of_one_launch_are_one_run(tmp_path: Path) -> None:
    """All methods and automatic tasks. Fewer docs than processes, and batches that do not divide."""
    check_accuracy("embedded")  # kept, so that no launch has to read the check pairs
    with ThreadPoolExecutor(max_workers=2) as two:  # each of one thread, mostly
        alone, *others = two.map(lambda n: run(n, tmp_path / str(n)), SIZES)
    assert [len(alone[method]["results"]) for method in METHODS] == [6] * len(METHODS)
    calls = {m: alone[m]["ours"]["usage"]["communities"]["calls"] for m in METHODS}
    assert (calls["vanilla"], calls["moe"]) == (0, 5 * DOCS)
    assert sum(calls.values()) == len(alone["messages"]) == 5 * DOCS * 2
    for found in others:
        assert found.keys() == alone.keys()
        for part, value in alone.items():
            assert json.dumps(found[part]) == json.dumps(value), part


def one_of(rank: int, size: int, folder: str, queue: Any) -> None:
    """A process of a launch without a model: it shares five batches, and its own mishap."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    ranks.join(rank, size)
    usage, seen = Usage(calls=7), []

    def work(batch: str) -> str:
        seen.append(batch)
        usage.add(1, len(batch), 2)
        assert ranks.by_turns(["within a batch nothing is shared"], str.upper)[0].isupper()
        return batch.upper()

    apart = ranks.by_turns("xy", str.upper)
    with ranks.together():
        done = ranks.by_turns(["a", "bb", "ccc", "dddd", "eeeee"], work, usage)
        first = ranks.agree(f"rank {rank} says")
        try:
            ranks.by_turns("x" * (rank + 1), str.upper)
        except RuntimeError as error:
            queue.put((rank, apart, done, seen, first, usage, str(error)))
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_batches_usage_and_decisions_are_shared(size: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=one_of, args=(rank, size, str(tmp_path), queue))
        for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    found = sorted((queue.get(timeout=120) for _ in workers), key=lambda each: each[0])
    for worker in workers:
        worker.join()
    assert [each[3] for each in found] == [
        ["a", "bb", "ccc", "dddd", "eeeee"][rank::size] for rank in range(size)
    ]
    for _, apart, done, _, first, usage, error in found:
        assert apart == ["X", "Y"]
        assert done == ["A", "BB", "CCC", "DDDD", "EEEEE"]
        assert first == "rank 0 says"
        assert usage == Usage(7 + 5, 15, 10)
        assert "out of step" in error
