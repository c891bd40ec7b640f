"""The Batch API: states that the test, or each look at a batch, moves on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Literal

from tests.openai_server.batch_input import Line, check_creation, read
from tests.openai_server.errors import ApiError
from tests.openai_server.files import Files

Run = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any] | None]]
"""(endpoint as ``/v1/completions``, body) → status and reply; no reply: the model timed out."""
TERMINAL = ("completed", "failed", "expired", "cancelled")
_WHY = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "request_timeout": "The underlying call to the model timed out.",
}


@dataclass
class Batch:
    """One batch and what came of it so far."""

    id: str
    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    status: str = "validating"
    times: dict[str, int] = field(default_factory=dict)
    """``created_at`` and so on."""
    lines: list[Line] = field(default_factory=list)
    done: list[tuple[Line, int, dict[str, Any] | None]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None

    def enter(self, status: str) -> None:
        self.status = status
        self.times[f"{status}_at"] = int(time.time())

    def shape(self) -> dict[str, Any]:
        good = sum(status == 200 for _, status, _ in self.done)
        usages = [reply["usage"] for _, status, reply in self.done if status == 200 and reply and reply.get("usage")]  # fmt: skip
        new, old = (sum(u[name] for u in usages) for name in ("completion_tokens", "prompt_tokens"))
        names = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")  # fmt: skip
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.lines[0].body["model"] if self.lines else None,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.times["created_at"],
            "expires_at": self.times["created_at"] + 86400,
            **{f"{name}_at": self.times.get(f"{name}_at") for name in names},
            "request_counts": {"total": len(self.lines), "completed": good, "failed": len(self.done) - good},
            "usage": {
                "input_tokens": old,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": new,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": old + new,
            },
            "metadata": self.metadata,
        }  # fmt: skip


class Batches:
    """All batches of a server.

    Args:
        pace: ``get``: every ``GET /v1/batches/{id}`` moves that batch one step, then shows it; ``hand``: only
            :meth:`advance` does.
        lines_per_step: requests that one step in ``in_progress`` runs; None: all.
    """

    def __init__(
        self,
        files: Files,
        run: Run,
        models: tuple[str, ...],
        pace: Literal["get", "hand"],
        lines_per_step: int | None,
    ) -> None:
        self.files, self.pace, self.lines_per_step = files, pace, lines_per_step
        self._run, self._models = run, models
        self.held: dict[str, Batch] = {}
        self._lock = RLock()

    def create(self, body: Any) -> dict[str, Any]:
        """Raises ApiError."""
        check_creation(body, self.files)
        with self._lock:
            batch = Batch(f"batch_{len(self.held) + 1:024d}", body["input_file_id"], body["endpoint"], body.get("metadata"))  # fmt: skip
            batch.times["created_at"] = int(time.time())
            self.held[batch.id] = batch
            return batch.shape()

    def show(self, id: str) -> dict[str, Any]:
        """Raises ApiError."""
        batch = self._get(id)
        if self.pace == "get":
            self._step(batch)
        return batch.shape()

    def page(self, after: str | None, limit: int) -> dict[str, Any]:
        """The newest first, from the one after ``after``. Raises ApiError."""
        everything = list(self.held)[::-1]
        if after is not None:
            self._get(after)
            everything = everything[everything.index(after) + 1 :]
        page = [self.held[id].shape() for id in everything[:limit]]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(everything) > limit,
        }

    def cancel(self, id: str) -> dict[str, Any]:
        """Raises ApiError."""
        batch = self._get(id)
        with self._lock:
            if batch.status in TERMINAL:
                message = f"Cannot cancel a batch with status '{batch.status}'."
                raise ApiError(409, message)
            batch.enter("cancelling")
            return batch.shape()

    def advance(self, id: str | None = None, steps: int = 1) -> None:
        """Move one batch, or all, on."""
        for _ in range(steps):
            for batch in [self._get(id)] if id else list(self.held.values()):
                self._step(batch)

    def expire(self, id: str) -> None:
        """The completion window ends now: what was run is delivered, the rest never is."""
        with self._lock:
            self._end(self._get(id), "expired", "batch_expired")

    def fail(self, id: str, code: str, message: str) -> None:
        """As for want of quota: ``token_limit_exceeded``."""
        with self._lock:
            batch = self._get(id)
            batch.errors = [{"code": code, "message": message, "param": None, "line": None}]
            batch.enter("failed")

    def _get(self, id: str) -> Batch:
        if id not in self.held:
            raise ApiError(404, f"No batch found with id '{id}'.", "id")
        return self.held[id]

    def _step(self, batch: Batch) -> None:
        with self._lock:
            if batch.status == "validating":
                content = self.files.get(batch.input_file_id).content
                batch.lines, batch.errors = read(content, batch.endpoint, self._models)
                batch.enter("failed" if batch.errors else "in_progress")
            elif batch.status == "in_progress":
                at = len(batch.done)
                end = None if self.lines_per_step is None else at + self.lines_per_step
                for line in batch.lines[at:end]:
                    batch.done.append((line, *self._run(batch.endpoint, line.body)))
                if len(batch.done) == len(batch.lines):
                    batch.enter("finalizing")
            elif batch.status == "finalizing":
                self._end(batch, "completed", "")
            elif batch.status == "cancelling":
                self._end(batch, "cancelled", "batch_cancelled")

    def _end(self, batch: Batch, status: str, why: str) -> None:
        """Write both files: order is not that of the input."""
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for line, code, reply in batch.done:
            if reply is None:
                bad.append(_unanswered(batch, line, "request_timeout"))
            else:
                answer = {"status_code": code, "request_id": f"req_{_hash(batch.id, line)}", "body": reply}  # fmt: skip
                (good if code == 200 else bad).append(_shell(batch, line) | {"response": answer, "error": None})  # fmt: skip
        bad += [_unanswered(batch, line, why) for line in batch.lines[len(batch.done) :]]
        if good:
            batch.output_file_id = self._write(batch, "output", good)
        if bad:
            batch.error_file_id = self._write(batch, "error", bad)
        batch.enter(status)

    def _write(self, batch: Batch, kind: str, lines: list[dict[str, Any]]) -> str:
        lines.sort(key=lambda line: str(line["id"]))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return self.files.add(f"{batch.id}_{kind}.jsonl", "batch_output", text.encode()).id


def _shell(batch: Batch, line: Line) -> dict[str, Any]:
    return {"id": f"batch_req_{_hash(batch.id, line)}", "custom_id": line.custom_id}


def _unanswered(batch: Batch, line: Line, code: str) -> dict[str, Any]:
    error = {"code": code, "message": _WHY[code]}
    return _shell(batch, line) | {"response": None, "error": error}


def _hash(batch: str, line: Line) -> str:
    return hashlib.sha256(f"{batch}\0{line.custom_id}".encode()).hexdigest()[:24]
