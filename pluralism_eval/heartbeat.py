"""The processes of one launch notice within a minute when one of them, or their launcher, is gone.

A collective alone does not: a process may compute for hours before it takes part in one, so its timeout is long.
The first process holds a connection to every other one. Each sends a byte every few seconds, and one of
another value when it ends as it should. A process whose peer is lost ends too.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import selectors
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.util import Finalize
from threading import Thread
from typing import Any

log = logging.getLogger(__name__)
BEAT = 5.0
"""Seconds between two bytes."""
SILENT = 40.0
"""Seconds without a byte after which a process is lost: stopped, or its machine is off."""
GRACE = 5.0
"""Seconds in which a lost process's own error, or the launcher, may still come first."""
_MEETING = 30.0
_ALIVE, _BYE = b"\x01", b"\x02"


def start(rank: int, size: int, exchange: Callable[[Any], list[Any]]) -> None:
    """To be called by all processes of the launch at once, after they can ``exchange`` values ([size], by rank)."""
    hosts = exchange(socket.gethostname())
    local = len(set(hosts)) == 1
    token = secrets.token_bytes(16)
    server = None
    if rank == 0:
        with suppress(OSError):
            server = socket.create_server(("127.0.0.1" if local else "", 0), backlog=size)
    port, token = exchange((server.getsockname()[1] if server else 0, token))[0]
    peers: dict[socket.socket, int] = {}
    try:
        if server:
            peers = _accept(server, token, size)
        elif port:
            address = "127.0.0.1" if local else os.environ.get("MASTER_ADDR", hosts[0])
            own = socket.create_connection((address, port), timeout=_MEETING)
            own.sendall(token + rank.to_bytes(4, "big"))
            peers = {own: 0}
    except OSError as error:
        log.debug("heartbeat: %s", error)
    if not all(exchange(len(peers) == (size - 1 if rank == 0 else 1))):
        if rank == 0:
            log.warning("a process of this launch that is killed may go unnoticed: no connection")
        peers = {}
    Thread(target=_watch, args=(peers, os.getppid()), daemon=True).start()
    Finalize(None, _say_goodbye, args=(peers,), exitpriority=0)


def _accept(server: socket.socket, token: bytes, size: int) -> dict[socket.socket, int]:
    """Connections by rank; of strangers none. Raises OSError if not all come in time."""
    found: dict[socket.socket, int] = {}
    until = time.monotonic() + _MEETING
    with server:
        while len(found) < size - 1:
            server.settimeout(max(0.01, until - time.monotonic()))
            peer, _ = server.accept()
            peer.settimeout(_MEETING)
            said = b""
            with suppress(OSError):
                said = peer.recv(20, socket.MSG_WAITALL)
            if hmac.compare_digest(said[:16], token):
                found[peer] = int.from_bytes(said[16:], "big")
            else:
                peer.close()
    return found


def _watch(peers: Mapping[socket.socket, int], parent: int) -> None:
    """Until this process ends, or has to."""
    left = dict(peers)
    launched = (
        "TORCHELASTIC_RUN_ID" in os.environ
    )  # else the parent may be a shell that is meant to end
    heard = dict.fromkeys(left, time.monotonic())
    with selectors.DefaultSelector() as selector:
        for own in left:
            selector.register(own, selectors.EVENT_READ)
        while left or launched:
            until = time.monotonic() + BEAT
            while left and (wait := until - time.monotonic()) > 0:
                for key, _ in selector.select(wait):
                    peer: Any = key.fileobj
                    said = _heard(peer)
                    if _BYE in said:
                        selector.unregister(peer)
                        del left[peer]
                    elif not said:
                        _end(f"process {left[peer]} of this launch was killed or failed")
                    heard[peer] = time.monotonic()
            time.sleep(max(0.0, until - time.monotonic()))
            for peer, rank in left.items():
                _send(peer, _ALIVE)
                if time.monotonic() - heard[peer] > SILENT:
                    _end(f"process {rank} of this launch was not heard of for {SILENT:g} s")
            if launched and os.getppid() != parent:
                _end("the launcher was killed")


def _heard(peer: socket.socket) -> bytes:
    try:
        return peer.recv(64)
    except OSError:
        return b""


def _send(peer: socket.socket, what: bytes) -> None:
    with suppress(OSError):  # what is wrong is seen when it is read from
        peer.sendall(what)


def _end(why: str) -> None:
    time.sleep(GRACE)
    print(f"pluralism-eval: {why}, so process {os.getpid()} ends as well", file=sys.stderr, flush=True)  # fmt: skip
    os._exit(1)


def _say_goodbye(peers: Mapping[socket.socket, int]) -> None:
    if sys.exc_info()[0] is None and getattr(sys, "last_value", None) is None:
        for peer in peers:
            _send(peer, _BYE)
