"""Models and adapters as servers can load them, and what their own files say of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.checksums import file_sha256
from pluralism_eval.communities import adapter_files, adapters
from pluralism_eval.communities.adapter_config import config_sha256, is_usual
from pluralism_eval.communities.catalogue import Community
from pluralism_eval.errors import PluralismError
from pluralism_eval.json_files import read_json as read_json_file
from pluralism_eval.llm.contents import folder_sha256
from pluralism_eval.serving.servers import Lora

_UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "layer_replication")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_model(text: str) -> bool:
    """Whether ``text`` may be a model: a folder with its configuration, a Hub id, or ``embedded``."""
    folder = Path(text) / "config.json"
    return text == "embedded" or folder.is_file() or bool(_HUB_ID.fullmatch(text))


def model_source(model: str) -> str:
    """A Hub id as it is, else the absolute folder."""
    found = adapters.base_model(model)
    return str(Path(found).resolve()) if Path(found).is_dir() else found


def served_name(model: str, revision: str = "main") -> str:
    """The name under which a model is served. Messages are kept under it, so a folder's has a hash of its
    content."""
    source = model_source(model)
    if not source.startswith("/"):
        return source if revision == "main" else f"{source}@{revision}"
    name = re.sub(r"[^\w.-]", "-", Path(source).name)
    if model == "embedded":
        return name  # has one already
    return f"{name}-{folder_sha256(Path(source))[:8]}"


def adapter_source(community: Community, base: str, notes: list[str]) -> Lora:
    """The adapter of ``community`` on the base that is served as ``base``.

    A Hub id stays one, since vLLM and SGLang download it themselves. Neither can be told its revision, check
    its hash or convert pickled weights: such adapters are downloaded and checked here.

    Raises:
        PluralismError: not there, or not what the pool says.
    """
    folder = _folder(community.adapter)
    pinned = community.revision != "main" or bool(community.sha256) or community.pickle
    if folder is None and not pinned:
        config = read_json(community.adapter, adapters.CONFIG)
        path, identity = community.adapter, community.adapter
    else:
        if folder is None or pinned:
            folder = adapters.resolve_all([community])[community.name].folder
            notes.append(f"{community.name}: downloaded or converted here: {folder}")
        config, path, identity = _local(community, folder)
    refused = [name for name in _UNSUPPORTED if (config or {}).get(name)]
    if refused:
        notes.append(f"{community.name}: the server may refuse it, it has {', '.join(refused)}")
    served = f"{community.name}-{digest([base, identity])[:8]}"
    return Lora(served, path, _rank(config) if config else None)


def _folder(adapter: str) -> Path | None:
    place, _, name = adapter.partition("/")
    if place == "embedded" and name:
        return Path(str(files("pluralism_eval.communities"))) / "embedded" / "adapters" / name
    return Path(adapter) if Path(adapter).is_dir() else None


def _local(community: Community, folder: Path) -> tuple[dict[str, Any], str, str]:
    """(configuration, absolute folder, what tells it from others)."""
    folder = folder.absolute()
    config = adapters._config(community, folder)
    weights = folder / adapters.WEIGHTS
    if not weights.is_file():
        raise PluralismError(
            f"adapter={community.adapter!r} has no {adapters.WEIGHTS} (pickled weights are refused unless its entry says `pickle: true`)"
        )
    adapter_files.check_header(weights)
    sha256 = file_sha256(weights)
    return (
        config,
        str(folder),
        sha256 if is_usual(config) else digest([sha256, config_sha256(config)]),
    )


def _rank(config: Mapping[str, Any]) -> int | None:
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    known = [rank for rank in ranks if isinstance(rank, int)]
    return max(known) if known else None


def context_length(model: str, revision: str = "main") -> int | None:
    """Tokens that the model was made for; None where its configuration is out of reach."""
    config = read_json(model_source(model), "config.json", revision) or {}
    text = config.get("text_config")
    found = (config | (text if isinstance(text, dict) else {})).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def read_json(source: str, name: str, revision: str = "main") -> dict[str, Any] | None:
    """``name`` in a folder or on the Hub; None where it cannot be had or is no JSON object."""
    try:
        if source.startswith("/"):
            path = Path(source) / name
        else:
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(source, name, revision=revision))
        found = read_json_file(path)
    except Exception:  # offline, gated, misspelled: the server will say so
        return None
    return found if isinstance(found, dict) else None
