"""``response_format``: the checks of strict mode, and texts that conform."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.openai_server.errors import ApiError

Schema = Mapping[str, Any]


def schema_of(response_format: Any, words: str) -> Schema | None:
    """The schema that the reply must conform to; None for plain text. Raises ApiError.

    Args:
        words: all that the messages say.
    """
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        if "json" not in words.lower():
            message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            raise ApiError(400, message, "messages")
        return {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    if kind != "json_schema":
        message = f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise ApiError(400, message, "response_format.type", "invalid_value")
    given = response_format.get("json_schema")
    for name in ("name", "schema"):
        if not isinstance(given, dict) or name not in given:
            message = f"Missing required parameter: 'response_format.json_schema.{name}'."
            raise ApiError(400, message, f"response_format.json_schema.{name}", "missing_required_parameter")  # fmt: skip
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", given["name"]):
        message = (
            "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a string that matches "
            "the pattern '^[a-zA-Z0-9_-]+$'."
        )
        raise ApiError(400, message, "response_format.json_schema.name", "invalid_value")
    schema: Schema = given["schema"]
    if given.get("strict"):
        if schema.get("type") != "object":
            _refuse(given["name"], (), "schema must be a JSON Schema of 'type: \"object\"'")
        _check(given["name"], schema, ())
    return schema


def _check(name: str, schema: Any, where: tuple[str, ...]) -> None:
    """Every object closed, every property required."""
    if not isinstance(schema, dict) or not {"type", "enum", "const", "anyOf", "$ref"} & set(schema):
        _refuse(name, where, "schema must have a 'type' key.")
    properties = schema.get("properties", {})
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            _refuse(name, where, "'additionalProperties' is required to be supplied and to be false.")  # fmt: skip
        missing = [key for key in properties if key not in schema.get("required", [])]
        if missing or len(schema.get("required", [])) > len(properties):
            wrong = f"Missing '{missing[0]}'." if missing else "Extra required key supplied."
            _refuse(name, where, f"'required' is required to be supplied and to be an array including every key in properties. {wrong}")  # fmt: skip
        for key, part in properties.items():
            _check(name, part, (*where, "properties", key))
    if schema.get("type") == "array":
        _check(name, schema.get("items"), (*where, "items"))


def _refuse(name: str, where: tuple[str, ...], problem: str) -> None:
    message = f"Invalid schema for response_format '{name}': In context={where!r}, {problem}"
    raise ApiError(400, message, "response_format")


Choose = Callable[[str, list[str]], str]
"""(JSON so far, ways to go on) → one of the ways."""


def conforming(schema: Schema, choose: Choose) -> str:
    """A JSON text of ``schema``, property by property in its order; ``choose`` decides every value.

    Numbers get two digits at most, strings one of three words: enough to be read, not to be good.
    """
    return _write(schema, schema, choose, "")


def _write(schema: Schema, root: Schema, choose: Choose, before: str) -> str:
    while "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].lstrip("#/").split("/"):
            found = found[part]
        schema = found
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return choose(before, [json.dumps(value, ensure_ascii=False) for value in values])
    if kind == "object":
        text = "{"
        for i, (key, part) in enumerate(schema.get("properties", {}).items()):
            text += f"{', ' if i else ''}{json.dumps(key, ensure_ascii=False)}: "
            text += _write(part, root, choose, before + text)
        return text + "}"
    if kind == "array":
        text = "["
        for i in range(int(schema.get("minItems", 1))):
            text += ", " if i else ""
            text += _write(schema["items"], root, choose, before + text)
        return text + "]"
    return choose(before, _values(kind, schema))


def _values(kind: Any, schema: Schema) -> list[str]:
    if kind in ("integer", "number"):
        low = schema.get("minimum", 0)
        high = schema.get("maximum", 1 if kind == "number" and low < 1 else low + 99)
        if kind == "integer":
            return [str(i) for i in range(int(low), min(int(high), int(low) + 100) + 1)]
        return [json.dumps(round(low + (high - low) * i / 20, 4)) for i in range(21)]
    if kind == "boolean":
        return ["true", "false"]
    if kind == "null":
        return ["null"]
    return ['"yes"', '"no"', '"perhaps"']
