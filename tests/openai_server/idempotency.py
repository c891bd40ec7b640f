"""Replies under an ``Idempotency-Key``, as Stripe has it."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

from tests.openai_server.errors import ApiError


class Replies:
    """Key → (what was asked, reply or None while it is being made)."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, bytes | None]] = {}
        self._lock = RLock()

    def once(self, key: str | None, asked: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The reply, and whether it was stored: ``make`` runs once a key. Errors are not stored.

        Raises:
            ApiError: 400 for a key that came with something else, 409 while the first is being made.
        """
        if key is None:
            return make(), False
        with self._lock:
            before, reply = self._held.get(key, ("", b""))
            if key in self._held:
                if before != asked:
                    message = "Keys for idempotent requests can only be used with the same parameters they were first used with."
                    raise ApiError(400, message, kind="idempotency_error")
                if reply is None:
                    message = (
                        "There is currently another in-progress request using this idempotency key."
                    )
                    raise ApiError(409, message, None, "idempotency_key_in_use", "idempotency_error")  # fmt: skip
                return reply, True
            self._held[key] = (asked, None)
        try:
            made = make()
        except BaseException:
            with self._lock:
                del self._held[key]
            raise
        with self._lock:
            self._held[key] = (asked, made)
        return made, False
