"""One request, and what stands in its reply or error before anything is read of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pluralism_eval.api.replies import Reply, read_reply
from pluralism_eval.api.settings import UNNAMED, ApiSettings
from pluralism_eval.errors import PluralismError
from pluralism_eval.secrets import redact

_SNAPSHOT = re.compile(r"-(19|20)\d\d(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])$")
"""How names of dated snapshots end: -2024-08-06, -20240806."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    kind: str
    """``chat`` or ``completions``."""
    body: Mapping[str, Any]
    sample: int = 0
    """Tells equal requests apart that want different samples."""
    needs_first: bool = False
    """The likeliest first tokens are what is wanted."""
    shows: Callable[[Reply], bool] | None = field(default=None, compare=False)
    """Whether a reply holds what is wanted; one that does not is asked for again, and never kept."""

    def lacks(self, reply: Reply) -> bool:
        """True for a reply that says nothing of what was asked for."""
        if any(choice.refused for choice in reply.choices):
            return False
        if self.needs_first and any(choice.first is None for choice in reply.choices):
            return True
        return self.shows is not None and not self.shows(reply)

    @property
    def wants_text(self) -> bool:
        return not (self.needs_first or self.body.get("echo"))

    def is_useless(self, reply: Reply) -> bool:
        """True for a reply that is not worth keeping: the next run asks again."""
        silent = all(c.missing or (not c.text and c.finish == "length") for c in reply.choices)
        return self.lacks(reply) or (self.wants_text and silent)

    @property
    def n(self) -> int:
        return int(self.body.get("n") or 1)

    @property
    def new_tokens(self) -> int:
        """The most that may be generated."""
        limit = self.body.get("max_tokens", self.body.get("max_completion_tokens"))
        return self.n * int(limit or 0)

    def prompt_tokens(self) -> int:
        """An estimate on the high side: two characters a token."""
        texts = self.body.get("messages") or [{"content": self.body.get("prompt")}]
        return sum(len(str(turn["content"])) for turn in texts) // 2 + 8


def answered_by(raw: Mapping[str, Any]) -> str:
    """Who says to have answered."""
    return str(raw.get("model") or "")


def same_model(said: str, asked: str, served_as: Sequence[str]) -> bool:
    """Is ``said`` the model that was asked for, or one of those that it is ``served_as``?

    A dated snapshot is its model: ``gpt-4o-2024-08-06`` answers for ``gpt-4o``, ``gpt-4o-mini`` does not.
    """
    names = (asked, *served_as)
    return (said or UNNAMED) in names or (bool(said) and _SNAPSHOT.sub("", said) in names)


def joined(raws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Replies of one choice each as one reply."""
    choices = [choice for raw in raws for choice in raw["choices"]]
    usages = [raw.get("usage") for raw in raws]
    kinds = ("prompt_tokens", "completion_tokens")
    usage = {kind: sum(int((u or {}).get(kind) or 0) for u in usages) for kind in kinds}
    return {
        **raws[0],
        "choices": [{**choice, "index": i} for i, choice in enumerate(choices)],
        "usage": usage if all(usages) else None,
    }


def tokens_used(usage: Any, call: Call) -> tuple[int, int] | None:
    """(prompt, new) tokens as the server says; None where it says nothing sensible.

    New tokens that it leaves out count as all that were allowed.
    """
    if not isinstance(usage, Mapping):
        return None
    sent, new = usage.get("prompt_tokens"), usage.get("completion_tokens", call.new_tokens)
    counts = [c for c in (sent, new) if isinstance(c, int) and 0 <= c < 10**9]
    return (counts[0], counts[1]) if len(counts) == 2 else None


def error_code(error: Any) -> str:
    """The ``code`` of an error body."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error", body)
    return str(inner.get("code") or inner.get("type") or "") if isinstance(inner, Mapping) else ""


def unusable(asked_times: int, problem: str, call: Call, raw: Mapping[str, Any]) -> str:
    asked, said = call.body["model"], answered_by(raw)
    if problem == "no_choices":
        try:
            read_reply(raw, bool(call.body.get("echo")))
        except PluralismError as error:
            return f"{asked}: {asked_times} replies could not be read: {error}"
        return f"{asked}: {asked_times} replies held no choice"
    times = f"{asked_times} times"
    where = "to llm_args (of a community: to its entry in the pool)"
    if not said:
        return (
            f"asked for model {asked!r}, the server named no model {times}; if it never does, add "
            f"served_as={UNNAMED} {where}"
        )
    return (
        f"asked for model {asked!r}, {said!r} answered {times}; if that is the same one, add "
        f"served_as={said} {where}"
    )


def words(s: ApiSettings, error: Exception, call: Call | None = None) -> str:
    """An SDK error in one line, with what to do about the common ones."""
    where = f"{s.base_url} ({call.body['model']})" if call else s.base_url
    reason = redact(str(error).splitlines()[0][:300] if str(error) else type(error).__name__)
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        there = "holds another key" if os.environ.get(s.api_key_variable) else "is not set"
        return f"{where} refuses the key: {reason}. The variable {s.api_key_variable} {there}"
    if status is not None and 300 <= status < 400:
        there = redact(error.response.headers.get("location", "")[:200])  # type: ignore[attr-defined]
        return (
            f"{where} redirects to {there!r}, which is not followed: keys and prompts go to no other host. If "
            "that is the server, set base_url to it"
        )
    if status == 404:
        return f"{where}: {reason}. Check model and api={s.api} (completions or chat)"
    return f"{where}: {type(error).__name__}: {reason}"
