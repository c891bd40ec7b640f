"""What ``llm=openai`` and served communities may be told about their server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from pluralism_eval.errors import raise_all
from pluralism_eval.secrets import is_secret_name, looks_secret, secret_in_url, secrets_in

OPENAI = "https://api.openai.com/v1"
KINDS = ("chat", "completions")
UNNAMED = "unnamed"
"""In ``served_as``: replies that name no model."""
_INSTEAD = (
    "put them into the environment (OPENAI_API_KEY, or a variable that api_key_variable names; for headers "
    "extra_headers_from_env, a mapping from header to variable)"
)
ANSWER_FIELDS = ("extra", "omit", "top_logprobs", "max_length", "tokenizer", "think_end_token")
"""Besides model, base_url and api: what an answer may depend on."""


@dataclass(frozen=True)
class ApiSettings:
    """Arguments of ``llm=openai``. Limits are of one run."""

    model: str = ""
    """Its name on the server."""
    base_url: str = OPENAI
    api: str = "chat"
    """``chat`` or ``completions``."""
    api_key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; servers without keys need none."""
    concurrency: int = 16
    """Requests in flight."""
    timeout: float = 120.0
    """Seconds until a request is given up and tried again; a reply that is still arriving then is an error."""
    max_retries: int = 8
    """Of requests that failed for a passing reason (408, 409, 429, 5xx, no connection)."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Prompt and new tokens; estimated before, corrected after a reply."""
    price_in: float | None = None
    """Money for a million prompt tokens."""
    price_out: float | None = None
    """Money for a million new tokens."""
    spend_limit: float | None = None
    """Money that a run may spend; no request is sent that could exceed it. What a server answered without saying
    its tokens, and what it did not answer in time, counts with the most that it may have cost."""
    cache: bool = True
    """False: nothing is kept and everything asked anew, for servers whose weights change under one name."""
    batch: bool = False
    """Use the Batch API: cheaper, answered within a day; may be interrupted at any time."""
    batch_poll: float = 60.0
    """Seconds between two looks at a batch."""
    batch_size: int = 50_000
    """Requests a batch, at most."""
    tokenizer: str = ""
    """Transformers tokenizer: counts tokens, and templates chats for ``api=completions``."""
    max_length: int = 8192
    """Context window in tokens."""
    top_logprobs: int = 20
    """Likeliest first tokens that are asked for (readout ``top_logprobs``)."""
    think_end_token: str = ""
    """What ends a model's thought; the answer is what follows it, and stop strings hold for that alone.
    Default: ``</think>``, where a text has it."""
    max_tokens_name: str = ""
    """Default: ``max_completion_tokens`` for OpenAI's chat, else ``max_tokens``."""
    omit: tuple[str, ...] = ()
    """Request parameters that are never sent, for servers that reject them (``seed``, ...)."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More request parameters, such as ``reasoning_effort``."""
    served_as: tuple[str, ...] = ()
    """Other names under which the server may say that the model answered; ``unnamed``: it says none."""
    extra_headers_from_env: Mapping[str, Any] = field(default_factory=dict)
    """Header → the environment variable that holds its value: ``{"X-Team": "TEAM_KEY"}``."""

    @property
    def limit_name(self) -> str:
        """The parameter that limits new tokens."""
        own = self.base_url == OPENAI and self.api == "chat"
        return self.max_tokens_name or ("max_completion_tokens" if own else "max_tokens")


def parse_api(given: Mapping[str, Any]) -> ApiSettings:
    """Settings from ``llm_args``.

    Raises:
        PluralismError: one error with all problems; it never repeats a key that was given.
    """
    known = {f.name: f for f in fields(ApiSettings)}
    hints = get_type_hints(ApiSettings)
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            problems.append(_unknown(name, value, list(known)))
        else:
            values[name] = _typed(name, value, hints[name], problems)
    settings = ApiSettings(**values)
    if not settings.model:
        problems.append("model is missing: the name of the LLM on the server")
    if settings.api not in KINDS:
        problems.append(f"api={settings.api!r} is unknown. Allowed: {', '.join(KINDS)}")
    problems += _of_values(settings)
    raise_all("llm_args of llm=openai", problems)
    return settings


