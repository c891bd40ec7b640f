"""Errors in OpenAI's shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "error": {
                "message": message,
                "type": kind,
                "param": param,
                "code": code,
                **(more or {}),
            }
        }

    @property
    def payload(self) -> bytes:
        return json.dumps(self.body, ensure_ascii=False).encode()


def masked(key: str) -> str:
    """As OpenAI shows a wrong key."""
    return f"{key[:8]}{'*' * max(3, len(key) - 12)}{key[-4:]}" if len(key) > 12 else "***"
