"""The Files API, as far as batches need it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.openai_server.errors import ApiError


@dataclass
class File:
    """An uploaded or produced file."""

    id: str
    name: str
    purpose: str
    content: bytes
    created: int = field(default_factory=lambda: int(time.time()))

    def shape(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created,
            "expires_at": None,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class Files:
    """All files of a server, in memory."""

    def __init__(self) -> None:
        self.held: dict[str, File] = {}
        self._count = 0

    def add(self, name: str, purpose: str, content: bytes) -> File:
        self._count += 1
        file = File(f"file-{self._count:024d}", name, purpose, content)
        self.held[file.id] = file
        return file

    def upload(self, fields: Mapping[str, tuple[str, bytes]]) -> File:
        """``fields`` as :func:`multipart` reads them. Raises ApiError."""
        for name in ("file", "purpose"):
            if name not in fields:
                message = f"Missing required parameter: '{name}'."
                raise ApiError(400, message, name, "missing_required_parameter")
        purpose = fields["purpose"][1].decode()
        if purpose not in ("batch", "fine-tune", "assistants", "vision", "user_data", "evals"):
            message = f"'{purpose}' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals'] - 'purpose'"
            raise ApiError(400, message)
        name, content = fields["file"]
        return self.add(name or "upload.jsonl", purpose, content)

    def get(self, id: str) -> File:
        """Raises ApiError."""
        if id not in self.held:
            raise ApiError(404, f"No such File object: {id}", "id")
        return self.held[id]

    def delete(self, id: str) -> dict[str, Any]:
        """Raises ApiError."""
        del self.held[self.get(id).id]
        return {"id": id, "object": "file", "deleted": True}


def multipart(content_type: str, raw: bytes) -> dict[str, tuple[str, bytes]]:
    """Field → (file name, content). Raises ApiError."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not content_type.startswith("multipart/form-data") or found is None:
        raise ApiError(400, "We could not parse the multipart form data of your request body.")
    fields = {}
    for part in raw.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode()
        name = re.search(r'[; ]name="([^"]*)"', text)
        file = re.search(r'filename="([^"]*)"', text)
        if name is not None:
            fields[name[1]] = (file[1] if file else "", content.removesuffix(b"\r\n"))
    return fields
