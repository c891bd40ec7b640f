"""Base models of communities: where they are, and what of them a text depends on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pluralism_eval import checksums
from pluralism_eval.cache import digest
from pluralism_eval.checksums import file_sha256
from pluralism_eval.llm import embedded
from pluralism_eval.settings import Settings

_MODEL_FILES = (
    "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab*.txt", "additional_chat_templates/*.jinja",
)  # fmt: skip
_NO_MODEL_FILES = {
    "training.json", "trainer_state.json", "all_results.json", "train_results.json", "eval_results.json",
    checksums.RECORD,
}  # fmt: skip
_UNREAD_FIELDS = {
    "_name_or_path", "name_or_path", "transformers_version", "_from_model_config", "_commit_hash", "architectures",
    "use_cache", "torch_dtype", "dtype",
}  # fmt: skip
"""Of a base's JSON files: where it came from, who wrote it; the number format is told apart by what is loaded."""


_COMMIT = re.compile(r"[0-9a-f]{40}")
_commits: dict[tuple[str, str], str] = {}


def base_model(base: str) -> str:
    """What transformers loads for ``base`` (a folder or Hub id)."""
    return embedded.locate() if base == "embedded" else base


def base_identity(base: str, revision: str = "main") -> str:
    """What the content of a base model is, as far as it is known here.

    The embedded model: the hash of the file that its weights, tokenizer, template and configurations were
    unpacked from. A folder: a hash of all of these. A Hub model: its name and commit; before anything of it was
    downloaded its name and revision.
    """
    if base == "embedded":
        located = embedded.locate()
        if Path(located).is_dir():
            return Path(located).name
        base = located
    if Path(base).is_dir():
        return f"sha256:{folder_sha256(Path(base))}"
    return f"{base}@{_commit(base, revision) or revision}"


def named_base(base: str, revision: str = "main") -> str:
    """A base as keys of earlier versions told it: its name and revision; of a folder a hash of the weights alone."""
    if base == "embedded":
        return Path(embedded.locate()).name
    if Path(base).is_dir():
        return f"sha256:{weights_sha256(base)}"
    return base if revision == "main" else f"{base}@{revision}"


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
    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except ValueError:  # no Hub id
        return None
    return Path(found).parent.name if isinstance(found, str) else None


def _commit(base: str, revision: str) -> str | None:
    """The commit that loading this base comes to, asked once a process; without a network the one in the cache."""
    if _COMMIT.fullmatch(revision):
        return revision
    if (base, revision) not in _commits:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=False)
            found = config._commit_hash
        except (OSError, ValueError):
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


# ---------------------------------------------------------------------- the base's number format

_UNREAD_BY_LLM = {
    "pretrained", "revision", "device", "batch_size", "max_batch_size", "max_length",
    "prefix_token_id", "parallelize", "max_memory_per_gpu", "device_map_option",
    "max_cpu_memory", "offload_folder", "logits_cache", "think_end_token", "enable_thinking", "chat_template_args",
    "truncation", "token", "low_cpu_mem_usage",
}  # fmt: skip
"""Arguments of ``llm=hf`` that change no number of its model."""


def number_format(settings: Settings, base: str, revision: str = "main") -> dict[str, Any]:
    """How the weights of a base in this process are held, where that is not the engine's own choice.

    A base of its own is loaded in float32 on CPUs and in bfloat16 on GPUs. A base that is also the LLM is
    loaded as the LLM is: its ``dtype``, its quantisation and whatever else its arguments make of it.

    Returns:
        The arguments that differ from the engine's choice; empty where none does.
    """
    args = dict(settings.llm_args)
    if settings.llm == "embedded":
        same = base_model(base) == embedded.locate()
        args = {"dtype": "float32"} | args
    else:
        own = (args.get("pretrained"), str(args.get("revision") or "main"))
        same = settings.llm == "hf" and own == (base_model(base), revision)
    if not same or args.get("peft") or args.get("delta"):
        return {}
    dtype = str(args.pop("dtype", None) or "auto").removeprefix("torch.")
    dtype = _stored_dtype(base, revision) if dtype == "auto" else dtype
    found = {k: v for k, v in args.items() if k not in _UNREAD_BY_LLM and v not in (None, False)}
    usual = "float32" if base == "embedded" else _chosen_dtype()
    return found if dtype == usual else {"dtype": dtype, **found}


def _chosen_dtype() -> str:
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def _stored_dtype(base: str, revision: str) -> str:
    """What ``dtype=auto`` comes to: what the model's configuration names."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            base_model(base), revision=revision, trust_remote_code=False
        )
    except (OSError, ValueError):
        return "auto"
    text = config.get_text_config()
    found = getattr(config, "dtype", None) or getattr(text, "dtype", None) or "float32"
    return str(found).removeprefix("torch.")


def pinned(base: str, revision: str) -> bool:
    """True where the name alone, which keys of earlier versions held, says all of the base's content."""
    if base == "embedded":
        return Path(embedded.locate()).is_dir()
    return not Path(base).is_dir() and bool(_COMMIT.fullmatch(revision))
