"""The process that does what a stranger wrote: renders templates and matches regular expressions, within limits.

Run as a script by :mod:`pluralism_eval.bounded`. It imports nothing of this package. The system ends it when a
request takes too much processor time, also inside of one operation that Python cannot interrupt.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MEGABYTES = 512
"""Address space. More is a MemoryError, which is an answer."""
CHARACTERS = 4_000_000
"""Of one rendered text."""


class LimitError(Exception):
    """What was asked takes too much."""


def environment() -> Any:
    """Jinja's sandbox: a template reaches its variables, and nothing else."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=False, autoescape=False
    )


@lru_cache(maxsize=1)
def _environment() -> Any:
    return environment()


@lru_cache(maxsize=1)
def _chat_environment() -> Any:
    """As transformers compiles chat templates; what it tracks within ``generation`` blocks does not matter here."""
    from datetime import datetime

    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - jinja's own form

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    own = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    own.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
    own.globals["raise_exception"] = refuse
    own.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return own


@lru_cache(maxsize=64)
def _template(text: str) -> Any:
    return _environment().from_string(text)


def render(template: str, values: dict[str, Any]) -> str:
    """``template`` filled in."""
    return _filled(_template(template), values)


def _filled(template: Any, values: dict[str, Any]) -> str:
    pieces, size = [], 0
    for piece in template.generate(**values):
        size += len(piece)
        if size > CHARACTERS:
            raise LimitError(f"it makes more than {CHARACTERS:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def render_chat(template: str, values: dict[str, Any]) -> int:
    """Length of a model's chat template filled in, with what transformers offers to such templates."""
    return len(_filled(_chat_environment().from_string(template), values))


def check_template(template: str) -> None:
    """Raises what jinja2 says about a template that is none."""
    _template(template)


def match(patterns: list[str], names: list[str]) -> None:
    """Matches every pattern against every name, as PEFT will. Raises what ``re`` says about one that is none."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern[:80]!r} is no regular expression: {error}") from None
        for name in names:
            compiled.match(name)
            compiled.fullmatch(name)


TASKS: dict[str, Callable[..., Any]] = {
    "render": render,
    "render_chat": render_chat,
    "check_template": check_template,
    "match": match,
}


def answer(request: bytes) -> bytes:
    """{"value": ...}, or {"error": ...} with "limit" where it met one; as JSON."""
    try:
        task, arguments = json.loads(request)
        return json.dumps({"value": TASKS[task](*arguments)}).encode()
    except MemoryError:
        said = f"it needs more than {MEGABYTES} MB"
        return json.dumps({"error": said, "limit": True}).encode()
    except LimitError as error:
        return json.dumps({"error": str(error), "limit": True}).encode()
    except Exception as error:  # whatever a template may raise
        return json.dumps({"error": str(error)[:2000] or type(error).__name__}).encode()


def main(seconds: float) -> None:
    """Answers requests until its input ends: each is a length in 4 bytes, then JSON."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # not on this system; the parent's own limit stays
        pass
    timed = hasattr(signal, "setitimer")
    while head := sys.stdin.buffer.read(4):
        request = sys.stdin.buffer.read(int.from_bytes(head, "big"))
        if timed:  # SIGPROF, which nobody handles, ends the process
            signal.setitimer(signal.ITIMER_PROF, seconds)
        said = answer(request)
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(len(said).to_bytes(4, "big") + said)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[2])  # jinja2 from where the parent has it
    main(float(sys.argv[1]))
