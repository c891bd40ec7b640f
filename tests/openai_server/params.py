"""Request bodies: every check that the API documents, then one :class:`Ask` a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.openai_server.backend import Ask, Backend, Message
from tests.openai_server.errors import ApiError
from tests.openai_server.offer import Given, Offer
from tests.openai_server.schema import schema_of

_COMMON = {
    "model", "max_tokens", "temperature", "top_p", "n", "seed", "stop", "logprobs", "stream", "stream_options",
    "user", "presence_penalty", "frequency_penalty", "logit_bias",
}  # fmt: skip
KNOWN = {
    "completions": _COMMON | {"prompt", "echo", "best_of", "suffix"},
    "chat": _COMMON
    | {"messages", "max_completion_tokens", "top_logprobs", "response_format", "metadata", "store", "service_tier",
       "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "verbosity", "modalities"},
}  # fmt: skip
_RANGES: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "seed": (int, -(2**63), 2**63 - 1),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
}
_NO_EFFECT = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "suffix": "",
    "best_of": None,
}


def parse(
    endpoint: str, body: Mapping[str, Any], offer: Offer, backend: Backend, seed: int
) -> list[Ask]:
    """One :class:`Ask` for each prompt. Raises ApiError.

    Args:
        endpoint: ``completions`` or ``chat``.
        seed: where the request names none.
    """
    given = {name: value for name, value in body.items() if value is not None}
    _check_model(endpoint, given, offer)
    _check_names(endpoint, given, offer)
    for name, (kind, low, high) in _RANGES.items():
        _number(given, name, kind, low, high)
    n = _number(given, "n", int, 1, offer.most_n) or 1
    chat = endpoint == "chat"
    limit = _max_tokens(given, chat)
    asked_logprobs, top = _chat_logprobs(given, offer) if chat else _logprobs(given, offer)
    prompts, messages = _messages(given, backend) if chat else (_prompts(given, backend), None)
    schema = None
    if chat and _wanted("response_format", offer.json_schema, given.get("response_format")):
        schema = schema_of(given.get("response_format"), str(given["messages"]))
    asks = []
    for prompt in prompts:
        length = backend.count(prompt)
        new = limit if limit is not None else min(offer.default_max_tokens, backend.max_length - length) if chat else 16  # fmt: skip
        if length + new > backend.max_length or length >= backend.max_length + (limit == 0):
            part = "messages" if chat else "prompt"
            raise ApiError(
                400,
                f"This model's maximum context length is {backend.max_length} tokens. However, you requested "
                f"{length + new} tokens ({length} in the {part}, {new} in the completion). Please reduce the length of "
                f"the {part} or completion.",
                part,
                "context_length_exceeded",
            )
        asks.append(
            Ask(
                body=body,
                prompt=prompt,
                messages=messages,
                n=n,
                max_tokens=new,
                temperature=float(given.get("temperature", 1.0)),
                top_p=float(given.get("top_p", 1.0)),
                seed=given.get("seed", seed),
                stop=_stop(given),
                top=top if asked_logprobs else None,
                echo=_echo(given, offer, asked_logprobs),
                schema=schema,
            )
        )
    return asks


def _check_model(endpoint: str, given: Mapping[str, Any], offer: Offer) -> None:
    if "model" not in given:
        raise ApiError(400, "you must provide a model parameter")
    if given["model"] not in offer.models:
        message = f"The model `{given['model']}` does not exist or you do not have access to it."
        raise ApiError(404, message, None, "model_not_found")
    needed = "messages" if endpoint == "chat" else "prompt"
    if needed not in given and endpoint == "chat":
        message = f"Missing required parameter: '{needed}'."
        raise ApiError(400, message, needed, "missing_required_parameter")


def _check_names(endpoint: str, given: Mapping[str, Any], offer: Offer) -> None:
    for name, value in given.items():
        if name in offer.unsupported:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            message = f"Unsupported parameter: '{name}' is not supported with this model.{hint}"
            raise ApiError(400, message, name, "unsupported_parameter")
        if name in offer.fixed and value != offer.fixed[name]:
            message = (
                f"Unsupported value: '{name}' does not support {value} with this model. Only the default "
                f"({offer.fixed[name]}) value is supported."
            )
            raise ApiError(400, message, name, "unsupported_value")
        if name not in KNOWN[endpoint] and name not in offer.extra:
            raise ApiError(400, f"Unrecognized request argument supplied: {name}")
        if name in _NO_EFFECT and value != _NO_EFFECT[name] and name != "best_of":
            raise ApiError(400, f"'{name}' is not implemented by this test server.", name)
    if given.get("stream"):
        raise ApiError(400, "Streaming is off on this server.", "stream", "unsupported_value")
    if given.get("best_of", given.get("n", 1)) != given.get("n", 1):
        raise ApiError(400, "'best_of' other than n is not implemented by this test server.", "best_of")  # fmt: skip


def _number(given: Mapping[str, Any], name: str, kind: type, low: float, high: float) -> int | None:
    """``given[name]`` if it is of its kind and within its range."""
    value = given.get(name)
    if value is None:
        return None
    word = "integer" if kind is int else "decimal"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        article = "an" if kind is int else "a"
        message = (
            f"Invalid type for '{name}': expected {article} {word}, but got {_name(value)} instead."
        )
        raise ApiError(400, message, name, "invalid_type")
    for broken, side, sign, bound in ((value < low, "below minimum", ">=", low), (value > high, "above maximum", "<=", high)):  # fmt: skip
        if broken:
            message = f"Invalid '{name}': {word} {side} value. Expected a value {sign} {bound}, but got {value} instead."
            code = f"{word}_{'below_min' if sign == '>=' else 'above_max'}_value"
            raise ApiError(400, message, name, code)
    return value  # type: ignore[return-value]


def _name(value: Any) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array", dict: "an object"}  # fmt: skip
    return names.get(type(value), "null")


def _max_tokens(given: Mapping[str, Any], chat: bool) -> int | None:
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in given]
    if len(names) == 2:
        message = (
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        )
        raise ApiError(400, message, "max_tokens", "invalid_parameter_combination")
    return _number(given, names[0], int, 1 if chat else 0, 2**31) if names else None


def _wanted(name: str, state: Given, value: Any) -> bool:
    """Whether a parameter that may be switched off counts. Raises ApiError where it is refused."""
    if value in (None, False):
        return False
    if state == "refused":
        raise ApiError(400, f"Unsupported parameter: '{name}' is not supported with this model.", name, "unsupported_parameter")  # fmt: skip
    return state == "given"


def _chat_logprobs(given: Mapping[str, Any], offer: Offer) -> tuple[bool, int]:
    asked = given.get("logprobs", False)
    if not isinstance(asked, bool):
        message = (
            f"Invalid type for 'logprobs': expected a boolean, but got {_name(asked)} instead."
        )
        raise ApiError(400, message, "logprobs", "invalid_type")
    if "top_logprobs" in given and not asked:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise ApiError(400, message, "top_logprobs")
    top = _number(given, "top_logprobs", int, 0, offer.most_top_logprobs) or 0
    wanted = _wanted("logprobs", offer.logprobs, asked)
    return wanted, top if _wanted("top_logprobs", offer.top_logprobs, top) else 0


def _logprobs(given: Mapping[str, Any], offer: Offer) -> tuple[bool, int]:
    top = _number(given, "logprobs", int, 0, offer.most_logprobs)
    wanted = _wanted("logprobs", offer.logprobs, None if top is None else str(top))
    return wanted, (top or 0) if offer.top_logprobs == "given" else 0


def _echo(given: Mapping[str, Any], offer: Offer, logprobs: bool) -> bool:
    echo = _wanted("echo", offer.echo, given.get("echo", False))
    if echo and logprobs and offer.echo_with_logprobs != "given":
        if offer.echo_with_logprobs == "ignored":
            return False
        message = "Setting 'echo' and 'logprobs' at the same time is not supported for this model."
        raise ApiError(400, message)
    return echo


def _stop(given: Mapping[str, Any]) -> tuple[str, ...]:
    stop = given.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops):
        raise ApiError(400, f"Invalid type for 'stop': expected one of a string or array of strings, but got {_name(stop)} instead.", "stop", "invalid_type")  # fmt: skip
    if len(stops) > 4:
        message = (
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length "
            f"{len(stops)} instead."
        )
        raise ApiError(400, message, "stop", "array_above_max_length")
    return tuple(s for s in stops if s)


def _prompts(given: Mapping[str, Any], backend: Backend) -> list[str | tuple[int, ...]]:
    prompt = given.get("prompt", "")
    many = prompt if isinstance(prompt, list) and not _ids(prompt) else [prompt]
    if many and all(isinstance(p, str) for p in many):
        return list(many)
    if many and all(_ids(p) for p in many):
        if not backend.takes_ids:
            raise ApiError(400, "This server has no tokenizer: prompts are strings.", "prompt")
        return [tuple(p) for p in many]
    raise ApiError(400, "Invalid type for 'prompt': expected a string, an array of strings or token ids.", "prompt", "invalid_type")  # fmt: skip


def _ids(prompt: Any) -> bool:
    return isinstance(prompt, list) and bool(prompt) and all(type(i) is int for i in prompt)


def _messages(
    given: Mapping[str, Any], backend: Backend
) -> tuple[list[str | tuple[int, ...]], tuple[Message, ...]]:
    messages = given["messages"]
    if not isinstance(messages, list) or not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        raise ApiError(400, message, "messages", "empty_array")
    plain = [_plain(message, i) for i, message in enumerate(messages)]
    return [backend.render(plain)], tuple(plain)


def _plain(message: Any, i: int) -> Message:
    roles = ("system", "developer", "user", "assistant", "tool")
    if not isinstance(message, dict) or message.get("role") not in roles:
        found = message.get("role") if isinstance(message, dict) else message
        allowed = ", ".join(f"'{role}'" for role in roles)
        text = f"Invalid value: '{found}'. Supported values are: {allowed}."
        raise ApiError(400, text, f"messages[{i}].role", "invalid_value")
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        text = "Invalid value for 'content': expected a string, got null."
        raise ApiError(400, text, f"messages.[{i}].content")
    return {"role": message["role"], "content": content}
