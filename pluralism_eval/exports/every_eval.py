"""Every Eval Ever (evaleval): one JSON a run with its headline scores, and a JSON line a doc and score.

Written after version 0.3.0 of the schema, which its package ``every-eval-ever`` carries together with the validator.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.exports.facts import Exported, Facts
from pluralism_eval.exports.items import Item, items_of
from pluralism_eval.files import cut_name
from pluralism_eval.leaderboard import describe
from pluralism_eval.scoring import Summary
from pluralism_eval.tasks import by_name
from pluralism_eval.tasks.task import Column

SCHEMA = "0.3.0"
COLLECTION = "modular-pluralism"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
UNKNOWN = "unknown"
_BOUNDS = {"jsd": (0.0, math.sqrt(math.log(2)))}
_SHARE = (0.0, 1.0)
_UNITS = {"jsd": "square root of nats"}
_KINDS = {"acc": "accuracy", "balanced_acc": "balanced_accuracy", "jsd": "jensen_shannon_distance"}
_CLUSTERED = "clustered by question or situation"


@dataclass(frozen=True)
class Source:
    """Who reports: what a results file does not know."""

    organization: str = UNKNOWN
    relationship: str = "other"
    """Of the evaluator to the LLM's developer: one of :data:`RELATIONSHIPS`."""


def export(facts: Facts, source: Source | None = None) -> Exported:
    """``data/modular-pluralism/<developer>/<model>/<uuid>.json`` and ``<uuid>_samples.jsonl``.

    Baselines stand in the details of the score that they belong to, not as results of the model.

    Raises:
        PluralismError: an unknown relationship.
    """
    source = source or Source()
    if source.relationship not in RELATIONSHIPS:
        raise PluralismError(
            f"--relationship {source.relationship!r} is unknown. Allowed: {', '.join(RELATIONSHIPS)}"
        )
    ident = str(uuid.UUID(bytes=bytes.fromhex(facts.identity)[:16], version=4))
    developer, model = _folders(facts.model)
    base = f"data/{COLLECTION}/{developer}/{model}/{ident}"
    rows = [row for task in facts.scores for row in _rows(facts, task)]
    lines = "".join(_json(row) + "\n" for row in rows).encode()
    record = _record(facts, source, developer) | {
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": f"{base}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines).hexdigest(),
            "total_rows": len(rows),
        }
    }
    files = {
        f"{base}.json": (_json(record, indent=2) + "\n").encode(),
        f"{base}_samples.jsonl": lines,
    }
    return Exported(files, _notes(source, developer))


def _notes(source: Source, developer: str) -> tuple[str, ...]:
    missing = ["--organization (who reports)"] if source.organization == UNKNOWN else []
    missing += ["--relationship (to the LLM's developer)"] if source.relationship == "other" else []
    missing += ["--model DEVELOPER/NAME"] if developer == UNKNOWN else []
    fill = (f"not stated, give them before you hand it in: {', '.join(missing)}",)
    check = "check with: every_eval_ever validate FOLDER'/data/*/*/*/*.json*' (Python 3.12, pip install every-eval-ever)"
    return (*(fill if missing else ()), check)


def _folders(model: str) -> tuple[str, str]:
    """(developer, model) as parts of a path; the datastore is looked up by them."""
    developer, _, name = model.rpartition("/")
    first, *rest = developer.split("/") if developer else [UNKNOWN]
    safe = [
        cut_name(re.sub(r'[<>:"\\|?*\x00-\x1f/]', "_", part).strip(". "))
        for part in (first, "_".join([*rest, name]))
    ]
    return safe[0] or UNKNOWN, safe[1] or UNKNOWN


def _model_id(model: str) -> str:
    developer, name = _folders(model)
    return model if "/" in model else f"{developer}/{name}"


def _evaluation_id(facts: Facts) -> str:
    when = int(facts.date.timestamp())
    return f"{COLLECTION}.{facts.method}/{_model_id(facts.model)}/{when}"


def _record(facts: Facts, source: Source, developer: str) -> dict[str, Any]:
    environment = describe.environment(facts.raw, facts.run)
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(facts),
        "evaluation_timestamp": facts.date.isoformat(),
        # the run's own time: made again, the record stays the same
        "retrieved_timestamp": str(facts.date.timestamp()),
        "source_metadata": {
            "source_name": "pluralism-eval",
            "source_type": "evaluation_run",
            "source_organization_name": source.organization,
            "evaluator_relationship": source.relationship,
            "additional_details": _strings({"lacks": list(facts.lacks)}),
        },
        "eval_library": {
            "name": "lm_eval",
            "version": str(environment.get("lm_eval") or UNKNOWN),
            "additional_details": _strings({"plugin": "pluralism_eval", **environment}),
        },
        "model_info": _model(facts, developer, environment),
        "evaluation_results": [
            _result(facts, column)
            for task in facts.scores
            for column in facts.headlines(task)
            if not math.isnan(facts.score(column).value)
        ],
    }


def _model(facts: Facts, developer: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    engine = str(facts.run.ours.get("llm") or facts.run.config.get("model")).partition("(")[0]
    local = engine in ("embedded", "hf")
    system = describe.system(facts.run, facts.raw)
    config = facts.run.config
    found: dict[str, Any] = {
        "name": facts.model,
        "id": _model_id(facts.model),
        "developer": developer,
        "additional_details": {
            "deployment_type": "self_deployed" if local or engine == "vllm" else UNKNOWN,
            "model_availability": "open_weights" if engine == "embedded" else UNKNOWN,
            **_strings(
                {
                    "method": facts.method,
                    "system": "the LLM together with community LMs" if system["communities"] else "",
                    "communities": system["communities"],
                    "revision": config.get("model_sha") or config.get("model_revision"),
                    "dtype": config.get("model_dtype"),
                }
            ),
        },
    }  # fmt: skip
    if local:
        version = str(environment.get("transformers") or UNKNOWN)
        found["inference_engine"] = {"name": "transformers", "version": version}
    return found


def _result(facts: Facts, column: Column) -> dict[str, Any]:
    score, task = facts.score(column), column.task
    low, high = _BOUNDS.get(score.name, _SHARE)
    if score.name == "coverage" and score.value < 0:
        low = -1.0  # an empty response counts as -1 in the authors' code
    given = facts.raw.get("configs", {}).get(task, {}).get("generation_kwargs") or {}
    args: dict[str, Any] = {"execution_command": facts.command} if facts.command else {}
    if given.get("max_gen_toks"):
        args["max_tokens"] = int(given["max_gen_toks"])
    if given.get("do_sample") is False:
        args["temperature"] = 0.0
    answered, whole = facts.size(task)
    return {
        "evaluation_result_id": _result_id(column),
        "evaluation_name": task,
        "source_data": {
            "dataset_name": facts.dataset(task),
            "source_type": "other",
            "additional_details": _strings({"docs_answered": answered, "docs_of_the_input": whole}),
        },
        "evaluation_timestamp": facts.date.isoformat(),
        "metric_config": {
            "evaluation_description": column.title,
            "metric_id": f"pluralism_eval.{score.name}",
            "metric_name": column.title,
            "metric_kind": _KINDS.get(score.name, score.name),
            "metric_unit": _UNITS.get(score.name, "proportion"),
            "lower_is_better": not score.higher_is_better,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
        },
        "score_details": {
            "score": score.value,
            "details": _strings(
                {f"baseline: {name}": v for name, v in facts.baselines(column).items()}
            ),
            "uncertainty": _uncertainty(score),
        },
        "generation_config": {
            "generation_args": args,
            "additional_details": _strings(describe.configuration(facts.run, facts.raw)),
        },
    }


def _uncertainty(score: Summary) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": score.n}
    if not math.isnan(score.stderr):
        found["standard_error"] = {"value": score.stderr, "method": _CLUSTERED}
    if not math.isnan(score.low):
        found["confidence_interval"] = {
            "lower": score.low, "upper": score.high, "confidence_level": 0.95, "method": f"bootstrap, {_CLUSTERED}",
        }  # fmt: skip
    if not math.isnan(score.sd):
        found["standard_deviation"] = score.sd
    return found


def _result_id(column: Column) -> str:
    return f"{column.task}/{column.metric}"


def _rows(facts: Facts, task: str) -> list[dict[str, Any]]:
    """A row a doc and headline score that docs have of their own."""
    columns = [c for c in facts.headlines(task) if c.number is not None]
    return [
        _row(facts, column, item)
        for item in items_of(facts, task)
        for column in columns
        if column.metric in item.scores
    ]


def _row(facts: Facts, column: Column, item: Item) -> dict[str, Any]:
    prompts = [str(sent.get("prompt", "")) for sent in item.sent]
    raw = item.query + json.dumps(item.target, ensure_ascii=False)
    said = dict(zip(item.letters, item.probabilities, strict=True))
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(facts),
        "model_id": _model_id(facts.model),
        "evaluation_name": column.task,
        "evaluation_result_id": _result_id(column),
        "sample_id": item.name,
        "sample_hash": hashlib.sha256(raw.encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {
            "raw": item.query,
            "formatted": prompts[0] if len(prompts) == 1 else None,
            "reference": item.target,
            "choices": item.choices or None,
        },
        "output": {"raw": [_json(said) if item.letters else item.answer]},
        "messages": None,
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": item.answer,
                "extraction_method": "likeliest option" if item.letters else "whole response",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": item.scores[column.metric], "is_correct": item.correct},
        "metadata": _strings(
            {
                "is_correct_means": by_name(column.task).correct_means,
                "attribute": item.attribute,
                "explanation": item.explanation,
                "prompts": prompts if len(prompts) > 1 else None,
                "community_messages": [[m.get("community"), m.get("text")] for m in item.messages],
                "option_mass": item.option_mass,
            }
        ),
    }


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    """The schema's details: text only, nothing where there is nothing."""
    return {
        name: value if isinstance(value, str) else _json(value)
        for name, value in values.items()
        if value not in (None, "", [], {})
    }


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
