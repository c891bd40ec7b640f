"""YAML files of others: plain data, and no more of it than the file is long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import read_bounded

_BYTES = 4 << 20
_VALUES = 100_000
"""Also after aliases are written out: nine lines of ten aliases each make a billion."""
_DEEPEST = 100
_SECONDS = 2.0
"""For finding out that a file is within these limits; where PyYAML has no C parser that takes longer."""
_LONGEST_NUMBER = 300
"""Characters: the time that a number takes grows with the square of its length."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        return _parsed(read_bounded(path, _BYTES).decode("utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise PluralismError(f"{what}={str(path)!r} cannot be read as YAML: {reason}") from error


def yaml_value(text: str) -> Any:
    """The value that a setting's ``text`` writes as YAML. Raises PluralismError: none."""
    try:
        return _parsed(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PluralismError(f"{text[:200]!r} is no YAML: {reason}") from error


def _parsed(text: str) -> Any:
    _check_size(text)
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _VALUES:
            raise ValueError(f"its aliases (*name) make more than {_VALUES:,} values of it")
        return loader.construct_document(node)
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        # PyYAML's own, of a value that its tag does not fit: "!!int ''", "!!timestamp x"
        raise ValueError(f"a value does not fit its tag: {type(error).__name__}") from error
    finally:
        loader.dispose()


def _check_size(text: str) -> None:
    """Goes through ``text`` piece by piece, and stops where there are too many, or nested too deeply."""
    until = time.monotonic() + _SECONDS
    values = depth = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        values += isinstance(event, yaml.NodeEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
        if values > _VALUES:
            raise ValueError(f"it has more than {_VALUES:,} values")
        if time.monotonic() > until:
            raise ValueError(
                f"parsing it takes more than {_SECONDS:g} s, it has more than {values:,} values"
            )


def _size(node: Any, known: dict[int, int]) -> int:
    """Values below ``node``, each as often as it is referred to; what holds itself is too large."""
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _LONGEST_NUMBER and node.tag in _NUMBERS:
            raise ValueError(
                f"a number of {len(node.value):,} characters; at most {_LONGEST_NUMBER}"
            )
        return 1
    if id(node) not in known:
        known[id(node)] = _VALUES + 1  # while it is being counted
        pairs = isinstance(node, yaml.MappingNode)
        inner = [n for pair in node.value for n in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_size(item, known) for item in inner)
    return known[id(node)]


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
