"""A whole study (``pluralism-eval compare``) on the embedded model, and what its models were asked in it."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralism_eval.cache import CACHE_VARIABLE, cache_root
from pluralism_eval.llm import embedded
from pluralism_eval.metrics import exchanges
from pluralism_eval.metrics.coverage import _Item
from pluralism_eval.metrics.entailment import read_pairs
from pluralism_eval.results import read_run, runs_below

LLM = "embedded:chat=true"
"""With its chat template: without one it ends most responses at once, and nothing is left to measure."""
PHASES = ("messages", "selection", "responses", "options", "entailment")


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    limit: int = 6
    """Docs a task."""
    message_tokens: int = 40
    tokens: int = 64
    """Of a response."""
    methods: str = "vanilla,prompting,moe,modular_pluralism"
    tasks: str = "overton,vk,opinionqa,moralchoice,globalopinionqa"
    repeats: int = 3
    """Of the phases, each with models that are loaded."""
    studies: int = 2
    """Whole studies, each with nothing kept."""
    shares: dict[str, int] = field(
        default_factory=lambda: {
            "messages": 48,
            "selection": 12,
            "responses": 12,
            "options": 48,
            "entailment": 60,
        }
    )
    """Phase → how many of the study's questions are put to all three; 0: every one."""
    long: int = 64
    """Messages of up to ``long_tokens`` tokens; 0: none."""
    long_tokens: int = 256


QUICK = Sizes(
    limit=1, message_tokens=6, tokens=8, methods="modular_pluralism", tasks="overton,vk", repeats=1, studies=1,
    shares={"messages": 2, "selection": 1, "responses": 1, "options": 1, "entailment": 6}, long=4, long_tokens=8,
)  # fmt: skip


@dataclass
class Asked:
    """Everything that the models of a study were asked, in every one of its runs."""

    messages: list[tuple[str, str]] = field(default_factory=list)
    """(community, prompt); each once, since runs share them"""
    selection: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    options: list[tuple[str, int]] = field(default_factory=list)
    """(prompt, number of options)"""
    entailment: list[tuple[str, str]] = field(default_factory=list)
    """(premise, hypothesis); each once, since runs share them: of responses, of queries as a baseline, of messages
    with responses, and of the scorer's check set"""


class Study:
    """One ``compare`` in a folder of its own, whose cache begins with the unpacked model alone."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        (folder / "cache").mkdir(parents=True)
        embedded.locate()
        (folder / "cache" / "models").symlink_to(cache_root() / "models")

    def arguments(self, methods: str, output: str) -> list[str]:
        s = self.sizes
        return [
            "compare", "--llm", LLM, "--methods", methods, "--tasks", s.tasks, "--limit", str(s.limit),
            "--set", f"message_max_tokens={s.message_tokens}", "--gen", f"max_gen_toks={s.tokens}",
            "--set", f"messages={self.folder / 'store'}", "--output", str(self.folder / output),
        ]  # fmt: skip

    def run(self, methods: str = "", output: str = "out") -> float:
        """Its seconds. Raises RuntimeError with what it said if it failed."""
        given = self.arguments(methods or self.sizes.methods, output)
        command = [sys.executable, "-m", "pluralism_eval.cli", *given]
        environment = {
            **os.environ, CACHE_VARIABLE: str(self.folder / "cache"), "HF_HUB_OFFLINE": "1", "PLURALISM_EVAL_NLI": "embedded",
        }  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return seconds

    def _results(self, output: str) -> Iterator[dict[str, Any]]:
        for file in sorted((self.folder / output / "runs").rglob("results_*.json")):
            yield json.loads(file.read_text(encoding="utf-8"))["config"]

    def phases(self) -> dict[str, dict[str, float]]:
        """Phase → seconds, floor_seconds, prompt and new tokens, over its runs."""
        keys = ("seconds", "floor_seconds", "prompt_tokens", "new_tokens")
        found: dict[str, dict[str, float]] = {}
        for config in self._results("out"):
            for name, row in config["utilisation"].items():
                total = found.setdefault(name, dict.fromkeys(keys, 0.0))
                for key in keys:
                    total[key] += row[key]
        return found

    def calls(self, output: str = "out") -> dict[str, int]:
        """Whose calls, over its runs."""
        found = {"llm": 0, "communities": 0}
        for config in self._results(output):
            for name, row in config["pluralism"]["usage"].items():
                found[name] += row["calls"]
        return found

    def stamps(self) -> dict[str, int]:
        """Of every file of results: what a further run would change."""
        return {
            str(file): file.stat().st_mtime_ns
            for file in (self.folder / "out" / "runs").rglob("results_*.json")
        }

    def asked(self) -> Asked:
        """From its transcripts, its stores and its samples.

        Raises:
            ValueError: the scorer's store holds another number of pairs.
        """
        found = Asked()
        with closing(sqlite3.connect(self.folder / "store" / "messages.sqlite")) as db:
            for (value,) in db.execute("SELECT value FROM messages ORDER BY key"):
                row = json.loads(value)
                found.messages.append((row["community"], row["prompt"]))
        pairs: dict[tuple[str, str], None] = {}
        for run in sorted((self.folder / "out" / "runs").iterdir()):
            for line in _lines(next(run.glob("transcript_*.jsonl"))):
                for sent in line["sent"]:
                    if sent["round"] == "select":
                        found.selection.append(sent["prompt"])
                    elif sent.get("scores"):
                        n_options = len(sent["scores"]["logprobs"])
                        found.options.append((sent["prompt"], n_options))
                    else:
                        found.responses.append(sent["prompt"])
            for file in run.rglob("samples_pluralism_overton_nli_*.jsonl"):
                for sample in _lines(file):
                    ((response,),) = sample["resps"]
                    pairs |= dict.fromkeys(_Item.of(response, sample["doc"]).pairs(True))
        for file in runs_below(self.folder / "out" / "runs"):
            run = read_run(file)
            if run.ours["method"] in exchanges.METHODS:  # the page: which message said it
                for doc in exchanges.exchanges(run):
                    pairs |= dict.fromkeys(exchanges.pairs_of(doc.messages, doc.sentences))
        pairs |= dict.fromkeys(pair for pair, _ in read_pairs("nli_check.jsonl"))
        with closing(sqlite3.connect(self.folder / "cache" / "nli.sqlite")) as db:
            (kept,) = db.execute("SELECT count(*) FROM nli").fetchone()
        if kept != len(pairs):
            raise ValueError(f"the scorer was asked {kept} pairs, its samples show {len(pairs)}")
        found.entailment = list(pairs)
        return found


def peak_gb(who: int = resource.RUSAGE_SELF) -> float:
    """Memory that this process, or the largest that it started, has used at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e9


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
