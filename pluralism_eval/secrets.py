"""Secrets stay out of whatever people read: errors, results, logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_NAME = re.compile(
    r"(^|_)(token|(key|secret|password|passwd|credential|auth|authorization|header|bearer)s?)$",
    re.IGNORECASE,
)
_SHORTEST = 8  # a shorter value may be an ordinary word
_HIDDEN = "***"


def is_secret_name(name: str) -> bool:
    """True for names of settings or variables such as ``api_key``, ``HF_TOKEN`` or ``headers``."""
    return bool(_NAME.search(name.strip().replace("-", "_")))


def redact(text: str) -> str:
    """``text`` without the values of secret environment variables, and without keys that look so."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and is_secret_name(name):
            text = text.replace(value, _HIDDEN)
    text = re.sub(r"\b(sk|hf|gsk|xai)[-_][A-Za-z0-9_-]{16,}", _HIDDEN, text)
    text = re.sub(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}", rf"\1{_HIDDEN}", text)
    return re.sub(r"(\w+://)[^/\s@]+@", rf"\1{_HIDDEN}@", text)


def without_secrets(value: Any) -> Any:
    """``value`` with the values of secret names hidden, in mappings at any depth and in the text
    form ``name=value,name=value`` (or ``;``) of lm-eval's arguments."""
    if isinstance(value, Mapping):
        return {
            k: _HIDDEN if is_secret_name(str(k)) and v not in (None, "") else without_secrets(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    if isinstance(value, str):
        hidden = re.sub(
            r"([\w-]+)(\s*=\s*)([^,;]+)",
            lambda m: f"{m[1]}{m[2]}{_HIDDEN}" if is_secret_name(m[1]) else m[0],
            value,
        )
        return redact(hidden)
    return value


def secret_in_url(url: str) -> bool:
    """True if ``url`` carries a user, a password, or a parameter that is named like a secret."""
    parts = urlsplit(url)
    pairs = (pair.partition("=")[0] for pair in parts.query.split("&"))
    return "@" in parts.netloc or any(is_secret_name(name) for name in pairs)
