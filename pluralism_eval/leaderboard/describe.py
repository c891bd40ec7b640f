"""What a submission says about the system: settings, versions and the command, without secrets or local paths."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime, timezone
from typing import Any

from pluralism_eval import heard
from pluralism_eval.cache import digest
from pluralism_eval.results import Run
from pluralism_eval.secrets import without_secrets
from pluralism_eval.settings import Settings

_CONFIG = (
    "model", "limit", "gen_kwargs", "batch_size", "device", "random_seed", "numpy_seed", "torch_seed", "fewshot_seed",
    "model_num_parameters", "model_dtype", "model_revision", "model_sha",
)  # fmt: skip
_OURS = ("llm", "preset", "mode", "readout", "readout_used", "seed", "weights")
_LOCAL = ("transcript",)  # where the submitter keeps things: no part of the system
_PATH = re.compile(r"(?<![\w:/.-])~?/(?:[^/\s,;:()'\"]+/)+([^/\s,;:()'\"]+)/?")


def plain(value: Any) -> Any:
    """As JSON can hold it, with secrets hidden and absolute paths cut to their last part."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in without_secrets(value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(without_secrets(str(value))).encode("utf-8", "replace").decode()
    return _PATH.sub(r"\1", text)


def line(text: Any) -> str:
    """One line of printable characters."""
    flat = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(str(plain(flat)).split())


def system(run: Run, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Method, LLM, pool with the identity of every adapter, and chat template."""
    template = raw.get("chat_template_sha") or (
        digest(raw["chat_template"]) if raw.get("chat_template") else None
    )
    communities = [
        {k: plain(v) for k, v in community.items() if k != "api_key_variable"}
        for community in run.ours.get("communities", [])
    ]
    names = sorted(str(c.get("name")) for c in communities)
    return {
        "method": line(run.name)[:120],
        "llm": line(run.llm)[:400],
        "pool": line(run.pool or (f"{len(names)} communities: {', '.join(names)}" if names else ""))[:400],
        "communities": communities,
        "chat_template_sha256": template,
    }  # fmt: skip


def listening(run: Run) -> dict[str, Any] | None:
    """How far the LLM moves with its messages, as the run measured it; None where it did not."""
    row = run.ours.get("listening") or {}
    found = heard.figures(row)
    if not found:
        return None
    how = {"readout": line(row.get("readout"))[:40], "chat": bool(row.get("chat"))}
    return {**heard.as_row(found), **how}


def short_llm(llm: str) -> str:
    """The model's own name in ``hf(dtype=...,pretrained=ORG/NAME)``; other names as they are."""
    match = re.search(r"\b(?:pretrained|model)=(?:[^,;()]*/)?([^,;()/]+)", llm)
    return match[1] if match else llm


def configuration(run: Run, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Whatever was set, and the seeds; settings that are their default are left out."""
    found = {name: plain(run.config.get(name)) for name in _CONFIG}
    found |= {name: plain(run.ours[name]) for name in _OURS if name in run.ours}
    return found | {
        "model_args": plain(arguments(run)),
        "metadata": plain(metadata(raw)),
        "system_instruction_sha256": raw.get("system_instruction_sha"),
    }


def arguments(run: Run) -> dict[str, Any]:
    """``--model_args`` that were set to something else than their default."""
    given = run.config.get("model_args") or {}
    if not isinstance(given, Mapping):
        return {"given": str(given)}
    return {
        name: value
        for name, value in given.items()
        if name not in (*_LOCAL, "method") and not (name in _DEFAULTS and value == _DEFAULTS[name])
    }


def _defaults() -> dict[str, Any]:
    found = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
    return found | {"llm_args": {}}


_DEFAULTS = _defaults()


def metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    """``--metadata`` as the tasks got it."""
    found: dict[str, Any] = {}
    for config in raw.get("configs", {}).values():
        found |= config.get("metadata") or {}
    return {k: v for k, v in found.items() if k not in ("version", "config_source")}


def environment(raw: Mapping[str, Any], run: Run) -> dict[str, str | None]:
    """Versions, the code's commit, and when the run began."""
    info = str(raw.get("pretty_env_info") or "")
    began = datetime.fromtimestamp(float(raw.get("date") or 0), timezone.utc)
    return {
        "pluralism_eval": _text(run.ours.get("version")),
        "lm_eval": _text(raw.get("lm_eval_version")),
        "transformers": _text(raw.get("transformers_version")),
        "torch": _found(r"PyTorch version: (\S+)", info),
        "python": _found(r"Python version: (\d[\w.]*)", info),
        "git_hash": _text(raw.get("git_hash")),
        "date": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _text(value: Any) -> str | None:
    return None if value is None else line(value)[:200]


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def command(run: Run, raw: Mapping[str, Any], tasks: Sequence[str], counts: Mapping[str, Any]) -> str | None:  # fmt: skip
    """The command that runs it again; None where docs were chosen in a way that no flag says."""
    limit = run.config.get("limit")
    if limit is None and any(c["n"] < c["of"] for c in counts.values()):
        return None
    words = ["lm_eval", "--model", str(run.config.get("model")), "--tasks", ",".join(tasks)]
    for flag, value in (
        ("--model_args", plain(arguments(run))),
        ("--metadata", plain(metadata(raw))),
        ("--gen_kwargs", plain(run.config.get("gen_kwargs"))),
    ):
        if value:
            words += [flag, json.dumps(value, ensure_ascii=False)]
    shots = {int(raw.get("n-shot", {}).get(task) or 0) for task in tasks}
    words += ["--num_fewshot", str(max(shots))] if max(shots, default=0) else []
    words += ["--limit", f"{limit:g}"] if limit is not None else []
    words += ["--apply_chat_template"] if raw.get("chat_template") else []
    return shlex.join([*words, "--log_samples", "--output_path", "results/rerun"])


def hashes(run: Run, raw: Mapping[str, Any]) -> dict[str, str | None]:
    """Of the settings, of all prompts and of all messages."""
    own = run.ours.get("fingerprint")
    lines = sorted(run.transcript, key=lambda e: (str(e.get("task")), e.get("doc_id") or 0, e.get("idx", 0)))  # fmt: skip
    prompts = [[sent.get("prompt") for sent in entry.get("sent", [])] for entry in lines]
    messages = [
        [[m.get("community"), m.get("text")] for m in entry.get("messages", [])] for entry in lines
    ]
    settings = [run.name, arguments(run), raw.get("versions"), raw.get("lm_eval_version")]
    return {
        "fingerprint": str(own) if own else digest(settings),
        "prompts": digest(prompts) if any(prompts) else None,
        "messages": digest(messages) if any(messages) else None,
    }
