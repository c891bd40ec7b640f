"""What our own code costs: ``python -m tests.bench.overhead --docs 100 10000 28763``.

A whole lm-eval run of GlobalOpinionQA with ``modular_pluralism``, 6 communities and a model that takes next to no
time, its messages stored already. Every size runs in a fresh process, so that its peak memory is its own, and once
more with that model alone (``--model``), whose cost is lm-eval's and that of our metrics.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.model import LM

from tests.conftest import AUTHORS_INPUTS, NAMES

TASK = "pluralism_distributional_globalopinionqa"
INPUT = "distributional_test_globalopinionqa"
SMALL = Path(__file__).parents[2] / "pluralism_eval" / "data" / "sample" / f"{INPUT}.json"
WORDS = 60
"""Of a message."""


class Quick(LM):
    """Scores by checksum, and knows the seconds that were spent in it."""

    seconds = 0.0
    prompts = 0
    max_length = 4096

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        since = time.perf_counter()
        Quick.prompts += len({request.args[0] for request in requests})
        found = [
            (-1 - (zlib.crc32(r.args[1].encode(), zlib.crc32(r.args[0].encode())) % 4096) / 1024, False)
            for r in requests
        ]  # fmt: skip
        Quick.seconds += time.perf_counter() - since
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError


def items(n: int) -> Iterator[dict[str, Any]]:
    """The authors' items (else those of the sample), again and again, each time with other texts and ids."""
    source = AUTHORS_INPUTS / f"{INPUT}_small.json"
    real = json.loads((source if source.is_file() else SMALL).read_text(encoding="utf-8"))
    for i in range(n):
        turn, item = i // len(real), real[i % len(real)]
        question = item["question"]
        if turn:
            question = question.replace("Question: ", f"Question: (Wave {turn}) ", 1)
        yield {**item, "id": i, "question": question}


def message(name: str, i: int) -> str:
    words = (f"{name.split('_')[1]}{(i * 7 + j * j) % 997}" for j in range(WORDS))
    return f"Some people of {name} hold this. " + " ".join(words) + "."


def prepare(folder: Path, n: int, store: str) -> None:
    """The data, the pool and its messages, as an earlier run would have left them."""
    from pluralism_eval.communities.pool import make_pool
    from pluralism_eval.data.docs import build_docs
    from pluralism_eval.presets import get_preset
    from pluralism_eval.prompts import Prompts
    from pluralism_eval.requests import option_queries
    from pluralism_eval.settings import parse

    (folder / "messages").mkdir(parents=True)
    rows = list(items(n))
    (folder / f"{INPUT}.json").write_text(json.dumps(rows), encoding="utf-8")
    pool = [
        {"name": name, "description": name, "engine": "served", "base": "base", "model": name,
         "base_url": "http://127.0.0.1:9/v1"}
        for name in NAMES
    ]  # fmt: skip
    (folder / "pool.yaml").write_text(yaml.safe_dump(pool), encoding="utf-8")
    if store == "files":
        for name in NAMES:
            texts = {str(row["id"]): message(name, row["id"]) for row in rows}
            path = folder / "messages" / f"{INPUT}_mistral-{name}.json"
            path.write_text(json.dumps(texts), encoding="utf-8")
        return
    settings = parse("modular_pluralism", _arguments(folder))
    keeper = make_pool(settings, Prompts())
    docs = build_docs("globalopinionqa", rows, {"input": INPUT, "preset": "paper"}, INPUT)
    requests = [_Request(doc, i) for i, doc in enumerate(docs)]
    queries, _ = option_queries(requests, settings, get_preset("paper"))
    for start in range(0, n, 1000):
        keeper.import_messages(
            (query, k, message(name, query.doc_id))
            for query in queries[start : start + 1000]
            for k, name in enumerate(NAMES)
        )


