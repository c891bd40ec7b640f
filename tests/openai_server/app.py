"""What every request is answered, before it meets the wire."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Event, RLock
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.openai_server import shapes
from tests.openai_server.backend import Backend
from tests.openai_server.batches import Batches
from tests.openai_server.errors import ApiError, masked
from tests.openai_server.fault_replies import error_of
from tests.openai_server.faults import BEFORE, CONTENT, FORMS, Faults, spoil
from tests.openai_server.files import Files
from tests.openai_server.idempotency import Replies
from tests.openai_server.ledger import Bill, Ledger, Request, canonical
from tests.openai_server.offer import Offer
from tests.openai_server.out import Out, as_json
from tests.openai_server.params import parse
from tests.openai_server.routes import Routes

_POSTS = {"/v1/completions": "completions", "/v1/chat/completions": "chat"}
_PATHS = {name: path for path, name in _POSTS.items()}


class App:
    """One server's state and rules; :class:`tests.openai_server.server.Server` puts it on a socket."""

    def __init__(
        self,
        backend: Backend,
        offer: Offer,
        faults: Faults,
        pace: Literal["get", "hand"],
        lines_per_step: int | None,
    ) -> None:
        self.backend, self.offer, self.faults = backend, offer, faults
        self.ledger, self.files, self.closing = Ledger(), Files(), Event()
        self.batches = Batches(self.files, self._run_line, offer.models, pace, lines_per_step)
        self._replies, self._lock = Replies(), RLock()
        self._asked: Counter[str] = Counter()
        self._routes = Routes(offer, self.files, self.batches, self._replies, self.ledger)

    def answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        raw: bytes,
        gone: Callable[[], bool],
    ) -> Out:
        """Args:
        url: path and query.
        headers: lower-case names.
        gone: whether the client has hung up.
        """
        parts = urlsplit(url)
        path, query = parts.path.rstrip("/"), parse_qs(parts.query)
        body = _body(headers, raw)
        shown = {name: value for name, value in headers.items() if name != "authorization"}
        with self.ledger.lock:
            self.ledger.requests.append(Request(method, parts.path, shown, "authorization" in headers, body))  # fmt: skip
        try:
            self._check_key(headers.get("authorization"))
            endpoint = _POSTS.get(path) if method == "POST" else None
            if endpoint is not None:
                self._check_endpoint(endpoint, method, path)
                return self._generation(endpoint, headers, body, gone)
            return self._plain(method, path, query, headers, raw, body, gone)
        except ApiError as error:
            return Out(error.status, error.payload, error.headers)

    def complete(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request. Raises ApiError."""
        key = canonical(body)
        with self._lock:
            asked, self._asked[key] = self._asked[key], self._asked[key] + 1
        id = hashlib.sha256(f"{key}\0{asked}".encode()).hexdigest()
        asks = parse(endpoint, body, self.offer, self.backend, int(id[:7], 16))
        answers = [self.backend.answer(ask) for ask in asks]
        if endpoint == "chat":
            return shapes.chat(asks[0], answers[0], self.offer, id[:24])
        return shapes.completion(asks, answers, self.offer, id[:24])

    def wait(self, seconds: float, gone: Callable[[], bool]) -> None:
        """Until the time is over, the client hangs up or the server closes."""
        while seconds > 0 and not gone() and not self.closing.wait(min(seconds, 0.02)):
            seconds -= 0.02

    def _check_key(self, given: str | None) -> None:
        if self.offer.api_key is None:
            return
        if given is None:
            message = (
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
            raise ApiError(401, message)
        key = given.removeprefix("Bearer ")
        if key != self.offer.api_key:
            shown = masked(key) if self.offer.shows_key == "masked" else key
            message = (
                f"Incorrect API key provided: {shown}. You can find your API key at "
                "https://platform.openai.com/account/api-keys."
            )
            raise ApiError(401, message, None, "invalid_api_key")

    def _check_endpoint(self, endpoint: str, method: str, path: str) -> None:
        if endpoint in self.offer.endpoints:
            return
        if endpoint == "completions" and "chat" in self.offer.endpoints:
            message = (
                "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use "
                "v1/chat/completions?"
            )
            raise ApiError(404, message, "model")
        raise ApiError(404, f"Invalid URL ({method} {path})")

    def _generation(
        self, endpoint: str, headers: Mapping[str, str], body: Any, gone: Callable[[], bool]
    ) -> Out:
        key = f"POST {_PATHS[endpoint]} {canonical(body) if isinstance(body, dict) else ''}"
        fault = self.faults.decide(endpoint, key, body)
        if fault in BEFORE:
            return self._before(fault, key, gone)
        if not isinstance(body, dict):
            raise ApiError(400, "We could not parse the JSON body of your request.")
        bill = self.ledger.bill(_PATHS[endpoint], body)
        content = fault if fault in (*CONTENT, *FORMS) else None

        def make() -> bytes:
            self.wait(self.offer.latency, gone)
            reply = self.complete(endpoint, body)
            if content is not None:
                reply = spoil(content, reply, self.faults.keep_top)
            return as_json(reply)

        token = headers.get("idempotency-key") if self.offer.idempotency else None
        payload, replayed = self._replies.once(token, key, make)
        applied = None if replayed and content else fault
        self.faults.settle(key, applied)
        with self.ledger.lock:
            self.ledger.usable[headers.get("idempotency-key", "")] += applied is None
        out = Out(200, payload, {"idempotent-replayed": "true"} if replayed else {})
        self._bill(out, bill, replayed)
        return self._on_wire(out, applied, gone)

    def _bill(self, out: Out, bill: Bill, replayed: bool) -> None:
        def sending(delivered: bool) -> None:
            if replayed:
                self.ledger.replay(bill, int(delivered))
            else:
                self.ledger.charge(bill, cut=not delivered)

        def lost() -> None:
            if replayed:
                self.ledger.replay(bill, -1)
            else:
                self.ledger.correct(bill, -1)

        out.sending, out.lost = sending, lost

    def _before(self, fault: str, key: str, gone: Callable[[], bool]) -> Out:
        self.faults.settle(key, fault)
        if fault == "502_html":
            page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
            return Out(502, page, {"content-type": "text/html"})
        if fault in ("timeout", "closed"):
            if fault == "timeout":
                self.wait(self.faults.timeout, gone)
            return Out(0, b"", part="nothing")
        raise error_of(fault, self.faults.retry_after)

    def _on_wire(self, out: Out, fault: str | None, gone: Callable[[], bool]) -> Out:
        if fault == "cut_body":
            out.part = "cut_body"
        elif fault == "cut_json":
            out.part = "cut_json"
        elif fault == "late":
            self.wait(self.faults.timeout, gone)
        return out

    def _run_line(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        """One line of a batch."""
        key = f"LINE {path} {canonical(body)}"
        fault = self.faults.decide("batch_lines", key, body)
        try:
            if fault in BEFORE:
                self.faults.settle(key, fault)
                if fault == "timeout":
                    return 0, None
                raise error_of(fault, self.faults.retry_after)
            reply = self.complete(_POSTS[path], body)
        except ApiError as error:
            return error.status, error.body
        self.faults.settle(key, fault)
        if fault is not None:
            reply = spoil(fault, reply, self.faults.keep_top)
        # delivered once the output file is fetched
        self.ledger.charge(self.ledger.bill(path, body), cut=True, batch=True)
        return 200, reply

    def _plain(
        self,
        method: str,
        path: str,
        query: Mapping[str, list[str]],
        headers: Mapping[str, str],
        raw: bytes,
        body: Any,
        gone: Callable[[], bool],
    ) -> Out:
        """Models, files and batches, with the faults that may hit them."""
        where = self._routes.area(method, path)
        key = f"{method} {path} {hashlib.sha256(raw).hexdigest() if raw else ''}"
        fault = self.faults.decide(where, key, body)
        if fault in BEFORE:
            return self._before(fault, key, gone)
        out = self._routes.answer(method, path, query, headers, raw, body)
        self.faults.settle(key, fault)
        return self._on_wire(out, fault, gone)


def _body(headers: Mapping[str, str], raw: bytes) -> Any:
    """JSON, the bytes of anything else, or None."""
    if not raw:
        return None
    if headers.get("content-type", "").startswith("application/json"):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw
