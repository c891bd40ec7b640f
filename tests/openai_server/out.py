"""An answer, before it meets the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Part = Literal["whole", "cut_body", "cut_json", "nothing"]


@dataclass
class Out:
    """An answer, and how much of it is sent."""

    status: int
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)
    part: Part = "whole"
    sending: Callable[[bool], None] = lambda delivered: None
    """Called just before: whether all of it will be sent."""
    lost: Callable[[], None] = lambda: None
    """Called where all of it should have been sent, but the client was gone."""


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def ok(value: Any) -> Out:
    return Out(200, as_json(value))
