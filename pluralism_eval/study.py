"""Several runs on the same docs: what they are, and their execution one after the other.

A run that was finished with the same settings, data and version is not run again, so an interrupted
study goes on from where it stopped.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pluralism_eval import __version__, plugin
from pluralism_eval.cache import digest
from pluralism_eval.data.sources import blob_id, input_file, short_name
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.results import STUDY, Run, read_run
from pluralism_eval.settings import parse

_ANSWERS = "answers"
"""Answers of an unfinished run, for the next attempt."""
_LLM_FIELDS = ("name", "llm", "llm_args", "chat", "parameters")


@dataclass(frozen=True)
class StudyLLM:
    """One LLM of a study."""

    name: str
    """``model`` or ``model/alignment``; as in the paper's tables where it is to stand beside one."""
    llm: str
    """lm-eval model name, or ``embedded``."""
    llm_args: Mapping[str, Any] = field(default_factory=dict)
    chat: bool = False
    """Apply its chat template (aligned models)."""
    parameters: float | None = None
    """Number of parameters, for what a plan costs; None: asked of the model where it is local."""


@dataclass(frozen=True)
class RunSpec:
    """Everything one run depends on, and its name."""

    label: str
    """Its row in tables; a run may stand in several."""
    method: str
    llm: StudyLLM
    tasks: tuple[str, ...]
    """lm-eval's names."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """More ``--model_args``: communities, preset, message_max_tokens, ..."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """``data``, ``nli``, ..."""
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    docs: Mapping[str, Sequence[int]] | None = None
    """Task → doc numbers, instead of ``limit``."""

    def model_args(self) -> dict[str, Any]:
        return {"llm": self.llm.llm, "llm_args": dict(self.llm.llm_args), **self.settings}

    def fingerprint(self) -> str:
        """Of the spec, the input files and this version."""
        data = self.metadata.get("data")
        files = [blob_id(input_file(short_name(t), data).read_bytes()) for t in self.tasks]
        own = {name: value for name, value in asdict(self).items() if name != "label"}
        return digest([__version__, own, files])

    def check(self) -> None:
        """Raises PluralismError for wrong settings or missing data, before any model is loaded."""
        parse(self.method, self.model_args())
        self.fingerprint()

    def folder(self, output: Path) -> Path:
        """Where its results go."""
        words = [self.method, self.llm.name, self.fingerprint()[:8]]
        return output / re.sub(r"[^\w.+-]+", "_", "_".join(words))

    def finished(self, output: Path) -> bool:
        """Is its run there already?"""
        return (self.folder(output) / STUDY).is_file()

    def seconds(self, output: Path) -> float:
        """Wall time of its finished run, loading included."""
        mark = json.loads((self.folder(output) / STUDY).read_text(encoding="utf-8"))
        return float(mark["seconds"])


def parse_llm(text: str) -> StudyLLM:
    """``embedded``, ``hf:pretrained=X;dtype=bfloat16``, or ``llama2-13b/aligned=hf:pretrained=X``.

    Raises:
        PluralismError: nothing that names a model.
    """
    before, equals, after = text.partition("=")
    name, spec = (before, after) if equals and ":" not in before else ("", text)
    llm, _, rest = spec.partition(":")
    try:
        if not llm:
            raise PluralismError("It names no model")
        arguments = dict(parse("vanilla", {"llm": llm, "llm_args": rest or None}).llm_args)
    except PluralismError as error:
        raise PluralismError(
            f"--llm {text!r}: expected embedded, hf:pretrained=X, or NAME=hf:pretrained=X. {error}"
        ) from error
    chat = bool(arguments.pop("chat", False))
    parameters = arguments.pop("parameters", None)
    return StudyLLM(name or spec, llm, arguments, chat, parameters and float(parameters))


def read_study(path: Path) -> tuple[list[StudyLLM], dict[str, Any]]:
    """A study file: its LLMs, and its other keys (settings, data, nli, limit, gen_kwargs, methods, tasks,
    pools).

    Raises:
        PluralismError: all problems of the file at once.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PluralismError(f"--study {str(path)!r} cannot be read as YAML: {error}") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("llms"), list):
        raise PluralismError(f"--study {str(path)!r} must be a mapping with a list llms")
    problems = []
    for i, entry in enumerate(loaded["llms"]):
        unknown = sorted(set(entry) - set(_LLM_FIELDS)) if isinstance(entry, dict) else [entry]
        if unknown or not entry.get("llm"):
            problems.append(
                f"llms[{i}]: needs llm, may have {', '.join(_LLM_FIELDS)}; not {unknown or entry}"
            )
    known = {"llms", "settings", "data", "nli", "limit", "gen_kwargs", "methods", "tasks", "pools"}
    problems += [f"unknown key {key!r}" for key in loaded if key not in known]
    raise_all(f"--study {str(path)!r}", problems)
    llms = [StudyLLM(**{"name": entry["llm"], **entry}) for entry in loaded.pop("llms")]
    return llms, loaded


def execute(
    spec: RunSpec,
    output: Path,
    batch_size: int | str | None = None,
    device: str | None = None,
) -> Run:
    """The finished run of ``spec``: read back if it is there, else run and saved."""
    folder = spec.folder(output)
    if spec.finished(output):
        return read_run(folder)
    started = time.monotonic()
    results = evaluate(spec, folder, batch_size, device)
    seconds = time.monotonic() - started
    save(results, folder, spec.method)
    for left in folder.glob(f"{_ANSWERS}*"):
        left.unlink()
    described = {"fingerprint": spec.fingerprint(), "seconds": seconds, **asdict(spec)}
    (folder / STUDY).write_text(json.dumps(described, indent=1, default=str), encoding="utf-8")
    return read_run(folder)


def evaluate(
    spec: RunSpec, folder: Path, batch_size: int | str | None = None, device: str | None = None
) -> dict[str, Any]:
    """lm-eval's results of ``spec``; the transcript goes to ``folder``."""
    plugin.register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    shared = {k: spec.settings[k] for k in ("preset", "orders") if k in spec.settings}
    manager = TaskManager(
        include_path=str(plugin.task_folder()),
        include_defaults=False,
        metadata={**shared, **spec.metadata},
    )
    folder.mkdir(parents=True, exist_ok=True)
    transcript = {"transcript": str(folder / f"transcript_{spec.method}.jsonl")}
    results: dict[str, Any] = simple_evaluate(
        model=spec.method,
        model_args=spec.model_args() | transcript,
        tasks=list(spec.tasks),
        task_manager=manager,
        limit=spec.limit,
        samples=None if spec.docs is None else {t: list(n) for t, n in spec.docs.items()},
        gen_kwargs=dict(spec.gen_kwargs) or None,
        use_cache=str(folder / _ANSWERS),
        apply_chat_template=spec.llm.chat,
        batch_size=batch_size,
        device=device,
        log_samples=True,
        bootstrap_iters=0,
    )
    return results


def save(results: dict[str, Any], folder: Path, method: str) -> None:
    """Results and samples as ``lm_eval --log_samples --output_path`` leaves them."""
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name = method
    tracker.general_config_tracker.model_name_sanitized = method
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    if not list(folder.rglob("results_*.json")):  # lm-eval only warns
        raise PluralismError(f"{folder}: the results could not be saved; is there room?")
