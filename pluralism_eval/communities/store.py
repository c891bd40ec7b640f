"""Where messages come from and go to: our store on disk, or the authors' exported files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pluralism_eval.cache import Store, cache_root
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.files import check_inside
from pluralism_eval.json_files import DATA_BYTES, read_json
from pluralism_eval.schema import Message, Query


class MessageSource:
    """``messages=FOLDER``: exported JSON files if it holds any, else the store of that folder.

    The authors keep ``<input>_mistral-<community>.json``: an object from item id to text. Such a
    folder is only read.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = cache_root() if folder is None else Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise PluralismError(f"messages={folder!r} must be a folder")
        self.exported = (
            self._folder.is_dir() and folder is not None and any(self._folder.glob("*.json"))
        )
        if not self.exported:
            self.store = Store(self._folder / "messages.sqlite", "messages")

    def check(self, queries: Sequence[Query], communities: Sequence[str]) -> None:
        """Raises PluralismError if an exported message is missing, with all gaps."""
        if not self.exported:
            return
        problems: dict[str, None] = {}
        for query in queries:
            for name in communities:
                path = self._file(query.source_input, name)
                if path is None:
                    problems[f"no file {query.source_input}_mistral-{name}.json"] = None
                elif query.source_id not in _read(path):
                    problems[f"{path.name}: no message for item {query.source_id!r}"] = None
        raise_all(f"messages={str(self._folder)!r}", list(problems)[:20])

    def find(self, query: Query, community: str) -> str | None:
        """The exported text, or None where the files have none."""
        path = self._file(query.source_input, community)
        return _read(path).get(query.source_id) if path else None

    def lookup(self, query: Query, community: str) -> Message:
        """The exported message of ``community`` about ``query``."""
        text = self.find(query, community)
        if text is None:
            raise PluralismError(
                f"messages={str(self._folder)!r}: none of {community} about {query.source_input} item {query.source_id!r}"
            )
        return Message(community, text.strip(), 0, True, reused=True)

    def _file(self, source_input: str, community: str) -> Path | None:
        names = (f"{source_input}_mistral-{community}.json", f"{source_input}_{community}.json")
        return next(
            (self._folder / n for n in names if source_input and (self._folder / n).is_file()), None
        )


@lru_cache(maxsize=64)
def _read(path: Path) -> dict[str, str]:
    try:
        loaded = read_json(check_inside(path, path.parent), DATA_BYTES)
    except (OSError, ValueError) as error:
        raise PluralismError(f"message file {path.name!r} cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise PluralismError(
            f"message file {path.name!r} must map item ids to texts, got {type(loaded).__name__}"
        )
    return {str(key): str(value) for key, value in loaded.items()}
