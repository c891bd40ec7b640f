"""Writes exports: equal files are left alone, different ones are not overwritten unasked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic

_SHOWN = 5


def write(folder: Path, files: Mapping[str, bytes], force: bool = False) -> list[Path]:
    """Writes ``files`` (relative path → content) below ``folder``; the paths that are new or changed.

    Raises:
        PluralismError: a file is there with other content and not ``force`` (nothing is written then), or
            the folder cannot be written.
    """
    try:
        changed = {
            name: content for name, content in files.items() if _differs(folder / name, content)
        }
        taken = [name for name in changed if (folder / name).exists()]
        if taken and not force:
            more = f" and {len(taken) - _SHOWN} more" if len(taken) > _SHOWN else ""
            raise PluralismError(
                f"{folder}: {', '.join(taken[:_SHOWN])}{more} would be overwritten by something else; add --force, or "
                "give another --output"
            )
        return [write_atomic(folder / name, content) for name, content in changed.items()]
    except OSError as error:
        raise PluralismError(f"--output {str(folder)!r} cannot be written: {error}") from error


def _differs(path: Path, content: bytes) -> bool:
    return not path.is_file() or path.read_bytes() != content
