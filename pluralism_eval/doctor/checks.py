"""The list of checks, and how it is gone through: no check stops another."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator

from pluralism_eval.doctor import (
    chat,
    communities,
    disk,
    embedding,
    endpoint,
    environment,
    hearing,
    hub,
    inputs,
    memory,
    model,
    problems,
    window,
)
from pluralism_eval.doctor.asked import Asked
from pluralism_eval.doctor.findings import Blocked, Curtain, Finding, of_error, one_line
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError

Check = Callable[[Run], list[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("packages", environment.packages),
    ("devices", environment.devices),
    ("threads", environment.threads),
    ("import hook", environment.import_hook),
    ("settings", lambda run: problems.describe(run.settings)),
    ("optional packages", environment.optional_packages),
    ("hub", hub.check),
    (embedding.NAME, embedding.check),
    ("data", inputs.data),
    ("tasks", inputs.tasks),
    ("entailment scorer", inputs.scorer),
    ("model", model.model),
    ("memory", memory.check),
    ("tokenizer", model.tokenizer),
    ("option tokens", chat.option_tokens),
    ("chat template", chat.template),
    ("context window", window.check),
    ("endpoint", endpoint.endpoint),
    ("communities", communities.pool),
    ("served communities", endpoint.served_communities),
    ("messages", communities.messages),
    ("listening", hearing.check),
    ("disk", disk.space),
    ("sqlite", disk.locking),
)
"""In the order in which they are made: what others need comes first."""


def examine(asked: Asked, checks: tuple[tuple[str, Check], ...] = CHECKS) -> Iterator[Finding]:
    """The findings of every check, as they come, without any secret in them."""
    run = Run(asked)
    with hub.restored():
        for name, check in checks:
            with quiet():
                found = outcome(name, check, run)
                curtain = _curtain(run)
            for f in dict.fromkeys(found):
                yield Finding(f.check, f.level, curtain.hide(f.seen), curtain.hide(f.do))


def outcome(name: str, check: Check, run: Run) -> list[Finding]:
    """What ``check`` finds; whatever it raises is a finding too."""
    try:
        return check(run)
    except Blocked as blocked:
        if blocked.owner != name or blocked.cause is None:
            seen = f"not checked: it {blocked}"
            return [Finding(name, "skipped", seen)]
        return _of_cause(name, blocked.cause)
    except Exception as error:  # of any kind: the others go on
        return _of_cause(name, error)


def _of_cause(name: str, error: Exception) -> list[Finding]:
    if isinstance(error, PluralismError):
        return of_error(name, error)
    seen = f"the check failed: {type(error).__name__}: {one_line(str(error))[:300]}"
    do = "what it names; if it is none of your doing, please report it with this line"
    return [Finding(name, "problem", seen, do)]


def _curtain(run: Run) -> Curtain:
    given = [run.asked.model_args, run.asked.metadata, run.asked.gen_kwargs]
    variables: list[str] = []
    with contextlib.suppress(
        Exception
    ):  # where settings are wrong, their arguments are hidden still
        given.append(run.settings.llm_args)
        variables.append(str(run.settings.llm_args.get("api_key_variable", "")))
        variables += [c.api_key_variable for c in run.communities if c.base_url]
    return Curtain(given, variables)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Progress bars, prints and logs of libraries stay out of the answer."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
