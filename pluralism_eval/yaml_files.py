"""YAML files of others: plain data, and no more of it than the file is long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pluralism_eval.errors import PluralismError

_BYTES = 16 << 20
_VALUES = 1_000_000
"""After aliases are written out: nine lines of ten aliases each make a billion."""


def is_file(name: str) -> bool:
    """Does ``name`` lead to a file? Not where no file can be called so."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long, or with a null in it
        return False


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file.

    Args:
        what: the setting that names it, for errors.

    Raises:
        PluralismError: not to be read, no YAML, too large, or aliases that make it too large.
    """
    try:
        if path.stat().st_size > _BYTES:
            raise ValueError(f"it has more than {_BYTES:,} bytes")
        return _parsed(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise PluralismError(f"{what}={str(path)!r} cannot be read as YAML: {reason}") from error


def yaml_value(text: str) -> Any:
    """The value that a setting's ``text`` writes as YAML. Raises PluralismError: none."""
    try:
        return _parsed(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PluralismError(f"{text[:200]!r} is no YAML: {reason}") from error


def _parsed(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _VALUES:
            raise ValueError(f"its aliases (*name) make more than {_VALUES:,} values of it")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: Any, known: dict[int, int]) -> int:
    """Values below ``node``, each as often as it is referred to; what holds itself is too large."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = _VALUES + 1  # while it is being counted
        pairs = isinstance(node, yaml.MappingNode)
        inner = [n for pair in node.value for n in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_size(item, known) for item in inner)
    return known[id(node)]
