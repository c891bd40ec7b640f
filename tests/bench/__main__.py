"""``python -m tests.bench``: a study of all methods and tasks on the embedded model, and the same work done plainly.

Ours is `pluralism-eval compare` with nothing kept from before. What it asked its models is then read from its
transcripts and stores and asked again: by the authors' algorithm (:mod:`tests.bench.plain`) and, where it can, by
lm-eval's ``hf`` at its default batch size of 1. Answers must agree: distributions within 1e-4, greedy texts
letter by letter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralism_eval.cache import CACHE_VARIABLE, cache_root
from pluralism_eval.files import write_atomic

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parents[2]
PHASES = ("messages", "selection", "responses", "options", "entailment")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CLOSE = 1e-4


@dataclass
class Asked:
    """What the models of a study were asked, every distinct question of a run once."""

    messages: list[tuple[str, str]] = field(default_factory=list)
    """(community, prompt)"""
    selection: dict[str, str] = field(default_factory=dict)
    """prompt → our text"""
    responses: dict[str, str] = field(default_factory=dict)
    options: dict[str, list[float]] = field(default_factory=dict)
    """prompt → our probabilities of the letters"""
    entailment: list[tuple[str, str]] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    """Phase → how many questions the study answered, those of several runs counted each time."""


def study(folder: Path, arguments: argparse.Namespace, *more: str) -> float:
    """Seconds of one ``compare`` in ``folder``."""
    command = [
        sys.executable, "-m", "pluralism_eval.cli", "compare", "--limit", str(arguments.limit),
        "--set", f"message_max_tokens={arguments.message_tokens}", "--gen", f"max_gen_toks={arguments.tokens}",
        "--set", f"messages={folder / 'store'}", "--output", str(folder / "out"), *more,
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, CACHE_VARIABLE: str(folder / "cache")},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def fresh(folder: Path) -> Path:
    """A folder whose cache holds the unpacked model and the scorer's calibration, and nothing else."""
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "models").symlink_to(cache_root() / "models")
    with (
        closing(sqlite3.connect(cache_root() / "nli.sqlite")) as known,
        closing(sqlite3.connect(cache / "nli.sqlite")) as copy,
    ):
        known.backup(copy)
        check = [key for _, key in _check_keys()]
        copy.execute(f"DELETE FROM nli WHERE key NOT IN ({','.join('?' * len(check))})", check)
        copy.commit()
    return folder


def _check_keys() -> list[tuple[tuple[str, str], str]]:
    """(pair, its key in the store) of the package's check set; computed here if need be."""
    from pluralism_eval.cache import digest
    from pluralism_eval.metrics.entailment import check_accuracy, load_scorer, read_pairs

    check_accuracy("embedded")
    identity = load_scorer("embedded").identity
    return [(pair, digest([identity, *pair])) for pair, _ in read_pairs("nli_check.jsonl")]


def asked_in(folder: Path) -> Asked:
    """Of the study in ``folder``: its transcripts, its message store, and its samples."""
    found = Asked()
    with closing(sqlite3.connect(folder / "store" / "messages.sqlite")) as db:
        for (value,) in db.execute("SELECT value FROM messages ORDER BY key"):
            row = json.loads(value)
            found.messages.append((row["community"], row["prompt"]))
    found.repeated["messages"] = len(found.messages)
    pairs: dict[tuple[str, str], None] = {}
    for run in sorted((folder / "out" / "runs").iterdir()):
        for line in _lines(next(run.glob("transcript_*.jsonl"))):
            selections = iter(line.get("selections", ()))
            for sent in line["sent"]:
                prompt, scores = sent["prompt"], sent.get("scores")
                if sent["round"] == "select":
                    found.selection[prompt] = next(selections)["raw"]
                    found.repeated["selection"] += 1
                elif scores:
                    found.options[prompt] = [2.718281828459045**v for v in scores["logprobs"]]
                    found.repeated["options"] += 1
                elif line["readout"] in ("generation", "harness"):  # harness: the bare model's own
                    found.responses[prompt] = line["response"]
                    found.repeated["responses"] += 1
        for file in run.rglob("samples_pluralism_overton_nli_*.jsonl"):
            for sample in _lines(file):
                own = _pairs(sample)
                found.repeated["entailment"] += len(own)
                pairs |= dict.fromkeys(own)
    found.entailment = list(pairs)
    return found


