"""Finds the input file of a task: ``data=authors`` (downloaded once), ``sample``, ``control`` or a folder.

``cleaned`` is authors without damaged items, ``cleaned:FOLDER`` the same for a folder.
"""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files
from pathlib import Path

from pluralism_eval import plugin
from pluralism_eval.cache import cache_root
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import check_inside, write_atomic
from pluralism_eval.tasks import TASKS

DATA_VARIABLE = "PLURALISM_EVAL_DATA"
COMMIT = "56bd05d2e6d824e93a5c0bee5ac26b56aeb299aa"
_URL = "https://raw.githubusercontent.com/BunsenFeng/modular_pluralism/{commit}/input/{name}"

CLEANED = "cleaned"
SHIPPED = ("sample", "control")
"""Inputs that come with the package: a sample of every task, and the invented town (three tasks)."""


def long_name(task: str) -> str:
    """lm-eval's name of a task."""
    return TASKS[task].name


def short_name(task: str) -> str:
    """``moralchoice`` for ``moralchoice`` or ``pluralism_distributional_moralchoice``.

    Raises:
        PluralismError: an unknown task.
    """
    for known in TASKS.values():
        if task in (known.short, known.name):
            return known.short
    raise PluralismError(
        f"--task {task!r} is unknown. Allowed: {', '.join(TASKS)} (or {', '.join(plugin.TASKS)})"
    )


def input_file(task: str, data: str | None) -> Path:
    """The JSON file of ``task``.

    Args:
        task: a key of :data:`pluralism_eval.tasks.TASKS`.
        data: see :func:`chosen`.

    Raises:
        PluralismError: no such folder or file, or a download that failed or is not what it should be.
    """
    data, _ = chosen(data)
    name, blob = TASKS[task].input, TASKS[task].blob
    if data == "authors":
        return _download(f"{name}.json", blob)
    folder = Path(str(files("pluralism_eval.data"))) / data if data in SHIPPED else Path(data)
    if not folder.is_dir():
        raise PluralismError(
            f"data={data!r} is neither authors, nor cleaned, nor {', nor '.join(SHIPPED)}, nor a folder"
        )
    for candidate in (folder / f"{name}.json", folder / f"{name}_small.json"):
        if candidate.is_file():
            return check_inside(candidate, folder)
    raise PluralismError(f"data={data!r} has neither {name}.json nor {name}_small.json")


def chosen(data: str | None) -> tuple[str, bool]:
    """(``authors``, ``sample`` or a folder; are damaged items to be dropped).

    None reads ``$PLURALISM_EVAL_DATA``, then ``authors``.
    """
    name = str(data or os.environ.get(DATA_VARIABLE) or "authors")
    if name == CLEANED:
        return "authors", True
    if name.startswith(f"{CLEANED}:"):
        return name.removeprefix(f"{CLEANED}:"), True
    return name, False


def blob_id(content: bytes) -> str:
    """git's id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _download(name: str, blob: str) -> Path:
    target = cache_root() / "data" / f"authors-{COMMIT[:12]}" / name
    if target.is_file():
        return target
    content = _fetch(_URL.format(commit=COMMIT, name=name), name, target)
    if blob_id(content) != blob:
        raise PluralismError(
            f"{name}: the download's git blob id is {blob_id(content)}, expected {blob}; nothing was kept, try again"
        )
    return write_atomic(target, content)


def _fetch(url: str, name: str, target: Path) -> bytes:
    import requests
    from tqdm import tqdm

    chunks: list[bytes] = []
    try:
        with requests.get(url, stream=True, timeout=30) as response:
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0)) or None
            with tqdm(total=size, unit="B", unit_scale=True, desc=name) as bar:
                for chunk in response.iter_content(1 << 16):
                    chunks.append(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        raise PluralismError(
            f"data=authors: {name} is not in the cache and could not be downloaded ({type(error).__name__}). "
            f"Go on with one of: data=sample (ships with the package); data=FOLDER with that file (lm_eval: --metadata "
            f"data=..., our commands: --data ...); put it at {target}; or set {DATA_VARIABLE}"
        ) from error
    return b"".join(chunks)
