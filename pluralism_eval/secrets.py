"""Secrets stay out of whatever people read: errors, logs, tracebacks, results.

Known by value: environment variables with a telling name, and whatever was told (:func:`remember`). Known by
look: keys of the usual providers, credentials in addresses and headers, and what stands beside a telling name.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

_NAME = re.compile(
    r"(^|_)(token|((api)?key|secret|password|passwd|passphrase|credential|auth|authorization|header|cookie|bearer)s?)$",
    re.IGNORECASE,
)
_VOCABULARY = re.compile(
    r"(^|_)(bos|eos|pad|unk|sep|cls|mask|begin|start|end|stop|first|last|next|new|prefix|suffix|special|image|audio|video)_token$"
    r"|^prompt_cache_key$",
    re.IGNORECASE,
)
"""Tokens of a vocabulary: ``eos_token``, ``think_end_token``; and a request parameter of OpenAI's."""
_SHORTEST = 8  # a shorter value may be an ordinary word
_HIDDEN = "***"
_LOOKS = (
    (re.compile(r"\b(sk|gsk|xai|rk|pk)[-_][\w-]{16,}"), _HIDDEN),
    (re.compile(r"\b(hf|gh[oprsu]|npm|glpat|r8)[-_][A-Za-z0-9]{16,}"), _HIDDEN),
    (re.compile(r"\bgithub_pat_\w{16,}|\bxox[a-z]-[\w-]{16,}|\bAIza[\w-]{30,}|\bAKIA[A-Z0-9]{16}"), _HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,4000}\.[\w-]{8,}\.[\w-]*"), _HIDDEN),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?\w+\s+)[^\s'\",;}]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b((?:x-[\w-]{0,100}(?:key|token|auth|secret)|api-key|(?:set-)?cookie)\s*:\s*)[^\s'\",;]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?<!\w)(\w+://)[^/\s\"'<>]+@"), rf"\1{_HIDDEN}@"),
)  # fmt: skip
_VALUE = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\\+[\"'].{0,999}?\\+[\"']|\{[^{}]*\}|\[[^][]*\]|[^\s,;&)}\]\"']+"
_NAMED = r"(?<![\w-])(?P<name>[\w-]*(?:token|auth|authorization|bearer|(?:key|secret|passwd|password|passphrase|credential|header|cookie)s?))"
_PAIRS = (
    re.compile(rf"(?i){_NAMED}(?P<sign>=)(?P<value>{_VALUE})"),
    re.compile(rf"(?i){_NAMED}(?P<sign>\\*[\"']\s*:\s*)(?P<value>{_VALUE})"),  # Python, JSON
    re.compile(
        rf"(?i){_NAMED}(?P<sign>:\s+)(?P<value>(?=\S*\d)[^\s,;}}\]\"']{{6,}})"
    ),  # YAML, not prose
)
_ORDINARY = ("key", "keys")  # in text, these name anything
_NOTHING = ("", "none", "null", "true", "false")
_EMPTY = (*_NOTHING, "{}", "[]", "()")
_MIXED = 20
_PARAMETERS = ("code", "sig", "signature", "sas", "pass", "pwd", "jwt", "access", "session", "sid")
"""Of addresses, besides the telling names: Azure's, signed URLs'."""
_IN_QUERY = re.compile(r"(?:^|(?<=[&;?#]))([^=&;?#]{1,100})=([^&;#]*)")
_WITH_QUERY = re.compile(r"(?<!\w)(\w{1,20}://[^\s\"'<>?#]{0,300}[?#])([^\s\"'<>,]+)")
_told: set[str] = set()


def is_secret_name(name: str) -> bool:
    """True for names of settings or variables such as ``api_key``, ``HF_TOKEN`` or ``X-Auth-Token``."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).replace("-", "_")
    return bool(_NAME.search(plain)) and not _VOCABULARY.search(plain)


def remember(value: str) -> None:
    """``value`` is a secret, whatever the name of the variable or file that it came from."""
    if len(value) >= _SHORTEST:
        _told.add(value)


def _known() -> set[str]:
    """Secrets by value: of this process's environment, and told ones."""
    named = {v for n, v in os.environ.items() if len(v) >= _SHORTEST and is_secret_name(n)}
    return named | _told


def redact(text: str) -> str:
    """``text`` without secrets, see above."""
    for value in sorted(_known(), key=len, reverse=True):
        for form in {value, quote(value, safe=""), json.dumps(value)[1:-1]}:
            text = text.replace(form, _HIDDEN)
    text = _WITH_QUERY.sub(_without_parameters, text)
    for look, shown in _LOOKS:
        text = look.sub(shown, text)
    for pair in _PAIRS:
        text = pair.sub(_without_value, text)
    return text


def _without_value(pair: re.Match[str]) -> str:
    name, value = pair["name"], pair["value"]
    if name.lower() in _ORDINARY or not is_secret_name(name):
        return pair[0]
    if value.strip("\"'").lower() in _NOTHING:
        return pair[0]
    mark = value[0] if value[0] in "\"'" else ""
    return f"{name}{pair['sign']}{mark}{_HIDDEN}{mark}"


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
            r"(?<![\w-])([\w-]+)(\s*=\s*)([^,;]+)",  # only from a word's beginning: in linear time
            lambda m: f"{m[1]}{m[2]}{_HIDDEN}" if is_secret_name(m[1]) else m[0],
            value,
        )
        return redact(hidden)
    return value


def secret_in_url(url: str) -> bool:
    """True if ``url`` carries a user, a password, or a parameter that is named or looks like a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address at all
        return "@" in url
    pairs = _IN_QUERY.findall(f"{parts.query}&{parts.fragment}")
    return "@" in parts.netloc or any(_secret_parameter(name, value) for name, value in pairs)


def _secret_parameter(name: str, value: str) -> bool:
    """Of an address. A long mixture of letters and digits is none of the usual parameters."""
    mixed = len(value) >= _MIXED and re.search(r"[A-Za-z]", value) and re.search(r"\d", value)
    plain = unquote(name).strip()
    return bool(value and (is_secret_name(plain) or plain.lower() in _PARAMETERS or mixed))


def _without_parameters(url: re.Match[str]) -> str:
    def shown(pair: re.Match[str]) -> str:
        return f"{pair[1]}={_HIDDEN}" if _secret_parameter(pair[1], pair[2]) else pair[0]

    return url[1] + _IN_QUERY.sub(shown, url[2])


def looks_secret(text: str) -> bool:
    """True if a key of one of the usual providers, or a secret of this process, stands in ``text``."""
    return any(look.search(text) for look, _ in _LOOKS) or any(v in text for v in _known())


def secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """Names of the arguments that hold a secret, at any depth: ``llm_args.api_key``."""
    secret = is_secret_name(name.rpartition(".")[2])
    if isinstance(value, Mapping) and not (value and secret):
        for key, inner in value.items():
            yield from secrets_in(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and not (value and secret):
        for inner in value:
            yield from secrets_in(inner, name)
    elif isinstance(value, (str, Mapping, list, tuple)) and str(value).lower() not in _EMPTY:
        in_url = isinstance(value, str) and "://" in value and secret_in_url(value)
        if in_url or secret:
            yield name


# ---------------------------------------------------------------------- whatever this process writes


def guard() -> None:
    """From now on logs, warnings and tracebacks of this process are written without secrets, whoever writes them.

    Only what holds a secret is changed. Idempotent.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "guards", False):
        return

    def record(*args: Any, **more: Any) -> logging.LogRecord:
        made = make(*args, **more)
        try:
            text = made.getMessage()
        except Exception:  # a call with wrong arguments: logging itself shows them
            made.args = tuple(redact(str(argument)) for argument in made.args or ())
            return made
        if (shown := redact(text)) != text:
            made.msg, made.args = shown, ()
        if made.exc_info and made.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*made.exc_info)).rstrip("\n")
            if (shown := redact(text)) != text:
                made.exc_text = shown  # what formatters take in the place of exc_info
        return made

    record.guards = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(record)
    warn, crash, crash_in_thread = warnings.formatwarning, sys.excepthook, threading.excepthook

    def format_warning(*args: Any, **more: Any) -> str:
        return redact(warn(*args, **more))

    def excepthook(kind: Any, error: Any, trace: Any) -> None:
        if not _write_redacted(kind, error, trace):
            crash(kind, error, trace)

    def thread_excepthook(args: Any) -> None:
        if not _write_redacted(args.exc_type, args.exc_value, args.exc_traceback):
            crash_in_thread(args)

    warnings.formatwarning = format_warning
    sys.excepthook, threading.excepthook = excepthook, thread_excepthook


def _write_redacted(kind: Any, error: Any, trace: Any) -> bool:
    """Writes the traceback if there is anything to hide in it; True if so."""
    text = "".join(traceback.format_exception(kind, error, trace))
    if (shown := redact(text)) == text:
        return False
    sys.stderr.write(shown)
    return True
