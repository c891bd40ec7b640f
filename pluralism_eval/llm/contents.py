"""What lies behind a model's name: hashes of folders, commits of Hub models."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.checksums import RECORD, file_sha256

_MODEL_FILES = (
    "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab*.txt", "additional_chat_templates/*.jinja",
)  # fmt: skip
_NO_MODEL_FILES = {
    "training.json", "trainer_state.json", "all_results.json", "train_results.json", "eval_results.json",
    RECORD,
}  # fmt: skip
_UNREAD_FIELDS = {
    "_name_or_path", "name_or_path", "transformers_version", "_from_model_config", "_commit_hash", "architectures",
    "use_cache", "torch_dtype", "dtype",
}  # fmt: skip
"""Of a base's JSON files: where it came from, who wrote it; the number format is told apart by what is loaded."""


_NAMES_A_MODEL = ("pretrained", "peft", "delta", "tokenizer")
COMMIT = re.compile(r"[0-9a-f]{40}")
_commits: dict[tuple[str, str], str] = {}


def folder_sha256(folder: Path) -> str:
    """A hash over all that transformers reads from a model's folder."""
    files = {path for pattern in _MODEL_FILES for path in folder.glob(pattern)}
    names = {str(path.relative_to(folder)): path for path in files}
    read = {n: _content(path) for n, path in names.items() if path.name not in _NO_MODEL_FILES}
    return digest([weights_sha256(str(folder)), read])


def _content(path: Path) -> Any:
    """Of a configuration its fields, of other files a hash."""
    data = path.read_bytes()
    if path.name.endswith("config.json"):
        try:
            loaded = json.loads(data)
        except (ValueError, RecursionError):
            loaded = None  # its reader says what is wrong
        if isinstance(loaded, dict):
            return {k: v for k, v in loaded.items() if k not in _UNREAD_FIELDS}
    return hashlib.sha256(data).hexdigest()


def weights_sha256(model: str, revision: str = "main") -> str | None:
    """Hash over the weight files of a folder, or of a Hub model that was downloaded; else None.

    See :func:`pluralism_eval.checksums.file_sha256` for when a file is read again.
    """
    folder = Path(model) if Path(model).is_dir() else _snapshot(model, revision)
    if folder is None:
        return None
    weights = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".gguf"))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        hashes = list(threads.map(file_sha256, weights))
    return (
        digest([[p.name, own] for p, own in zip(weights, hashes, strict=True)]) if weights else None
    )


def hub_commit(model: str, revision: str = "main") -> str | None:
    """The commit of a Hub model as it lies in the cache; None for folders, and where nothing was downloaded."""
    from huggingface_hub import try_to_load_from_cache

    if model == "embedded" or Path(model).is_dir():
        return None
    for file in ("config.json", "adapter_config.json", "tokenizer_config.json"):
        try:
            found = try_to_load_from_cache(model, file, revision=revision)
        except ValueError:  # no Hub id
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def loaded_commit(base: str, revision: str) -> str | None:
    """The commit that loading this base comes to, asked once a process; without a network the one in the cache."""
    if COMMIT.fullmatch(revision):
        return revision
    if (base, revision) not in _commits:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=False)
            found = config._commit_hash
        except Exception:  # offline, gated, misspelled: who loads it says so
            found = None
        found = found or hub_commit(base, revision)
        if found:
            _commits[base, revision] = str(found)
    return _commits.get((base, revision))


def _snapshot(model: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model, revision=revision, local_files_only=True, allow_patterns=["*.safetensors"]
            )
        )
    except Exception:  # not downloaded, or no Hub id: there is nothing to hash
        return None


def contents_of(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Name of an argument → what lies behind its value, for those that name a folder, a file, or a Hub model that is here."""
    found = {}
    for name, value in arguments.items():
        if not isinstance(value, (str, Path)) or not str(value):
            continue
        path = Path(value)
        if path.is_dir():
            found[name] = f"sha256:{folder_sha256(path)}"
        elif path.is_file():
            found[name] = f"sha256:{file_sha256(path)}"
        elif name in _NAMES_A_MODEL:
            revision = str(arguments.get("revision") or "main") if name == "pretrained" else "main"
            commit = hub_commit(str(value), revision)
            if commit:
                found[name] = commit
    return found