def _pairs(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of one response and, as a baseline, of the query itself."""
    from pluralism_eval.metrics.coverage import _Item

    return _Item.of(sample["resps"][0][0], sample["doc"]).pairs(True)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def phases_of(folder: Path) -> dict[str, dict[str, float]]:
    """Phase → seconds and floor, summed over the study's runs."""
    found: dict[str, dict[str, float]] = {}
    for file in (folder / "out" / "runs").rglob("results_*.json"):
        for name, row in json.loads(file.read_text())["config"]["utilisation"].items():
            total = found.setdefault(name, dict.fromkeys(("seconds", "floor_seconds", "new_tokens", "prompt_tokens", "saved"), 0.0))  # fmt: skip
            for key in ("seconds", "floor_seconds", "new_tokens", "prompt_tokens"):
                total[key] += row[key]
            total["saved"] += row["reused"] / (1 - row["reused"]) * row["prompt_tokens"]
    return found


def usage_of(folder: Path) -> dict[str, int]:
    """Whose calls, over the study's runs."""
    found = {"llm": 0, "communities": 0}
    for file in (folder / "out" / "runs").rglob("results_*.json"):
        for name, row in json.loads(file.read_text())["config"]["pluralism"]["usage"].items():
            found[name] += row["calls"]
    return found


def timed(work: Callable[[Any], Any], items: Sequence[Any]) -> tuple[float, list[Any]]:
    start = time.perf_counter()
    found = [work(item) for item in items]
    return time.perf_counter() - start, found


def by_plain(asked: Asked, arguments: argparse.Namespace) -> tuple[dict[str, float], list[str]]:
    """(phase → seconds of the plain algorithm, where its answers differ from ours)."""
    from pluralism_eval.communities import adapters
    from pluralism_eval.communities.catalogue import load_pool
    from pluralism_eval.llm import embedded
    from tests.bench.plain import Plain

    members = adapters.resolve_all(load_pool("embedded"))
    plain = Plain(embedded.locate(), {name: adapter.folder for name, adapter in members.items()})
    seconds: dict[str, float] = {}
    differ = []
    seconds["messages"], _ = timed(lambda m: plain.message(*m, arguments.message_tokens), asked.messages)  # fmt: skip
    seconds["selection"], texts = timed(lambda p: plain.text(p, 20, ["\n"]), list(asked.selection))
    differ += _texts("selection", asked.selection, texts)
    seconds["responses"], texts = timed(lambda p: plain.text(p, arguments.tokens), list(asked.responses))  # fmt: skip
    differ += _texts("responses", asked.responses, texts)
    seconds["options"], rows = timed(
        lambda p: plain.options(p, LETTERS[: len(asked.options[p])]), list(asked.options)
    )
    for (prompt, own), row in zip(asked.options.items(), rows, strict=True):
        if max(abs(a - b) for a, b in zip(own, row, strict=True)) > CLOSE:
            differ.append(f"options: {prompt[-60:]!r}: {own} and {row}")
    seconds["entailment"], readings = timed(lambda pair: plain.entailment(*pair), asked.entailment)
    differ += _readings(asked.entailment, readings)
    return seconds, differ


def _texts(phase: str, own: Mapping[str, str], texts: Sequence[str]) -> list[str]:
    return [
        f"{phase}: {prompt[-60:]!r}: {text!r} and {other!r}"
        for (prompt, text), other in zip(own.items(), texts, strict=True)
        if text.strip() != other.strip()
    ]


def _readings(pairs: Sequence[tuple[str, str]], plain: Sequence[tuple[float, float, float]]) -> list[str]:  # fmt: skip
    from pluralism_eval.metrics.nli_embedded import EmbeddedScorer

    own = EmbeddedScorer()._readings(pairs)
    found = []
    for pair, row, (affirmed, denied, alone) in zip(pairs, own, plain, strict=True):
        wanted = (affirmed, alone, affirmed - denied, affirmed - alone)
        if max(abs(a - b) for a, b in zip(row, wanted, strict=True)) > CLOSE:
            found.append(f"entailment: {pair}: {list(row)} and {wanted}")
    return found


def by_hf(asked: Asked, arguments: argparse.Namespace) -> dict[str, float]:
    """Phase → seconds of lm-eval's ``hf`` as it comes; messages by the bare base model, which has no adapters mixed."""
    from lm_eval.models.huggingface import HFLM

    from pluralism_eval.llm import embedded
    from pluralism_eval.llm.harness import HarnessLLM
    from pluralism_eval.readouts import decoding

    model = HarnessLLM(HFLM(embedded.locate(), device="cpu", dtype="float32"), "hf")
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": arguments.message_tokens}
    greedy = decoding(0.0, arguments.tokens, [])
    letters = [list(LETTERS[: len(row)]) for row in asked.options.values()]
    seconds = {}
    for phase, work in {
        "messages": lambda: model.generate([prompt for _, prompt in asked.messages], sampled),
        "selection": lambda: model.generate(list(asked.selection), decoding(0.0, 20, ["\n"])),
        "responses": lambda: model.generate(list(asked.responses), greedy),
        "options": lambda: model.option_logprobs(list(asked.options), letters),
    }.items():
        start = time.perf_counter()
        work()
        seconds[phase] = time.perf_counter() - start
    return seconds


def machine() -> dict[str, Any]:
    import torch
    import transformers

    from pluralism_eval import utilisation

    flops, bandwidth = utilisation.peaks(("cpu", "float32"))
    cpu = [r.partition(":")[2].strip() for r in Path("/proc/cpuinfo").read_text().splitlines() if r.startswith("model name")]  # fmt: skip
    return {
        "cpu": cpu[0] if cpu else platform.processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
        "peak_gflops": flops / 1e9, "bandwidth_gb_s": bandwidth / 1e9,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=2, help="docs a task")
    parser.add_argument("--message-tokens", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=64, help="of a response")
    parser.add_argument(
        "--repeats", type=int, default=3, help="of the study, each with nothing kept"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bench")
    arguments = parser.parse_args()
    here = Path(tempfile.mkdtemp(prefix="pluralism-bench-"))
    try:
        walls, phases = [], []
        for n in range(arguments.repeats):
            folder = fresh(here / str(n))
            walls.append(study(folder, arguments))
            phases.append(phases_of(folder))
            print(f"study {n + 1} of {arguments.repeats}: {walls[-1]:.1f} s", flush=True)
        calls = usage_of(folder)
        rerun = study(folder, arguments)
        for results in (folder / "out" / "runs").iterdir():
            shutil.rmtree(results)
        second = study(folder, arguments, "--methods", "moe,modular_pluralism")
        asked = asked_in(here / "0")
        plain, differ = by_plain(asked, arguments)
        hf = by_hf(asked, arguments)
        stored = usage_of(folder)["communities"]
    finally:
        shutil.rmtree(here, ignore_errors=True)
    found = {
        "machine": machine(),
        "command": "python -m tests.bench " + " ".join(sys.argv[1:]),
        "limit": arguments.limit, "message_tokens": arguments.message_tokens, "tokens": arguments.tokens,
        "asked": {p: len(getattr(asked, p)) for p in PHASES}, "repeated": asked.repeated,
        "study_seconds": walls, "study_plain_seconds": sum(plain.values()), "calls": calls,
        "rerun_seconds": rerun, "second_seconds": second, "second_message_calls": stored,
        "phases": {
            name: {
                "seconds": [row[name]["seconds"] for row in phases],
                "floor_seconds": [row[name]["floor_seconds"] for row in phases],
                "new_tokens": phases[0][name]["new_tokens"], "prompt_tokens": phases[0][name]["prompt_tokens"],
                "saved_tokens": phases[0][name]["saved"], "plain_seconds": plain[name], "hf_seconds": hf.get(name),
            }
            for name in PHASES
        },
        "differ": differ,
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }  # fmt: skip
    write_atomic(arguments.output / "cpu.json", json.dumps(found, indent=1) + "\n")
    report = table(found)
    write_atomic(arguments.output / "README.md", report)
    print(report)
    return 1 if differ else 0


def table(found: Mapping[str, Any]) -> str:
    """The report, as Markdown."""
    m = found["machine"]
    lines = [
        "# Benchmark", "",
        f"`{found['command'].strip()}` on {m['cores']} cores of {m['cpu']} without a GPU; torch {m['torch']}, transformers "
        f"{m['transformers']}, float32; peaks measured in the run: {m['peak_gflops']:.0f} GFLOP/s, {m['bandwidth_gb_s']:.1f} GB/s.",
        "",
        f"Ours is `pluralism-eval compare --limit {found['limit']} --set message_max_tokens={found['message_tokens']} --gen "
        f"max_gen_toks={found['tokens']}` (four methods, five tasks, embedded model) with nothing kept from before, "
        f"{len(found['study_seconds'])} times; the plain algorithm (`tests/bench/plain.py`) and lm-eval's `hf` (batch size 1) "
        "answered each distinct question of it once. Ratios are theirs over ours: least, median, most.",
        "", "| phase | questions | ours (s) | plain / ours | `hf` / ours | floor / ours | prompt tokens reused |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in found["phases"].items():
        ours = row["seconds"]
        floors = [f / s for f, s in zip(row["floor_seconds"], ours, strict=True)]
        saved = row["saved_tokens"] / (row["saved_tokens"] + row["prompt_tokens"])
        lines.append(
            f"| {name} | {found['asked'][name]} | {statistics.median(ours):.1f} | {_spread(row['plain_seconds'], ours)} | "
            f"{_spread(row['hf_seconds'], ours)} | {_three(floors)} | {saved:.0%} |"
        )
    differ = found["differ"]
    lines += [
        "",
        f"The whole study took {_three(found['study_seconds'], 1)} s, start-up, scoring and report included; the plain algorithm "
        f"{found['study_plain_seconds']:.1f} s for the models' work alone: {_spread(found['study_plain_seconds'], found['study_seconds'])} times ours. "
        f"Its calls: {found['calls']['llm']} of the LLM, {found['calls']['communities']} of the communities. The same command again: "
        f"{found['rerun_seconds']:.1f} s. All runs deleted, messages and verdicts kept, `moe` and `modular_pluralism` again: {found['second_seconds']:.1f} s "
        f"with {found['second_message_calls']} message calls. Peak memory {found['peak_mb']:.0f} MB.",
        "",
        "Distributions equal within 1e-4, readings of entailment too, greedy texts letter by letter."
        if not differ
        else "Answers that differ:\n\n" + "\n".join(f"- {line}" for line in differ),
        "",
        *found.get("notes", []),
    ]  # fmt: skip
    return "\n".join(lines)


def _spread(theirs: float | None, ours: Sequence[float]) -> str:
    return "–" if theirs is None else _three([theirs / value for value in ours])


def _three(values: Sequence[float], digits: int = 2) -> str:
    return ", ".join(f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
