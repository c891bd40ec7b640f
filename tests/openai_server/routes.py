"""Everything but generation: models, files, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from tests.openai_server.batches import Batches
from tests.openai_server.errors import ApiError
from tests.openai_server.files import Files, multipart
from tests.openai_server.idempotency import Replies
from tests.openai_server.ledger import Ledger, canonical
from tests.openai_server.offer import Offer
from tests.openai_server.out import Out, as_json, ok


class Routes:
    """The plain endpoints of one server."""

    def __init__(
        self, offer: Offer, files: Files, batches: Batches, replies: Replies, ledger: Ledger
    ) -> None:
        self._offer, self._files, self._batches = offer, files, batches
        self._replies, self._ledger = replies, ledger
        self._fetched: set[str] = set()

    def area(self, method: str, path: str) -> str:
        """``models``, ``files`` or ``batches``. Raises ApiError."""
        where = path.removeprefix("/v1/").split("/")[0]
        served = "batch" in self._offer.endpoints
        if where == "models" or (served and where in ("files", "batches")):
            return where
        raise ApiError(404, f"Invalid URL ({method} {path})")

    def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, list[str]],
        headers: Mapping[str, str],
        raw: bytes,
        body: Any,
    ) -> Out:
        """Raises ApiError."""
        where, _, rest = path.removeprefix("/v1/").partition("/")
        id, _, deed = (unquote(rest), "", "") if where == "models" else rest.partition("/")
        token = headers.get("idempotency-key") if self._offer.idempotency else None
        match (method, where, bool(id), deed):
            case ("GET", "models", False, ""):
                return ok({"object": "list", "data": [_model(name) for name in self._offer.models]})
            case ("GET", "models", True, ""):
                if id not in self._offer.models:
                    raise ApiError(404, f"The model '{id}' does not exist", "model", "model_not_found")  # fmt: skip
                return ok(_model(id))
            case ("POST", "files", False, ""):
                return self._upload(token, headers.get("content-type", ""), raw)
            case ("GET", "files", False, ""):
                shapes = [file.shape() for file in self._files.held.values()]
                return ok({"object": "list", "data": shapes[::-1], "has_more": False})
            case ("GET", "files", True, ""):
                return ok(self._files.get(id).shape())
            case ("DELETE", "files", True, ""):
                return ok(self._files.delete(id))
            case ("GET", "files", True, "content"):
                return self._content(id)
            case ("POST", "batches", False, ""):
                return self._once(token, f"batch {canonical(body)}", lambda: self._batches.create(body))  # fmt: skip
            case ("GET", "batches", False, ""):
                after, limit = query.get("after", [None])[0], query.get("limit", ["20"])[0]
                if not limit.isdigit() or not 1 <= int(limit) <= 100:
                    raise ApiError(400, f"Invalid 'limit': {limit} is not between 1 and 100.", "limit", "invalid_value")  # fmt: skip
                return ok(self._batches.page(after, int(limit)))
            case ("GET", "batches", True, ""):
                return ok(self._batches.show(id))
            case ("POST", "batches", True, "cancel"):
                return ok(self._batches.cancel(id))
        raise ApiError(404, f"Invalid URL ({method} {path})")

    def _once(self, token: str | None, asked: str, make: Any) -> Out:
        return Out(200, self._replies.once(token, asked, lambda: as_json(make()))[0])

    def _upload(self, token: str | None, content_type: str, raw: bytes) -> Out:
        fields = multipart(content_type, raw)  # the raw body has another boundary each time
        asked = hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()
        return self._once(token, f"file {asked}", lambda: self._files.upload(fields).shape())

    def _content(self, id: str) -> Out:
        """A file; batch completions count as delivered once their output file is sent whole."""
        out = Out(200, self._files.get(id).content, {"content-type": "application/octet-stream"})
        batch = next((b for b in self._batches.held.values() if b.output_file_id == id), None)
        if batch is None or id in self._fetched:
            return out
        lines = [line for line, status, _ in batch.done if status == 200]

        def mark(delivered: bool) -> None:
            with self._ledger.lock:
                if delivered != (id in self._fetched):
                    (self._fetched.add if delivered else self._fetched.discard)(id)
                    for line in lines:
                        bill = self._ledger.bill(batch.endpoint, line.body)
                        self._ledger.correct(bill, 1 if delivered else -1)

        out.sending, out.lost = mark, lambda: mark(False)
        return out


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tests"}
