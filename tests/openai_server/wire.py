"""What no well-behaved HTTP library sends: redirects, endless bodies, bodies that drip, bombs."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Write = Callable[[bytes], object]
Behaviour = Callable[[str, Write, threading.Event], None]
"""(path, write to the socket, set when the server closes) → None."""
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@contextmanager
def raw_server(behaviour: Behaviour) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """(base URL, [(path, headers)] of what came); every request is answered by ``behaviour``, then closed."""
    closing = threading.Event()
    came: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            came.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            self.close_connection = True
            with suppress(OSError):
                behaviour(self.path, self.wfile.write, closing)

        do_GET = do_POST = _handle

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1", came
        finally:
            closing.set()
            server.shutdown()


def redirecting(target: Callable[[str], str], status: int = 307) -> Behaviour:
    """To ``target`` of the path."""

    def answer(path: str, write: Write, closing: threading.Event) -> None:
        write(
            f"HTTP/1.1 {status} x\r\nlocation: {target(path)}\r\ncontent-length: 0\r\n\r\n".encode()
        )

    return answer


def blanks(path: str, write: Write, closing: threading.Event) -> None:
    """1.5 GB of them."""
    write(_OK + b"content-length: 1500000000\r\n\r\n")
    for _ in range(1500):
        write(b" " * 1_000_000)


def bomb(path: str, write: Write, closing: threading.Event) -> None:
    """200 MB of blanks in 200 KB."""
    packed = gzip.compress(b" " * 200_000_000, 1)
    write(
        _OK + f"content-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode() + packed
    )


def foreign_packing(path: str, write: Write, closing: threading.Event) -> None:
    """Packed twice, which unpacks to any size at once."""
    write(_OK + b"content-encoding: gzip, gzip\r\ncontent-length: 4\r\n\r\nabcd")


def drip(part: bytes, head: bytes = _OK + b"content-length: 100000\r\n\r\n") -> Behaviour:
    """``part`` every 0.1 s, after ``head``."""

    def answer(path: str, write: Write, closing: threading.Event) -> None:
        write(head)
        while not closing.wait(0.1):
            write(part)

    return answer


def with_status(status: int, then: Behaviour) -> Behaviour:
    """``then`` under another status."""

    def answer(path: str, write: Write, closing: threading.Event) -> None:
        def other(data: bytes) -> object:
            return write(data.replace(b"200 OK", f"{status} x".encode(), 1))

        then(path, other, closing)

    return answer


DRIPS = {
    "body": drip(b" "),
    "chunks": drip(b"1\r\n \r\n", _OK + b"transfer-encoding: chunked\r\n\r\n"),
    "gzip": drip(b"\x00", _OK + b"content-encoding: gzip\r\ncontent-length: 100000\r\n\r\n\x1f\x8b\x08\x08"),
    "header": drip(b"x", _OK + b"x-slow: "),
}  # fmt: skip
