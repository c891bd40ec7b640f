"""Names → lazy targets. The only file that touches lm-eval's registries."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from fnmatch import filter as matching
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pluralism_eval.secrets import guard

_WRAPPERS = "pluralism_eval.model_wrappers"

METHODS: dict[str, str] = {
    "vanilla": f"{_WRAPPERS}.vanilla:Vanilla",
    "prompting": f"{_WRAPPERS}.prompting:Prompting",
    "moe": f"{_WRAPPERS}.moe:MoE",
    "modular_pluralism": f"{_WRAPPERS}.modular_pluralism:ModularPluralism",
}
"""Method name → ``module:Class``, loaded when first asked for. Aliases: ``pluralism_<name>``."""


def _folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def task_folder() -> Path:
    """The folder of task YAML files, in a checkout as well as in an installed wheel."""
    return _folder("pluralism_eval.task_configs")


def _automatic() -> tuple[str, ...]:
    """The tasks that ``pluralism.yaml`` lists, read without a YAML library: every start of lm-eval comes by here."""
    lines = (task_folder() / "pluralism.yaml").read_text(encoding="utf-8").splitlines()
    return tuple(line.removeprefix("  - ") for line in lines if line.startswith("  - "))


AUTOMATIC = _automatic()
"""The tasks of the group ``pluralism``: each scores a run by itself, and has a record in ``tasks``."""

JUDGED = "pluralism_overton_judge"
"""Compares a run with another one, by a judge."""

TASKS = (*AUTOMATIC, JUDGED)

_NAMES = ("pluralism", "pluralism_eval", *TASKS)
"""With the group and the tag: all that ``--tasks`` can name of ours."""

_alone: ContextVar[bool] = ContextVar("our tasks alone are indexed", default=False)


def wrapper_folder() -> Path:
    """The folder of the model wrappers and their prompt files."""
    return _folder(_WRAPPERS)


def register_models() -> None:
    """Add our names to lm-eval's model registry, beside the built-in ones. Idempotent."""
    import lm_eval.models  # noqa: F401 - fills the registry; it stays empty once we are first
    from lm_eval.api.registry import model_registry

    for name, target in METHODS.items():
        for alias in (name, f"pluralism_{name}"):
            if alias not in model_registry:
                model_registry.register(alias, target=target)


def register_tasks() -> None:
    """Let every ``TaskManager`` with the default tasks scan our folder as well. Idempotent."""
    guard()  # lm-eval logs the arguments of a model before the model can refuse keys among them
    from lm_eval.tasks.manager import TaskManager

    original = TaskManager.__init__
    if getattr(original, "_pluralism_eval", False):
        return

    @functools.wraps(original)
    def init(
        self: Any,
        verbosity: Any = None,
        include_path: Any = None,
        include_defaults: bool = True,
        metadata: Any = None,
    ) -> None:
        given = (
            [include_path] if isinstance(include_path, (str, Path)) else list(include_path or [])
        )
        ours = task_folder()
        known = any(Path(p).resolve() == ours.resolve() for p in given)
        paths = given if known or not include_defaults else [ours, *given]
        original(self, verbosity, paths or None, include_defaults and not _alone.get(), metadata)
        self.include_path = include_path

    init._pluralism_eval = True  # type: ignore[attr-defined]
    TaskManager.__init__ = init


def index_ours_alone() -> None:
    """Let a run of none but our tasks leave lm-eval's own unread, which takes seconds to minutes. Idempotent."""
    from lm_eval.config.evaluate_config import EvaluatorConfig

    original = getattr(EvaluatorConfig, "process_tasks", None)
    if original is None or getattr(original, "_pluralism_eval", False):
        return

    @functools.wraps(original)
    def process_tasks(self: Any, metadata: Any = None) -> Any:
        before = _alone.set(not self.include_path and only_ours(self.tasks))
        try:
            return original(self, metadata)
        finally:
            _alone.reset(before)

    process_tasks._pluralism_eval = True  # type: ignore[attr-defined]
    EvaluatorConfig.process_tasks = process_tasks


def only_ours(tasks: Any) -> bool:
    """True where every name or pattern of ``--tasks`` is one of ours, and none can be another's."""
    given = [tasks] if isinstance(tasks, str) else list(tasks or [])
    names = [name for entry in given for name in str(entry).split(",")]
    return bool(names) and all(n.startswith("pluralism") and matching(_NAMES, n) for n in names)


def fit_trackers() -> None:
    """Let lm-eval's W&B logger take runs of ours, and its results a model's name of any length. Idempotent."""
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lm_eval.loggers.wandb_logger import WandbLogger

    from pluralism_eval.trackers import fit_names, fit_wandb

    fit_wandb(WandbLogger)
    fit_names(GeneralConfigTracker)


def record_hashes() -> None:
    """Let lm-eval's results file say which samples belong to it, so that later changes are found. Idempotent."""
    from lm_eval.loggers.evaluation_tracker import EvaluationTracker

    from pluralism_eval.recorded import fit_tracker

    fit_tracker(EvaluationTracker)


def register() -> None:
    """All of the above, for programs that do not use the import hook."""
    register_models()
    register_tasks()
    index_ours_alone()
    fit_trackers()
    record_hashes()
