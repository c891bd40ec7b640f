"""Whether files still hold what they held: hashes of any file, and checksums of folders that we unpacked."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic

RECORD = "unpacked.json"
"""In a folder that we unpacked: name of each file → [bytes, CRC-32]."""
_SMALL = 64 << 20
"""Bytes of a file that is always read whole: less than a tenth of a second."""
_SETTLED_SECONDS = 2.0
"""A file that changed later than this ago may change again within one tick of the file system's clock."""
_BLOCK = 1 << 24
_verified: dict[Path, list[tuple[object, ...]]] = {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content.

    Files above 64 MiB are read once: the hash is remembered with the file's inode, size, time of
    modification and time of change. No program can set the last one, so a file that was rewritten is
    read again also where its size and time stamp were kept. What a disk damages by itself, below the file
    system, is not noticed here; the files that this package unpacked are read at every load, see :func:`fault`.

    Raises:
        PluralismError: a file of the Hub's cache, which is named after its hash, holds something else.
    """
    real = path.resolve()
    before = real.stat()
    state = [before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns]
    if before.st_size <= _SMALL:
        return _as_named(real, _read_sha256(real))
    key = digest(["file", 2, str(real), *state])
    store = Store(cache_root() / "hashes.sqlite", "files")
    known = store.get([key])
    if key in known:
        return str(known[key])
    found = _as_named(real, _read_sha256(real))
    after = real.stat()
    unchanged = (after.st_ctime_ns, after.st_size) == (before.st_ctime_ns, before.st_size)
    if unchanged and time.time() - after.st_ctime > _SETTLED_SECONDS:
        store.put({key: found})
    return found


def _read_sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    for block in _blocks(path):
        hashed.update(block)
    return hashed.hexdigest()


def _as_named(path: Path, sha256: str) -> str:
    if path.parent.name == "blobs" and len(path.name) == 64 and path.name != sha256:
        raise PluralismError(
            f"{str(path)!r} is damaged: the Hub's cache names it after its hash, its content has {sha256[:12]}; "
            "delete it and download the model again"
        )
    return sha256


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


# ---------------------------------------------------------------------- folders that we unpacked


def record(folder: Path) -> None:
    """Note what the files of a freshly unpacked folder hold, for :func:`fault`."""
    sums = {str(p.relative_to(folder)): [p.stat().st_size, _crc32(p)] for p in _files(folder)}
    write_atomic(folder / RECORD, json.dumps(sums, indent=1, sort_keys=True) + "\n")


def fault(folder: Path) -> str:
    """What is wrong with a folder that we unpacked; empty if every byte is as it was.

    Every file is read (4 GB a second): a CRC-32 notices every changed bit. Within a process files whose inode,
    size and times are as they were when they were read are not read twice.
    """
    try:
        loaded = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sums = {str(name): (int(size), int(crc)) for name, (size, crc) in loaded.items()}
    except FileNotFoundError:
        return f"has no {RECORD}, so it cannot be verified" if folder.exists() else "is missing"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"has a damaged {RECORD}"
    try:
        present = {str(path.relative_to(folder)): path for path in _files(folder)}
        if present.keys() != sums.keys():
            odd = min(present.keys() ^ sums.keys())
            return f"lacks {odd}" if odd in sums else f"holds {odd}, which was not unpacked"
        state = [_state(path) for path in present.values()]
        if _verified.get(folder) == state:
            return ""
        for name, path in present.items():
            if path.stat().st_size != sums[name][0] or _crc32(path) != sums[name][1]:
                return f"is damaged: {name} is not what was unpacked"
    except OSError as error:
        return f"cannot be read: {error}"
    _verified[folder] = state
    return ""


def replace_folder(scratch: Path, target: Path) -> None:
    """Put the recorded folder ``scratch`` in the place of ``target``; an intact one that another process put there stays."""
    for _ in range(5):
        if not fault(target):
            shutil.rmtree(scratch, ignore_errors=True)
            return
        old = target.parent / f".replaced-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            os.replace(target, old)
        try:
            os.replace(scratch, target)
        except OSError:  # another process put its own there in between
            if not target.exists():
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    why = fault(target)
    if why:
        raise PluralismError(f"{str(target)!r} {why}, right after it was unpacked; check the disk")


def _files(folder: Path) -> list[Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path.name != RECORD and not path.name.startswith(".")]


def _state(path: Path) -> tuple[object, ...]:
    s = path.stat()
    return (str(path), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def _crc32(path: Path) -> int:
    value = 0
    for block in _blocks(path):
        value = zlib.crc32(block, value)
    return value
