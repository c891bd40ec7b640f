"""Items of the released format → lm-eval docs, checked.

Each doc carries ``pluralism``: what a method may know (mode, attribute, wording, option letters).
The gold answer stays outside of it.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pluralism_eval.data.sources import chosen, input_file
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.json_files import DATA_BYTES, read_json
from pluralism_eval.presets import Preset, get_preset
from pluralism_eval.settings import read_config
from pluralism_eval.tasks import TASKS

log = logging.getLogger(__name__)
NLI_VARIABLE = "PLURALISM_EVAL_NLI"
_SHOWN = 10
_SUMS_TO_1 = 1e-9


def load_docs(
    task: str,
    data: str | None = None,
    preset: str | None = None,
    nli: str | None = None,
    nli_directions: str = "one",
    orders: int | None = None,
    config: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """``{"test": Dataset}`` for lm-eval's ``custom_dataset``.

    Args:
        task: a key of :data:`pluralism_eval.tasks.TASKS`.
        data, nli: from ``--metadata``, else the environment variables.
        nli_directions: ``both`` scores coverage in the other direction as well.
        preset: chooses how docs are scored (default ``paper``).
        orders: option orders that the model averages; None: the task's own.
        config: the settings file of ``--model_args``, which lm-eval hands to tasks as well.

    Raises:
        PluralismError: missing data, malformed items (the first ten are named), or scorers that cannot work.
    """
    from datasets import Dataset

    path = input_file(task, data)
    items = read_items(path)
    common = shared_meta(path, preset, orders, config)
    reading = get_preset(common["preset"])
    if TASKS[task].is_text:
        from pluralism_eval.metrics.coverage import scoring

        common |= scoring(chosen_nli(nli, reading), nli_directions, reading)
    docs = build_docs(task, items, common, path.name)
    odd = oddities(items, docs)
    if odd:
        log.warning("%s, %d items: %s (each counts as it stands)", path.name, len(items), odd)
    if TASKS[task].damaged and chosen(data)[1]:
        lost = TASKS[task].damage(items)
        docs = [doc for i, doc in enumerate(docs) if i not in lost]
        log.warning(
            "data=cleaned: %d of %d items of %s dropped: %s (each: pluralism-eval data card)",
            len(lost), len(items), path.name, dict(Counter(lost.values())),
        )  # fmt: skip
    return {"test": Dataset.from_list(docs)}


def shared_meta(
    path: Path, preset: str | None, orders: int | None, config: str | None
) -> dict[str, Any]:
    """What all docs of the input ``path`` say about it and about how they are to be read.

    Raises:
        PluralismError: an unknown preset, or a settings file that cannot be read.
    """
    told = _model_settings(config) | {
        name: value for name, value in (("preset", preset), ("orders", orders)) if value is not None
    }
    preset = str(told.get("preset", "paper"))
    get_preset(preset)
    return {
        "input": path.stem.removesuffix("_small"),
        "preset": preset,
        "orders_given": told.get("orders"),
    }


def chosen_nli(nli: str | None, preset: Preset) -> str:
    """The entailment scorers as given, else of ``$PLURALISM_EVAL_NLI``, else the preset's."""
    return str(nli or os.environ.get(NLI_VARIABLE) or preset.nli)


def _model_settings(config: str | None) -> dict[str, Any]:
    """The settings of a YAML file given as ``--model_args config=``; the model checks them."""
    return read_config(config, []) if config else {}


def build_docs(
    task: str, items: Sequence[Any], common: Mapping[str, Any], name: str
) -> list[dict[str, Any]]:
    """[n_items] docs of the items of one file.

    Raises:
        PluralismError: malformed items (the first ten are named). What only looks odd is counted
            (:func:`oddities`).
    """
    problems: list[str] = []
    docs = []
    shared = {"task": task, "orders_given": None, **common}
    for i, item in enumerate(items):
        try:
            docs.append(TASKS[task].build(item, shared))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            identity = item.get("id") if isinstance(item, dict) else "?"
            problems.append(f"item {i} (id {identity}): {_reason(error)}")
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], f"... and {len(problems) - _SHOWN} more"]
    raise_all(f"data file {name}", problems)
    _add_others(docs)
    return docs


def problem_of(task: str, item: Mapping[str, Any]) -> str:
    """Why an item of a new file could not be loaded, without its own values; "" if it can."""
    try:
        TASKS[task].build(item, {"task": task, "orders_given": None, "preset": "paper"})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return kind_of(_reason(error))
    return ""


def kind_of(reason: str) -> str:
    """A reason without its values, so that equal kinds are counted together."""
    return re.sub(r"\[[^\]]*\]|'[^']*'|-?\b(?:\d[\d.e+-]*|nan|inf)\b", "…", reason)


def oddities(
    items: Sequence[Mapping[str, Any]], docs: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Kind → number of docs that are allowed, yet make a score say less than it seems to; no zeros."""
    told = [
        (
            d["query"],
            d["pluralism"]["attribute"],
            d.get("group"),
            *d.get("options", ()),
            *d.get("values", ()),
        )
        for d in docs
    ]
    golds = [item["gold_distribution"] for item in items if "gold_distribution" in item]
    counts = {
        "repeated_ids": len(docs) - len({d["id"] for d in docs}),
        "repeated_docs": len(told) - len(set(told)),
        "one_option": sum(len(d["options"]) == 1 for d in docs if "options" in d),
        "equal_options": sum(
            len(set(d["options"])) < len(d["options"]) for d in docs if "options" in d
        ),
        "tied_golds": sum(
            d["gold"].count(max(d["gold"])) > 1
            and d["group"] != "high_ambiguity"  # 0.5, 0.5 is meant
            for d in docs
            if "gold" in d
        ),
        "rescaled_golds": sum(abs(sum(gold) - 1) > _SUMS_TO_1 for gold in golds),
    }
    return {kind: n for kind, n in counts.items() if n}


def _add_others(docs: Sequence[dict[str, Any]]) -> None:
    """``others``: the mean gold distribution of other groups on the same question; [] if none."""
    asked: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for doc in docs:
        if "gold" in doc:
            question = (doc["query"], *doc["options"])
            asked[question].append(doc)
    for same in asked.values():
        groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for doc in same:
            groups[doc["pluralism"]["attribute"], doc["group"]].append(doc)
        sums = np.array([np.sum([d["gold"] for d in own], axis=0) for own in groups.values()])
        # sums of all groups before and after each: what is subtracted from a total leaves its rounding
        none = np.zeros((1, sums.shape[1]))
        before = np.concatenate([none, sums.cumsum(axis=0)])
        after = np.concatenate([sums[::-1].cumsum(axis=0)[::-1], none])
        for i, own in enumerate(groups.values()):
            n = len(same) - len(own)
            others = ((before[i] + after[i + 1]) / n).tolist() if n else []
            for doc in own:
                doc["others"] = list(others)


def _reason(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def read_items(path: Path) -> list[Any]:
    """The JSON list in ``path``. Raises PluralismError for anything else."""
    try:
        items = read_json(path, DATA_BYTES)
    except (OSError, ValueError) as error:
        raise PluralismError(f"data file {str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(items, list) or not items:
        raise PluralismError(f"data file {str(path)!r} must be a list of at least one item")
    return items
