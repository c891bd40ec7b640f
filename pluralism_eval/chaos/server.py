"""A small OpenAI-compatible server that counts what it is paid for, and fails as it is told."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any

from pluralism_eval.chaos.replies import reply

MODELS = ("llm", "base", "left", "center", "right")
FAULTS = ("429", "500", "503", "silent", "dropped", "cut", "garbled", "another_model")
"""Refusals; no reply for a moment and then none at all; a connection that ends before, and in the middle of
a reply; half a reply announced as a whole one; a reply of a model that was not asked."""
_IN_A_ROW = 2
_SILENCE = 0.3  # seconds
_BACKLOG = 0.05  # seconds within which a connection that waits is taken


class Ledger:
    """What was asked and paid, by the client's own key of a request."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.requests = 0
        """Arrived, whatever became of them."""
        self.paid: Counter[str] = Counter()
        """Key → usable replies that were sent whole."""
        self.canaries = 0
        """Proofs of life, which are asked anew each time."""
        self.injected: Counter[str] = Counter()


class Server:
    """``with Server() as server``: at ``server.url`` until the block ends.

    Args:
        share: of the requests that meet a fault; which ones follows from ``seed``, the request and
            how often it came. No request fails more than twice in a row.
        delay: seconds that a reply takes.
    """

    def __init__(self, share: float = 0.0, seed: int = 0, delay: float = 0.004) -> None:
        self.share, self.seed, self.delay = share, seed, delay
        self.ledger = Ledger()
        self._failed: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._http: _Http | None = None

    @property
    def url(self) -> str:
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def reset(self, share: float = 0.0, seed: int = 0) -> Ledger:
        """A new ledger, and other faults; returns the ledger."""
        self.share, self.seed, self.ledger = share, seed, Ledger()
        self._failed.clear()
        self._seen.clear()
        return self.ledger

    def settle(self) -> None:
        """Waits until the requests of clients that are dead are answered: those are paid, too."""
        assert self._http is not None
        time.sleep(_BACKLOG)
        while self._http.open:
            time.sleep(0.002)

    def fault(self, key: str) -> str | None:
        """What this request meets."""
        with self.ledger.lock:
            n = self._seen[key]
            self._seen[key] += 1
            drawn = hashlib.sha256(f"{self.seed} {key} {n}".encode()).digest()
            if self._failed[key] >= _IN_A_ROW or drawn[0] >= 256 * self.share:
                self._failed[key] = 0
                return None
            self._failed[key] += 1
            found = FAULTS[drawn[1] % len(FAULTS)]
            self.ledger.injected[found] += 1
            return found

    def __enter__(self) -> Server:
        self._http = _Http(type("Handler", (_Handler,), {"owner": self}))
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.open = 0
        """Connections."""
        self._lock = Lock()
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.open += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self.open -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "chaos"} for name in MODELS]})  # fmt: skip

    def do_POST(self) -> None:
        ledger = self.owner.ledger
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with ledger.lock:
            ledger.requests += 1
        key, _, attempt = self.headers.get("Idempotency-Key", "").rpartition("-")
        if body["model"] not in MODELS or body.get("echo"):
            what = "echo is not supported" if body.get("echo") else f"no model {body['model']}"
            return self._send(400, {"error": {"message": what}})
        time.sleep(self.owner.delay)
        fault = (
            self.owner.fault(key or json.dumps(body, sort_keys=True)) if self.owner.share else None
        )
        if fault in ("429", "500", "503"):
            return self._send(
                int(fault), {"error": {"message": "not now"}}, {"retry-after-ms": "20"}
            )
        kind = "chat" if self.path.endswith("/chat/completions") else "completions"
        payload = reply(kind, body)
        if fault == "another_model":
            payload["model"] = "stranger"
        if fault in ("silent", "dropped", "cut", "garbled"):
            return self._break(fault, payload)
        if fault is None:
            with ledger.lock:
                ledger.canaries += not attempt or not key
                ledger.paid.update([key] if key else [])
        return self._send(200, payload)

    def _break(self, fault: str, payload: dict[str, Any]) -> None:
        if fault == "silent":
            time.sleep(_SILENCE)
        data = json.dumps(payload).encode()
        half = data[: len(data) // 2]
        if fault in ("cut", "garbled"):
            self._head(200, len(data) if fault == "cut" else len(half), {})
            self.wfile.write(half)
        self.close_connection = fault != "garbled"

    def _send(self, status: int, value: Any, more: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self._head(status, len(data), more or {})
        self.wfile.write(data)

    def _head(self, status: int, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(length), **more}.items():  # fmt: skip
            self.send_header(name, text)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass
