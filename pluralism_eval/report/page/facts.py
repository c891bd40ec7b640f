"""What was run, and where everything came from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval import heard
from pluralism_eval.json_files import read_json
from pluralism_eval.report.page.examples import headline
from pluralism_eval.report.page.markup import pairs, plain_table, text
from pluralism_eval.results import Run
from pluralism_eval.tasks import task_names

_VERSIONS = (
    ("lm-eval", "lm_eval_version"),
    ("transformers", "transformers_version"),
    ("git commit of the working folder", "git_hash"),
    ("model source", "model_source"),
    ("chat template (SHA)", "chat_template_sha"),
    ("system instruction (SHA)", "system_instruction_sha"),
)
_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


def results_of(run: Run) -> Mapping[str, Any]:
    """The whole results file of ``run``; {} where it is gone."""
    try:
        loaded = read_json(run.path)
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def summary(runs: Mapping[str, Run]) -> str:
    """One line a run, and the data."""
    rows = [["run", "method", "LLM", "pool", "preset", "docs", "wall time"]]
    for label, run in runs.items():
        docs = sum(len(samples) for samples in run.samples.values())
        rows.append(
            [label, run.name, run.llm or "–", _pool(run), str(run.ours.get("preset", "–")), str(docs), _time(run.seconds)]
        )  # fmt: skip
    data = [["task", "input", "docs", "of"]]
    for task in tasks_of(runs):
        samples = next(run.samples[task] for run in runs.values() if run.samples.get(task))
        of = {_total(run, task) for run in runs.values() if task in run.samples} - {""}
        counts = {len(run.samples[task]) for run in runs.values() if task in run.samples}
        source = samples[0]["doc"].get("pluralism", {}).get("input", "–")
        shown = [
            ", ".join(sorted(map(str, found), key=lambda c: (len(c), c))) for found in (counts, of)
        ]
        rows_of = [headline(task)[0], str(source), shown[0], shown[1] or "–"]
        data.append(rows_of)
    return plain_table(rows, "Runs") + plain_table(data, "Data")


def tasks_of(runs: Mapping[str, Run]) -> list[str]:
    """lm-eval's names of all tasks with samples, ours first."""
    found = {task for run in runs.values() for task, samples in run.samples.items() if samples}
    own = [task for task in task_names() if task in found]
    return own + sorted(found - set(own))


def _pool(run: Run) -> str:
    communities = run.ours.get("communities") or []
    if not communities:
        return "–"
    return f"{run.pool or 'default'} ({len(communities)} communities)"


def _total(run: Run, task: str) -> str:
    return str(results_of(run).get("n-samples", {}).get(task, {}).get("original", ""))


def _time(seconds: float | None) -> str:
    if seconds is None or seconds < 0.5:  # lm-eval's own clock stops at once for a loaded run
        return "not kept"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )


def provenance(runs: Mapping[str, Run]) -> str:
    """One fold a run: versions, settings, seeds, hashes, communities, cost."""
    return "".join(
        f'<details class="run"><summary><bdi>{text(label)}</bdi></summary>{_provenance(run)}</details>'
        for label, run in runs.items()
    )


def _provenance(run: Run) -> str:
    results, ours, config = results_of(run), run.ours, run.config
    versions = [("pluralism-eval", ours.get("version"))]
    versions += [(name, results.get(key)) for name, key in _VERSIONS]
    versions.insert(3, ("torch", _torch(str(results.get("pretty_env_info") or ""))))
    done = [
        ("method", ours.get("method") or config.get("model")),
        ("LLM", run.llm),
        ("preset", ours.get("preset")),
        ("mode", ours.get("mode")),
        ("readout", ours.get("readout")),
        ("readout used", ours.get("readout_used")),
        ("listening", _listening(ours.get("listening"))),
        ("seed of messages", ours.get("seed")),
        ("lm-eval's seeds", ", ".join(f"{n.removesuffix('_seed')} {config[n]}" for n in _SEEDS if n in config)),
        ("limit", config.get("limit")),
        ("fingerprint", ours.get("fingerprint")),
        ("date", _date(results.get("date"))),
        ("wall time", _time(run.seconds)),
        ("results file", run.path.name),
    ]  # fmt: skip
    blocks = [pairs([*versions, *done])]
    if ours.get("communities"):
        blocks.append(f"<h4>Communities</h4>{_communities(ours)}")
    hashes = results.get("task_hashes") or {}
    if hashes:
        numbers = results.get("versions", {})
        rows = [["task", "version", "hash of its docs and prompts"]]
        rows += [[task, str(numbers.get(task, "–")), digest] for task, digest in hashes.items()]
        blocks.append(f"<h4>Tasks</h4>{plain_table(rows, 'Tasks')}")
    for title, value in (
        ("Arguments", config.get("model_args")),
        ("Generation settings", config.get("gen_kwargs")),
        ("Usage", ours.get("usage")),
    ):
        if value:
            blocks.append(f"<h4>{title}</h4><pre>{text(_written(value))}</pre>")
    return "".join(blocks)


def _listening(row: Any) -> str | None:
    """How far the LLM moves with its messages, or why that is not known; None for methods without any."""
    if not isinstance(row, Mapping):
        return None
    found = heard.figures(row)
    return (
        heard.short(found) if found else f"not measured: {row.get(heard.NOT_MEASURED, 'unknown')}"
    )


def _communities(ours: Mapping[str, Any]) -> str:
    """Who they are, and the proof that each one's adapter changes what its base model says."""
    entries: Sequence[Mapping[str, Any]] = ours["communities"]
    shares = dict(zip((e["name"] for e in entries), ours.get("weights") or [], strict=False))
    rows = [
        [
            "community",
            "prior",
            "engine",
            "base",
            "adapter",
            "revision",
            "SHA-256 of the adapter",
            "proof of life",
        ]
    ]
    for entry in entries:
        name = entry["name"]
        proof = (ours.get("liveness") or {}).get(name)
        rows.append(
            [str(name), f"{shares[name]:.3f}" if name in shares else "–"]
            + [str(entry.get(key) or "–") for key in ("engine", "base", "adapter", "revision", "adapter_sha256")]
            + [_proof(proof)]
        )  # fmt: skip
    return plain_table(rows, "Communities")


def _proof(proof: Any) -> str:
    if not isinstance(proof, Mapping):
        return "–" if proof is None else str(proof)
    parts = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in proof.values())
    return ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in zip(proof, parts, strict=True))


def _written(value: Any) -> str:
    """JSON, of the transcript's path only the name: where it lay says nothing about the run."""
    if isinstance(value, Mapping) and isinstance(value.get("transcript"), str):
        value = {**value, "transcript": Path(value["transcript"]).name}
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    )


def _torch(info: str) -> str:
    """From the description of the machine that lm-eval keeps."""
    first, _, _ = info.partition("\n")
    return first.removeprefix("PyTorch version: ") if first.startswith("PyTorch") else ""


def _date(stamp: Any) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(float(stamp)))
    except (TypeError, ValueError, OverflowError):
        return ""
