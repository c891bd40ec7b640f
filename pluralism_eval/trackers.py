"""Makes lm-eval's Weights & Biases logger take our samples; its Trackio logger takes them as they are.

W&B's tables hold one type a column. Our docs carry pairs such as ``(question, number)`` for grouped scores and
clustered standard errors, which a table refuses, and lm-eval 0.4.13 then logs no samples at all. It also looks for
the samples of the group ``pluralism``, which has none.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from pluralism_eval.files import cut_name

_DONE = "_pluralism_eval"
_INTERNAL = "_stderr"
"""Ending of values that only say which docs belong together: no score of a doc."""


def fit_wandb(logger: type[Any]) -> None:
    """Fits lm-eval's ``WandbLogger``: groups without samples are known as such, structured values become JSON text,
    and the inputs of standard errors are left out. Numbers are untouched; idempotent."""
    if getattr(logger, _DONE, False):
        return
    logger.post_init = _with_groups(logger.post_init)
    logger._generate_dataset = _with_plain_columns(logger._generate_dataset)
    setattr(logger, _DONE, True)


def fit_names(tracker: Any) -> None:
    """lm-eval names a folder after the model; where its name or path is longer than file systems take, the name is cut
    and ends with a hash, so that the results are not lost at the end of the run. Idempotent.

    Args:
        tracker: lm-eval's ``GeneralConfigTracker``.
    """
    if getattr(tracker, _DONE, False):
        return
    inner = tracker.log_experiment_args

    @functools.wraps(inner)
    def log_experiment_args(self: Any, *given: Any, **named: Any) -> None:
        inner(self, *given, **named)
        self.model_name_sanitized = cut_name(str(self.model_name_sanitized), most=240)

    tracker.log_experiment_args = log_experiment_args
    setattr(tracker, _DONE, True)


def _with_groups(inner: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(inner)
    def post_init(self: Any, results: dict[str, Any]) -> None:
        inner(self, results)
        known = set(self.group_names) | set(results.get("configs", {}))
        self.group_names += [name for name in self.task_names if name not in known]

    return post_init


def _with_plain_columns(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def generate(self: Any, data: list[dict[str, Any]], config: dict[str, Any]) -> Any:
        frame = inner(self, data, config)
        kept = [name for name in frame.columns if not str(name).endswith(_INTERNAL)]
        frame = frame[kept].copy()
        for name in kept:
            if any(isinstance(value, (list, tuple, dict)) for value in frame[name]):
                frame[name] = [json.dumps(v, ensure_ascii=False, default=str) for v in frame[name]]
        return frame

    return generate
