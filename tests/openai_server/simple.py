"""A small OpenAI-compatible server whose every answer is one function: model list, completions, chat."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Reply = tuple[str, int, str, float | None]
"""Text, new tokens, finish reason, log-probability of all of it or None."""


@contextmanager
def serve(names: list[str], answer: Callable[[dict[str, Any]], Reply]) -> Iterator[str]:
    """Yields the base URL. ``answer`` gets each request's body; a ValueError of it is a 400."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(
                200, {"object": "list", "data": [{"id": n, "object": "model"} for n in names]}
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["model"] not in names:
                return self._send(404, {"error": {"message": f"no model {body['model']}"}})
            try:
                text, n, reason, logprob = answer(body)
            except ValueError as error:
                return self._send(400, {"error": {"message": str(error)}})
            choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
            if self.path.endswith("chat/completions"):
                choice["message"] = {"role": "assistant", "content": text}
            else:
                known = None if logprob is None else {"token_logprobs": [logprob], "tokens": [text]}
                choice |= {"text": text, "logprobs": known}
            usage = {"prompt_tokens": 1, "completion_tokens": n, "total_tokens": n + 1}
            self._send(200, {"id": "x", "object": "text_completion", "created": 0, "model": body["model"],
                             "choices": [choice], "usage": usage})  # fmt: skip

        def _send(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
