"""One attempt of a request: limited in bytes, seconds and money, and sent to no other host.

The SDK retries by calling ``send`` of its HTTP client again. So what must hold for every attempt stands here.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pluralism_eval.api.limits import Budget
from pluralism_eval.errors import PluralismError

if TYPE_CHECKING:
    from pluralism_eval.api.client import Api

MAX_REPLY = 32 * 2**20
"""Bytes of a reply, unpacked: a thousand times the usual one."""
_REDIRECTS = 5
HOPELESS = ("insufficient_quota", "billing_hard_limit_reached", "access_terminated")
"""Codes of errors that no waiting ends."""


class Rejected(PluralismError):
    """This request failed for good; others may succeed."""

    status = 0
    """HTTP status, where the server said one."""


class Stop(BaseException):
    """Ends a request with ``error``. The SDK retries an Exception of any kind; this passes through it."""

    def __init__(self, error: PluralismError) -> None:
        super().__init__(str(error))
        self.error = error


class Exchange:
    """What the attempts of one request may take, and what they have cost."""

    def __init__(
        self,
        where: str,
        budget: Budget,
        seconds: float,
        cost: float = 0.0,
        max_bytes: int = MAX_REPLY,
    ) -> None:
        """
        Args:
            where: the server's address, for errors.
            seconds: of one attempt, from sending to the last byte.
            cost: money that one attempt costs at most.
            max_bytes: of one reply, unpacked.
        """
        self.where, self.seconds, self.max_bytes = where, seconds, max_bytes
        self._budget, self._cost = budget, cost
        self._open, self._until = False, 0.0

    def begin(self) -> None:
        """Sets the most that an attempt may cost aside. Raises Stop if the spending limit forbids it."""
        self.end()
        try:
            self._budget.reserve(self._cost)
        except PluralismError as error:
            raise Stop(error) from None
        self._open = True
        self._until = time.monotonic() + self.seconds

    def check_time(self) -> None:
        """Raises Stop if the attempt's seconds are over and its reply is still arriving."""
        if self._open and time.monotonic() > self._until:
            raise self.stop(
                f"the reply was still arriving after timeout={self.seconds:g} seconds; raise timeout if the server "
                "needs longer"
            )

    def stop(self, why: str) -> Stop:
        return Stop(Rejected(f"{self.where}: {why}"))

    def end(self, cost: float | None = None) -> None:
        """The attempt cost ``cost``; None: nobody knows, so it counts with its most."""
        if self._open:
            self._open = False
            self._budget.settle(self._cost, self._cost if cost is None else cost)


def http_client(api: Api) -> Any:
    """The HTTP client that the SDK is given: every attempt passes the limits and the counts of ``api``."""
    from openai import DefaultHttpxClient

    def watch(event: str, info: dict[str, Any]) -> None:
        """Every read of a new connection looks at the clock first: headers may drip as well as bodies."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream = info["return_value"]
            read = stream.read

            def timed(*given: Any, **named: Any) -> Any:
                api.current_exchange().check_time()
                return read(*given, **named)

            stream.read = timed

    class Bounded(DefaultHttpxClient):  # type: ignore[misc,unused-ignore]
        def send(self, request: Any, **options: Any) -> Any:
            exchange = api.current_exchange()
            exchange.begin()
            api.requests.take()
            api.counts.add("requests")
            options |= {"stream": True, "follow_redirects": False}
            request.extensions = {**request.extensions, "trace": watch}
            try:
                response = _whole(_followed(super().send, request, options), exchange)
            except Stop:
                api.counts.add("over_limit")
                raise
            except Exception as error:
                fault = _transport_fault(error)
                api.counts.add(fault)
                if type(error).__name__ != "ReadTimeout" and fault != "cut_bodies":
                    exchange.end(0.0)  # no server answered
                raise
            if response.status_code >= 300:
                exchange.end(0.0)
            if response.status_code >= 400:
                api.counts.add(_status_fault(response.status_code))
            if response.status_code == 429 and any(w in response.text for w in HOPELESS):
                response.headers["x-should-retry"] = "false"  # no waiting brings money back
            return response

    # what else the SDK's default offers may unpack to any size at once
    return Bounded(headers={"Accept-Encoding": "gzip"})


def _followed(send: Callable[..., Any], request: Any, options: dict[str, Any]) -> Any:
    """The response; redirects are followed on the same host, and where the request stays what it is."""
    response = send(request, **options)
    for _ in range(_REDIRECTS):
        there = response.next_request
        if (
            there is None
            or there.method != request.method
            or not _same_host(request.url, there.url)
        ):
            break
        response.close()
        request = there
        response = send(request, **options)
    return response


def _same_host(here: Any, there: Any) -> bool:
    if here.host != there.host:
        return False
    upgraded = (here.scheme, there.scheme) == ("http", "https")
    return upgraded or (here.scheme, here.port) == (there.scheme, there.port)


def _whole(response: Any, exchange: Exchange) -> Any:
    """The response with its body, read. Raises Stop: too large, or packed in another way."""
    try:
        body = _body(response, exchange)
    finally:
        response.close()
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return type(response)(
        response.status_code, headers=headers, content=body, request=response.request
    )


def _body(response: Any, exchange: Exchange) -> bytes:
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "gzip", ""):
        raise exchange.stop(f"the reply is packed as {packed[:40]!r}; only gzip was asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if packed == "gzip" else None
    found = bytearray()
    for part in response.iter_raw():
        room = exchange.max_bytes - len(found) + 1
        try:
            found += unpacker.decompress(part, room) if unpacker else part
        except zlib.error:  # no JSON comes of it, which the reader counts
            break
        if len(found) > exchange.max_bytes:
            raise exchange.stop(f"the reply is larger than {exchange.max_bytes:,} bytes")
    return bytes(found)


def _transport_fault(error: Exception) -> str:
    if "Timeout" in type(error).__name__:
        return "timeouts"
    return "cut_bodies" if "complete message body" in str(error) else "connection_errors"


def _status_fault(status: int) -> str:
    if status == 429:
        return "rate_limited"
    return "server_errors" if status >= 500 else "rejected"
