"""Checks of a batch: when it is created, and of its input file in ``validating``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.openai_server.errors import ApiError
from tests.openai_server.files import Files

ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
MOST_LINES = 50_000


@dataclass(frozen=True)
class Line:
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


def check_creation(body: Any, files: Files) -> None:
    """Raises ApiError."""
    if not isinstance(body, dict):
        raise ApiError(400, "We could not parse the JSON body of your request.")
    for name in ("input_file_id", "endpoint", "completion_window"):
        if body.get(name) is None:
            message = f"Missing required parameter: '{name}'."
            raise ApiError(400, message, name, "missing_required_parameter")
    for name, allowed in (("endpoint", ENDPOINTS), ("completion_window", ("24h",))):
        if body[name] not in allowed:
            listed = ", ".join(f"'{value}'" for value in allowed)
            message = f"Invalid value: '{body[name]}'. Supported values are: {listed}."
            raise ApiError(400, message, name, "invalid_value")
    metadata = body.get("metadata") or {}
    if len(metadata) > 16:
        message = f"Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got {len(metadata)} instead."  # fmt: skip
        raise ApiError(400, message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        if not isinstance(value, str) or len(key) > 64 or len(value) > 512:
            message = f"Invalid 'metadata.{key}': expected a string of at most 512 characters under a key of at most 64."  # fmt: skip
            raise ApiError(400, message, f"metadata.{key}", "invalid_value")
    if files.get(body["input_file_id"]).purpose != "batch":
        raise ApiError(400, "The input file must have purpose 'batch'.", "input_file_id")


def read(content: bytes, endpoint: str, models: tuple[str, ...]) -> tuple[list[Line], list[dict[str, Any]]]:  # fmt: skip
    """The requests of an input file, and what is wrong with it."""
    errors: list[dict[str, Any]] = []
    lines: list[Line] = []
    rows = content.decode(errors="replace").split("\n")
    if rows and not rows[-1]:
        rows.pop()
    if not rows:
        return [], [_error("empty_file", "The input file is empty.", None, None)]
    if len(rows) > MOST_LINES:
        message = f"The input file has {len(rows)} requests; at most {MOST_LINES} are allowed."
        return [], [_error("too_many_tasks", message, None, None)]
    seen: set[str] = set()
    for i, row in enumerate(rows, 1):
        try:
            value = json.loads(row)
            assert isinstance(value, dict)
        except (ValueError, AssertionError):
            errors.append(_error("invalid_json_line", "This line is not parseable as valid JSON.", None, i))  # fmt: skip
            continue
        problem = _problem(value, endpoint, models, seen, lines)
        if problem is not None:
            errors.append(_error(*problem, i))
            continue
        seen.add(value["custom_id"])
        lines.append(Line(value["custom_id"], value["body"]))
    return ([], errors) if errors else (lines, [])


def _problem(
    value: dict[str, Any],
    endpoint: str,
    models: tuple[str, ...],
    seen: set[str],
    lines: list[Line],
) -> tuple[str, str, str] | None:
    """(code, message, parameter)."""
    for name in ("custom_id", "method", "url", "body"):
        if value.get(name) is None:
            return "missing_required_parameter", f"Missing required parameter: '{name}'.", name
    if value["custom_id"] in seen:
        message = f"The custom_id '{value['custom_id']}' is not unique in this batch."
        return "duplicate_custom_id", message, "custom_id"
    if value["method"] != "POST":
        return "invalid_method", "The method of every request must be POST.", "method"
    if value["url"] != endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        return "url_mismatch", message, "url"
    model = value["body"].get("model")
    if model not in models:
        message = f"The provided model '{model}' is not supported by the Batch API."
        return "model_not_found", message, "body.model"
    if lines and model != lines[0].body["model"]:
        message = (
            "The model for this request does not match the rest of the batch. Each batch must contain requests for a "
            "single model."
        )
        return "mismatched_model", message, "body.model"
    return None


def _error(code: str, message: str, param: str | None, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}
