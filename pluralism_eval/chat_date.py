"""The date that chat templates see, so that runs of different days send the same prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, tzinfo
from typing import Any

from pluralism_eval.errors import PluralismError

DEFAULT = "2024-07-26"
"""What Llama 3's own templates show where nobody tells them the date."""
_day: ContextVar[str | None] = ContextVar("chat_date", default=None)


class _Clock(datetime):
    """What ``strftime_now`` of transformers' chat templates reads the time from."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        day = _day.get()
        return datetime.now(tz) if day is None else datetime.fromisoformat(day)


@contextmanager
def rendering_on(day: str) -> Iterator[None]:
    """Inside, transformers renders chat templates as if it were the beginning of ``day`` (YYYY-MM-DD)."""
    # templates get plain data only, no function of ours: the clock can be stopped nowhere else
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = _Clock
    token = _day.set(day)
    try:
        yield
    finally:
        _day.reset(token)


def checked(value: Any) -> str:
    """``value`` as YYYY-MM-DD. Raises PluralismError if it is no such date."""
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise PluralismError(
            f"chat_date={value!r} must be a date such as {DEFAULT} (year, month, day)"
        ) from error


def depends_on_time(tokenizer: Any) -> bool:
    """True where a chat template of ``tokenizer`` asks for the date."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None) or "")
