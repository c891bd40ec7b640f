"""Several runs on the same docs: what they are, and their execution one after the other.

A run that was finished with the same settings, data and version is not run again, so an interrupted
study goes on from where it stopped.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pluralism_eval import __version__, plugin
from pluralism_eval.cache import digest
from pluralism_eval.data.sources import blob_id, input_file, short_name
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.files import cut_name, saving, write_atomic
from pluralism_eval.json_files import read_json
from pluralism_eval.results import SCRATCH, STUDY, Run, lm_eval_saves, read_run
from pluralism_eval.settings import parse
from pluralism_eval.yaml_files import read_yaml

log = logging.getLogger(__name__)

_ANSWERS = "answers"
"""Answers of an unfinished run, for the next attempt."""
_LLM_FIELDS = ("name", "llm", "llm_args", "chat", "parameters")
_LLM_TYPES: tuple[tuple[str, type], ...] = (
    ("name", str),
    ("llm", str),
    ("llm_args", dict),
    ("chat", bool),
)


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
        words = [self.method, cut_name(self.llm.name), self.fingerprint()[:8]]
        return output / re.sub(r"[^\w.+-]+", "_", "_".join(words))

    def finished(self, output: Path) -> bool:
        """Is its run there already, whole?"""
        mark = self._mark(output)
        if mark.get("fingerprint") != self.fingerprint():
            return False
        now = _hashes(self.folder(output))
        changed = [n for n, was in mark.get("files", {}).items() if now.get(n) != was]
        if changed:
            log.warning("%s: changed since the run, which is run again", ", ".join(changed))
        return not changed

    def seconds(self, output: Path) -> float:
        """Wall time of its finished run, loading included."""
        return float(self._mark(output)["seconds"])

    def _mark(self, output: Path) -> dict[str, Any]:
        """What was written after all else of it; empty where there is none, or none that can be read."""
        try:
            found = read_json(self.folder(output) / STUDY)
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        seal = found.pop("seal", None)
        return found if seal == digest(found) or "files" not in found else {}


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
    loaded = read_yaml(path, "--study")
    if not isinstance(loaded, dict) or not isinstance(loaded.get("llms"), list):
        raise PluralismError(f"--study {str(path)!r} must be a mapping with a list llms")
    problems = []
    for i, entry in enumerate(loaded["llms"]):
        if not isinstance(entry, dict) or not entry.get("llm") or set(entry) - set(_LLM_FIELDS):
            problems.append(f"llms[{i}]: needs llm, may have {', '.join(_LLM_FIELDS)}; not {entry}")
            continue
        wrong = [name for name, kind in _LLM_TYPES if not isinstance(entry.get(name, kind()), kind)]
        cost = entry.get("parameters")
        if cost is not None and (
            isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 < cost < 1e18
        ):
            wrong.append("parameters")
        problems += [f"llms[{i}]: {name}={entry[name]!r} is of the wrong kind" for name in wrong]
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
    _clear(folder, spec.method)  # what a killed attempt may have left half
    started = time.monotonic()
    results = evaluate(spec, folder, batch_size, device)
    seconds = time.monotonic() - started
    save(results, folder, spec.method)
    described = {"fingerprint": spec.fingerprint(), "seconds": seconds, "files": _hashes(folder)}
    described = json.loads(json.dumps(described | asdict(spec), default=str))
    seal = {"seal": digest(described)}
    write_atomic(folder / STUDY, json.dumps(described | seal, indent=1))
    _remove(folder.glob(f"{_ANSWERS}*"))
    return read_run(folder)


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that later commands read of the run in ``folder``."""
    found = [
        *folder.glob("transcript_*.jsonl"),
        *folder.glob("*/results_*"),
        *folder.glob("*/samples_*"),
    ]
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in sorted(found)}


def _clear(folder: Path, method: str) -> None:
    of_lm_eval = folder.glob(f"{_ANSWERS}*.db")  # holds nothing, and fails if it is damaged
    _remove([folder / STUDY, folder / method, *folder.glob(f"{SCRATCH}*"), *of_lm_eval])


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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
    with saving(folder):
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
    """Results and samples as ``lm_eval --log_samples --output_path`` leaves them, all or nothing.

    Raises:
        PluralismError: they could not be saved.
    """
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=SCRATCH))
    rows = {task: len(samples) for task, samples in results["samples"].items()}
    try:
        with lm_eval_saves(folder):
            _save(results, scratch, method)
        with saving(folder):
            made = _whole(scratch / method, rows)
            (folder / method).mkdir(exist_ok=True)
            for file in made:
                os.replace(file, folder / method / file.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _save(results: dict[str, Any], folder: Path, method: str) -> None:
    from lm_eval.loggers import EvaluationTracker

    plugin.record_hashes()
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name = method
    tracker.general_config_tracker.model_name_sanitized = method
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)


def _whole(folder: Path, rows: Mapping[str, int]) -> list[Path]:
    """The saved files, the results last: they are what readers look for. Raises OSError if any is not whole."""
    results = next(folder.glob("results_*.json"), None)
    if results is None:
        raise OSError(errno.EIO, "lm-eval saved no results")
    stamp = results.stem.removeprefix("results_")
    samples = [folder / f"samples_{task}_{stamp}.jsonl" for task in rows]
    lines = [file.read_bytes().count(b"\n") for file in samples]
    if lines != list(rows.values()):
        raise OSError(errno.EIO, f"lm-eval saved {lines} samples of {list(rows.values())}")
    return [*samples, results]
