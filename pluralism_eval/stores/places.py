"""What a folder's file system can do: locks between processes, memory that they share."""

from __future__ import annotations

import errno
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, whose files lock by other means
    fcntl = None  # type: ignore[assignment,unused-ignore]

_REMOTE = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "sshfs", "virtiofs",
)  # fmt: skip


def lock(handle: int, alone: bool) -> None:
    """Waits for a lock on a whole file, shared or ``alone``; given back when ``handle`` is closed."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)


def file_system(folder: Path) -> str:
    """Its type, on Linux; empty elsewhere."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    words = (line.split() for line in lines)
    mounts = {w[1].replace("\\040", " "): w[2] for w in words if len(w) > 2}
    above = [folder.resolve(), *folder.resolve().parents]
    return next((mounts[str(path)] for path in above if str(path) in mounts), "")


def is_remote(folder: Path) -> bool:
    """True where processes of several hosts may meet, which share no memory."""
    kind = file_system(folder)
    return any(kind == name or kind.startswith((f"{name}.", f"{name}4")) for name in _REMOTE)


@lru_cache(maxsize=64)
def lock_fault(folder: Path) -> str:
    """Why locks cannot be relied on in ``folder``; empty if a lock keeps a second opener out.

    Both kinds are tried: SQLite's (on ranges, by POSIX) and those on whole files.

    Raises:
        OSError: no file can be written there.
    """
    if fcntl is None:
        return ""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".locks-") as file:
        other = os.open(file.name, os.O_RDWR)
        try:
            for taken in _kinds():
                try:
                    taken(file.fileno())
                except OSError as error:
                    return f"locks fail ({error.strerror})"
                try:
                    taken(other)
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        return f"locks fail ({error.strerror})"
                else:
                    return "a lock does not keep others out"
        finally:
            os.close(other)
    return ""


def _on_files(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _on_ranges(handle: int) -> None:
    everything = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(handle, fcntl.F_OFD_SETLK, everything)  # type: ignore[attr-defined,unused-ignore]


def _kinds() -> list[Callable[[int], None]]:
    """POSIX locks of one process never conflict; those of open files do, where the system has them."""
    on_ranges = sys.platform == "linux" and struct.calcsize("P") == 8
    return [_on_ranges, _on_files] if on_ranges else [_on_files]