def _unknown(name: str, value: Any, known: list[str]) -> str:
    if is_secret_name(name):
        return f"{name}: keys do not belong in arguments, which results and shell histories keep; {_INSTEAD}"
    shown = "" if isinstance(value, Mapping) else f"={value!r}"
    return f"unknown argument {name}{shown}. Known: {', '.join(known)}"


def _typed(name: str, value: Any, hint: Any, problems: list[str]) -> Any:
    """``value`` as the field wants it; what cannot be is a problem."""
    wanted = str(hint)
    if "tuple" in wanted:
        if not isinstance(value, (str, list, tuple)):
            problems.append(f"{name}={value!r} must be names, joined by commas")
            return ()
        items = value.split(",") if isinstance(value, str) else value
        return tuple(str(item).strip() for item in items)
    if hint is str:
        return str(value).rstrip("/") if name == "base_url" else str(value)
    if "Mapping" in wanted:
        if not isinstance(value, Mapping):
            problems.append(f"{name}={value!r} must be a mapping (give llm_args as JSON)")
            return {}
        return dict(value)
    if hint is bool:
        if not isinstance(value, bool):
            problems.append(f"{name}={value!r} must be true or false")
        return value
    if value is None and "None" in wanted:
        return None
    number = int if hint is int else float
    ok = isinstance(value, number) if number is int else isinstance(value, (int, float))
    if not ok or isinstance(value, bool):
        problems.append(f"{name}={value!r} must be {'an integer' if number is int else 'a number'}")
        return 1
    return value


def _looking_secret(value: Any, name: str = "") -> Iterator[str]:
    """Names, at any depth, of texts that are a key by their look."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _looking_secret(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _looking_secret(inner, name)
    elif isinstance(value, str) and looks_secret(value):
        yield name


def _of_values(s: ApiSettings) -> list[str]:
    found = []
    if secret_in_url(s.base_url):
        found.append(f"base_url carries a user, password or key; {_INSTEAD}")
    elif "?" in s.base_url or "#" in s.base_url:
        found.append(
            "base_url has a query: the paths of requests are added to it. Leave out ? and #"
        )
    elif not s.base_url.startswith(("http://", "https://")):
        found.append(f"base_url={s.base_url!r} must begin with http:// or https://")
    positive = (
        "concurrency", "timeout", "requests_per_minute", "tokens_per_minute", "batch_poll", "batch_size",
        "max_length", "top_logprobs",
    )  # fmt: skip
    found += [
        f"{name}={getattr(s, name)!r} must be above 0"
        for name in positive
        if getattr(s, name) is not None and not getattr(s, name) > 0
    ]
    found += [
        f"{name}={getattr(s, name)!r} must be 0 or more"
        for name in ("max_retries", "price_in", "price_out", "spend_limit")
        if getattr(s, name) is not None and not getattr(s, name) >= 0
    ]
    found += [
        f"extra.{name}: keys do not belong in arguments, which results and shell histories keep; {_INSTEAD}"
        for name in dict.fromkeys([*secrets_in(s.extra), *_looking_secret(s.extra)])
    ]
    found += [
        f"extra_headers_from_env: {header!r} must name an environment variable, such as TEAM_KEY"
        for header, variable in s.extra_headers_from_env.items()
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(variable)) or looks_secret(str(variable))
    ]
    if s.batch and not s.cache:
        found.append("batch=true collects answers from the cache: drop cache=false")
    if s.spend_limit is not None and (s.price_in is None or s.price_out is None):
        found.append("spend_limit needs price_in and price_out (money for a million tokens)")
    return found
