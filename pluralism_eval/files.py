"""Files: written whole or not at all; those of others read within a size, and only where they belong."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from pluralism_eval.errors import PluralismError


def write_atomic(path: Path, content: str | bytes) -> Path:
    """Writes ``content`` (text as UTF-8) so that ``path`` holds the old or the new, never a part.

    Folders above are made. A file that is there keeps its permissions; a link stays, and its target is
    replaced; a device or pipe is written to.

    Raises:
        PluralismError: it cannot be written. What was there is as it was, and nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return path
        target = Path(os.path.realpath(path))
        scratch = target.with_name(f".{target.name[:100]}-{secrets.token_hex(4)}.part")
        try:
            with open(scratch, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                scratch.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(scratch, target)
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
    return path


def cut_name(name: str, most: int = 180) -> str:
    """``name``, for a file or folder; above ``most`` bytes it is cut, and ends with a hash of all of it.

    File systems take 255 bytes, of which suffixes and dates need some.
    """
    data = name.encode(errors="surrogateescape")
    if len(data) <= most:
        return name
    return f"{data[: most - 9].decode(errors='ignore')}-{sha256(data).hexdigest()[:8]}"


@contextmanager
def saving(path: Path, more: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What the system refuses inside becomes the one error about ``path``.

    Args:
        more: what libraries raise instead of OSError.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *more)):
            raise
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise PluralismError(
            f"{str(path)!r} cannot be written: {reason.strip().splitlines()[0]}. What was there is as it was; make room, "
            "or name a place that can be written"
        ) from error


def open_regular(path: Path, most: int) -> BinaryIO:
    """``path`` opened for reading, if it is a regular file of at most ``most`` bytes.

    Raises:
        OSError: it cannot be opened.
        ValueError: a pipe or device, which may never end, or a larger file (a sparse one takes no room on disk).
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    if found.st_size > most:
        raise ValueError(f"it has {found.st_size:,} bytes; at most {most:,} are read")
    return path.open("rb")


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes. Raises OSError or ValueError."""
    with open_regular(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # not most + 1: Python takes that much memory before it reads
    if len(content) > size:
        raise ValueError("it grows while it is read")
    return content


def leads_out(path: Path, folder: Path) -> bool:
    """True where ``path``, found in a folder of somebody else, is a link to a place outside of ``folder``.

    The Hub's cache consists of links, from ``snapshots/COMMIT/`` to ``blobs/`` beside it: those stay inside.
    """
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    return not any(real.is_relative_to(own) for own in homes)


def check_inside(path: Path, folder: Path) -> Path:
    """``path``. Raises PluralismError where it is a link that leads out of ``folder``."""
    if leads_out(path, folder):
        raise PluralismError(
            f"{str(path)!r} is a link to {os.path.realpath(path)!r}, outside of its folder; such links are not "
            "followed: put the file itself there"
        )
    return path
