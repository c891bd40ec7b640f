"""Communities that this user registered: a YAML file in the format of any pool."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.yaml_files import read_yaml

REGISTRY_VARIABLE = "PLURALISM_EVAL_COMMUNITIES"
_HEAD = "# Communities registered by pluralism-eval; entries as in any pool file.\n"


def registry_file() -> Path:
    """``$PLURALISM_EVAL_COMMUNITIES``, else ``communities.yaml`` in the user's config folder."""
    given = os.environ.get(REGISTRY_VARIABLE)
    if given:
        return Path(given)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return config / "pluralism-eval" / "communities.yaml"


def registered() -> dict[str, dict[str, Any]]:
    """Name → entry. Raises PluralismError if the file is no list of named entries."""
    path = registry_file()
    if not path.is_file():
        return {}
    try:
        entries = read_yaml(path, REGISTRY_VARIABLE) or []
    except PluralismError as error:
        raise PluralismError(
            f"the registry {str(path)!r} cannot be read: {error}; repair or remove it"
        ) from error
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
    ):
        raise PluralismError(
            f"the registry {str(path)!r} must be a list of communities with a name; repair or remove it"
        )
    return {entry["name"]: entry for entry in entries}


def register(*, name: str, description: str, base: str, adapter: str) -> Path:
    """Make a LoRA community usable by ``name`` in any pool; a second time replaces the entry.

    Returns:
        The registry file, replaced atomically.
    """
    entry = {"name": name, "description": description, "base": base, "adapter": adapter}
    entries = registered() | {name: entry}
    path = registry_file()
    text = _HEAD + yaml.safe_dump(list(entries.values()), sort_keys=False, allow_unicode=True)
    return write_atomic(path, text)