class _Request:
    """As much of lm-eval's ``Instance`` as a query is made of."""

    task_name, idx = TASK, 0

    def __init__(self, doc: dict[str, Any], doc_id: int) -> None:
        self.doc, self.doc_id, self.args = doc, doc_id, (doc["query"], " A")


def _arguments(folder: Path) -> dict[str, Any]:
    return {
        "llm": "quick",
        "communities": str(folder / "pool.yaml"),
        "messages": str(folder / "messages"),
        "transcript": str(folder / "transcript.jsonl"),
    }


def run(folder: Path, model: str, **more: Any) -> dict[str, float]:
    """One run in this process, from the task's data to the saved samples.

    Args:
        more: of the model, beside or instead of what it is given.
    """
    import lm_eval
    from lm_eval.api.registry import model_registry
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    from pluralism_eval import plugin

    plugin.register_models()
    model_registry.register("quick", target=Quick)
    before, since = _peak(), time.perf_counter()
    manager = TaskManager(
        include_path=str(plugin.task_folder()),
        include_defaults=False,
        metadata={"data": str(folder)},
    )
    results = lm_eval.simple_evaluate(
        model=model,
        model_args={**_arguments(folder), **more} if model != "quick" else {},
        tasks=[TASK],
        task_manager=manager,
        log_samples=True,
        use_cache=str(folder / "answers") if model != "quick" else None,
        bootstrap_iters=0,
        verbosity="ERROR",
    )
    tracker = EvaluationTracker(output_path=str(folder / "results"))
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name=TASK, samples=samples[TASK])
    wall = time.perf_counter() - since
    return {
        "docs": results["n-samples"][TASK]["effective"],
        "prompts": Quick.prompts,
        "wall_s": wall,
        "model_s": Quick.seconds,
        "start_gb": before,
        "peak_gb": _peak(),
    }


def _peak() -> float:
    """GB of memory that this process has used at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(n: int, store: str) -> dict[str, float]:
    """Our run of ``n`` docs, and the bare model's, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PLURALISM_EVAL_CACHE": str(folder / "cache")}
        _child(["--prepare", name, "--docs", str(n), "--messages", store], environment)
        ours, bare = (
            json.loads(_child(["--run", name, "--model", model], environment).splitlines()[-1])
            for model in ("modular_pluralism", "quick")
        )
    own = ours["wall_s"] - ours["model_s"]
    return {
        **ours,
        "bare_wall_s": bare["wall_s"] - bare["model_s"],
        "bare_peak_gb": bare["peak_gb"],
        "own_ms_per_prompt": 1000 * own / ours["prompts"],
        "own_ms_per_doc": 1000 * own / ours["docs"],
    }


def _child(arguments: list[str], environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "tests.bench.overhead", *arguments]
    return subprocess.run(
        command, env=environment, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def table(rows: Iterable[dict[str, float]]) -> str:
    head = ("docs", "prompts", "wall s", "model s", "own ms/prompt", "own ms/doc", "peak GB", "bare s", "bare GB")  # fmt: skip
    lines = ["  ".join(f"{h:>13}" for h in head)]
    for r in rows:
        cells = (
            f"{r['docs']:,}", f"{r['prompts']:,}", f"{r['wall_s']:.1f}", f"{r['model_s']:.1f}",
            f"{r['own_ms_per_prompt']:.3f}", f"{r['own_ms_per_doc']:.2f}", f"{r['peak_gb']:.2f}",
            f"{r['bare_wall_s']:.1f}", f"{r['bare_peak_gb']:.2f}",
        )  # fmt: skip
        lines.append("  ".join(f"{c:>13}" for c in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--messages", choices=("store", "files"), default="store")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="modular_pluralism", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(arguments.prepare, arguments.docs[0], arguments.messages)
    elif arguments.run:
        print(json.dumps(run(arguments.run, arguments.model)))
    else:
        rows = [measure(n, arguments.messages) for n in arguments.docs]
        print(table(rows))
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
