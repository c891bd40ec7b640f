"""The app on a socket of 127.0.0.1."""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Literal, TypeVar
from uuid import uuid4

from tests.openai_server.app import App
from tests.openai_server.backend import Backend
from tests.openai_server.errors import ApiError
from tests.openai_server.faults import Faults
from tests.openai_server.offer import Offer
from tests.openai_server.out import Out

AnyServer = TypeVar("AnyServer", bound="Server")
_BACKLOG = 0.05  # seconds within which a connection that waits is taken


class Server:
    """``with Server(backend) as server``: an OpenAI-compatible API at ``server.url``.

    It lives in this process and keeps all state, whatever becomes of its clients. Leaving the block
    raises what a backend, a rule or the server itself raised while answering (clients got a 500).

    Args:
        pace, lines_per_step: how batches move on; see ``batches.Batches``.
    """

    def __init__(
        self,
        backend: Backend,
        offer: Offer | None = None,
        faults: Faults | None = None,
        pace: Literal["get", "hand"] = "get",
        lines_per_step: int | None = None,
    ) -> None:
        self.app = App(backend, offer or Offer(), faults or Faults(), pace, lines_per_step)
        self.ledger, self.faults = self.app.ledger, self.app.faults
        self.batches, self.files = self.app.batches, self.app.files
        self.crashes: list[BaseException] = []
        self._http: _Http | None = None

    @property
    def url(self) -> str:
        """Base URL, ending in ``/v1``."""
        assert self._http is not None, "the server is not running"
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def injected(self) -> Counter[str]:
        """Fault → times it was applied."""
        return self.faults.injected

    def advance(self, id: str | None = None, steps: int = 1) -> None:
        """Move one batch, or all, ``steps`` states on."""
        self.batches.advance(id, steps)

    def settle(self) -> None:
        """Once all clients are gone: waits until their requests are answered, as those are billed, too."""
        assert self._http is not None
        time.sleep(_BACKLOG)
        while self._http.open:
            time.sleep(0.002)

    def __enter__(self: AnyServer) -> AnyServer:
        self._http = _Http(self)
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._http is not None
        self.app.closing.set()
        self._http.shutdown()
        self._http.server_close()
        if self.crashes and error is None:
            raise self.crashes[0]


class _Http(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, owner: Server) -> None:
        self.owner = owner
        self.open: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Kept-alive connections end too."""
        super().server_close()
        for request in list(self.open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hung up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def _handle(self) -> None:
        owner = self.server.owner
        raw = self._read()
        generation = self.command == "POST" and self.path.endswith("/completions")
        if generation:
            owner.ledger.enter()
        try:
            headers = {name.lower(): value for name, value in self.headers.items()}
            out = owner.app.answer(self.command, self.path, headers, raw, self._gone)
        except Exception as error:
            owner.crashes.append(error)
            out = Out(500, ApiError(500, f"The test server crashed: {error!r}").payload)
        finally:
            if generation:
                owner.ledger.leave()
        self._send(out)

    do_GET = do_POST = do_DELETE = _handle

    def _read(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        raw = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            raw += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return raw

    def _send(self, out: Out) -> None:
        ledger = self.server.owner.ledger
        self.close_connection = self.close_connection or out.part in ("nothing", "cut_body")
        if out.part == "nothing":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        payload = out.payload
        if out.part != "whole":
            payload = payload[: len(payload) // 2]
        length = len(out.payload if out.part == "cut_body" else payload)
        out.sending(out.part == "whole")  # before: the client may look at the ledger at once
        with ledger.lock:
            ledger.statuses[out.status] += 1
        try:
            if self._gone():
                raise ConnectionError("the client hung up")
            self._head(out.status, {"content-type": "application/json", **out.headers}, length)
            self.wfile.write(payload)
        except OSError:
            self.close_connection = True
            if out.part == "whole":
                out.lost()

    def _head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("x-request-id", f"req_{uuid4().hex}")
        self.send_header("content-length", str(length))
        self.end_headers()

    def _gone(self) -> bool:
        try:
            ready, _, _ = select.select([self.connection], [], [], 0)
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def log_message(self, format: str, *args: Any) -> None:
        pass
