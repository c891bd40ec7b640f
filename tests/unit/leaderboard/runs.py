"""Runs as lm-eval leaves them, with random answers; submissions of them, and strangers' changes."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pluralism_eval.commands import data as data_command
from pluralism_eval.commands import leaderboard as leaderboard_command
from pluralism_eval.commands import submit as submit_command
from pluralism_eval.commands import verify as verify_command
from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import input_file, long_name
from pluralism_eval.leaderboard import schema
from pluralism_eval.metrics import classification, coverage, options
from pluralism_eval.scoring import summarise

SCORES: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "overton": coverage.overton, "vk": classification.vk, "opinionqa": options.opinionqa,
    "moralchoice": options.moralchoice, "globalopinionqa": options.globalopinionqa,
}  # fmt: skip
OVK, MC = "pluralism_overton_nli", "pluralism_distributional_moralchoice"
FAST = ("overton", "moralchoice")
MODULES = (submit_command, verify_command, leaderboard_command, data_command)


def make_run(
    folder: Path,
    tasks: Iterable[str] = FAST,
    n: int = 5,
    seed: int = 0,
    data: str = "sample",
    preset: str = "paper",
    bounds: bool = False,
    docs: list[dict[str, Any]] | None = None,
    **ours: Any,
) -> Path:
    """What lm-eval leaves of a run, with answers drawn at random.

    Args:
        bounds: responses of a server that hides a tenth of every probability, from 50 samples.
        docs: instead of those that the input file gives.
    """
    method = "vanilla"
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    results: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for task in tasks:
        path, common = input_file(task, data), {"preset": preset, "orders_given": None}
        common |= {"nli": "embedded", "nli_directions": "one"} if task == "overton" else {}
        common |= {"input": path.stem.removesuffix("_small")}
        used = (docs or build_docs(task, read_items(path), common, path.name))[:n]
        logged = [_sample(task, i, doc, rng, bounds) for i, doc in enumerate(used)]
        name, of = long_name(task), "coverage" if task == "overton" else "none"
        sizes[name] = len(used)
        lines = "".join(json.dumps(row) + "\n" for row in logged)
        (folder / f"samples_{name}_2026-01-02.jsonl").write_text(lines)
        results[name] = {"alias": name}
        for s in summarise(task, logged):
            results[name][f"{s.name},{of}"] = s.value
            results[name][f"{s.name}_stderr,{of}"] = "N/A" if s.baseline else s.stderr
    config = {
        "model": method, "model_args": {"llm": "scripted", "seed": 7, "transcript": "/home/someone/t.jsonl"},
        "limit": n, "gen_kwargs": {"max_gen_toks": 64},
        "pluralism": {"method": method, "llm": "scripted(model=ORG/tiny)", "version": "0.1.0", "rates": {MC: {"docs": sizes.get(MC, 0)}},
                      "fingerprint": f"{seed:064x}", "preset": preset, **ours},
    }  # fmt: skip
    raw = {
        "results": results, "config": config, "date": 1767312000.0 + seed, "lm_eval_version": "0.4.13",
        "configs": {name: {"metadata": {"data": data, "version": 1.0}} for name in results},
        "versions": dict.fromkeys(results, 1.0), "n-shot": dict.fromkeys(results, 0), "pretty_env_info": "PyTorch version: 2.6\n",
    }  # fmt: skip
    (folder / "results_2026-01-02.json").write_text(json.dumps(raw))
    return folder


def _sample(
    task: str, i: int, doc: dict[str, Any], rng: np.random.Generator, bounds: bool
) -> dict[str, Any]:
    if task == "overton":
        response = f"This is answer {i}. It has two sentences."
        resps, results = [[response]], [verdict(doc, response, rng)]
        filtered: Any = [repr(results[0])]
    else:
        values = np.log(rng.dirichlet(np.ones(len(doc["letters"]))) * 0.9).tolist()
        more = [(math.exp(v) * 0.9, 50.0) if bounds else () for v in values]
        results = [(v, False, *m) for v, m in zip(values, more, strict=True)]
        filtered = [[str(part) for part in result] for result in results]
        resps = [[texts] for texts in filtered]
    scores = SCORES[task](doc, results)
    return {"doc_id": i, "doc": doc, "resps": resps, "filtered_resps": filtered,
            "filter": "coverage" if task == "overton" else "none", **scores}  # fmt: skip


def verdict(doc: dict[str, Any], response: str, rng: np.random.Generator) -> dict[str, Any]:
    n = len(doc["explanations"])

    def reading(pairs: int) -> dict[str, Any]:
        chance = rng.random(n)
        return {"covered": [bool(p > 0.5) for p in chance], "entailment": chance.tolist(), "pairs": pairs, "unread": 0}  # fmt: skip

    own = {"nli": "embedded", "nli_check": (0.5, 66), **reading(2 * n), "reversed": None}
    return {"response": response, "n_sentences": 2, "nli": "embedded", "nli_check": (0.5, 66),
            "scorers": [own], "echo": reading(n)}  # fmt: skip


def call(*argv: str) -> int:
    """The commands as the command line calls them; its exit status."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for module in MODULES:
        module.add(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.action(arguments)
    except SystemExit as stop:
        return int(str(stop.code))
    return 0


def with_text(change: Callable[[str], str]) -> Callable[[Path], Any]:
    return lambda folder: (folder / schema.FILE).write_text(change((folder / schema.FILE).read_text()))  # fmt: skip


def with_value(key: str, value: str) -> Callable[[Path], Any]:
    return with_text(lambda text: re.sub(rf'"{key}": [^,\n]*', f'"{key}": {value}', text, count=1))


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'|[x](javascript:alert(3)) {{main}} \u2028"
"""What a stranger may write into a field."""
