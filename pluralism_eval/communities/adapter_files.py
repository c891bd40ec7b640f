"""What an adapter of a stranger may ask of this machine: time of patterns, layers, bytes, links.

All checks raise PluralismError, and none reads the weights themselves.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval import bounded
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import check_inside
from pluralism_eval.json_files import read_json, safetensors_header

CONFIG_BYTES = 2 << 20
MOST_ENTRIES = 20_000
"""Of one list or mapping of a configuration: PEFT compares each with every module of the base."""
MOST_COPIES = 4
"""Times that ``layer_replication`` may make the layers of the base."""
SMALL = 256 << 20
"""Bytes of weights that are read without a look at what the configuration implies."""
_SPARE = 64 << 20
"""Bytes beyond the tensors: names, and what a pickle adds."""
_WIDEST = 8
"""Bytes of one number."""
_WRAPPED = ("", ".base_layer", ".lora_A.default", ".lora_magnitude_vector.default")
"""What PEFT appends to the names of modules that have an adapter already."""


def read_config(folder: Path, name: str) -> Any:
    """The configuration ``name`` in ``folder``. Raises OSError or ValueError (PluralismError is one)."""
    return read_json(check_inside(folder / name, folder), CONFIG_BYTES)


def check_links(folder: Path, names: Sequence[str]) -> None:
    """Raises PluralismError where a file of the adapter is a link to a place outside of its folder."""
    for name in names:
        if (folder / name).is_symlink():
            check_inside(folder / name, folder)


def check_config(config: Mapping[str, Any], modules: Sequence[str], layers: int | None) -> None:
    """Raises PluralismError for a configuration with which PEFT would take for ever.

    Args:
        modules: names of the base model's modules.
        layers: how many layers the base has; None where it does not say.
    """
    for field, value in config.items():
        if isinstance(value, (list, dict, set)) and len(value) > MOST_ENTRIES:
            raise PluralismError(
                f"{field} has {len(value):,} entries; at most {MOST_ENTRIES:,} are allowed"
            )
    _check_layers(config.get("layer_replication"), layers)
    names = [name + more for name in modules for more in _WRAPPED]
    for field, patterns in _patterns(config):
        try:
            bounded.check_patterns(patterns, names)
        except bounded.BoundedError as error:
            shown = patterns[0][:80] if patterns else ""
            raise PluralismError(
                f"{field}={shown!r}... cannot be matched with the base's modules: {error}; name the modules instead"
            ) from None


def _check_layers(replication: Any, layers: int | None) -> None:
    if not replication:
        return
    try:
        total = sum(max(int(end) - int(start), 0) for start, end in replication)
    except (TypeError, ValueError) as error:
        raise PluralismError(
            f"layer_replication={str(replication)[:80]} must be a list of [first, after the last] layers"
        ) from error
    most = MOST_COPIES * (layers or 32)
    if total > most:
        raise PluralismError(
            f"layer_replication makes {total:,} layers of the base's {layers or 'unknown number'}; at most {most:,} are allowed"
        )


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(field, its regular expressions as PEFT makes them); plain names are none."""
    forms = {
        "target_modules": "{}", "exclude_modules": "{}", "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
        "modules_to_save": r"(^|.*\.){}($|\..*)", "rank_pattern": r"(.*\.)?({})$", "alpha_pattern": r"(.*\.)?({})$",
    }  # fmt: skip
    for field, form in forms.items():
        value = config.get(field)
        if not isinstance(value, str) and field in ("target_modules", "exclude_modules"):
            continue  # names, compared by their ends
        texts = [value] if isinstance(value, str) else list(value or ())
        special = [str(t) for t in texts if not str(t).replace(".", "").replace("_", "").isalnum()]
        if special:
            yield field, [form.replace("{}", text) for text in special]


def check_size(weights: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises PluralismError where a file of weights is larger than ``shapes``, which its configuration implies."""
    implied = sum(math.prod(shape) for shape in shapes.values()) * _WIDEST + _SPARE
    size = _unpacked(weights)
    if size > implied:
        raise PluralismError(
            f"{weights.name} has {size:,} bytes; with its configuration it can have at most {implied:,}: it is "
            "damaged, or of another adapter"
        )


def is_large(weights: Path) -> bool:
    """Would reading ``weights`` take long, or much memory? Sparse and packed files count as what they come to."""
    return _unpacked(weights) > SMALL


def _unpacked(weights: Path) -> int:
    """Bytes that a file of weights comes to: a pickle lies in a zip, whose parts may be packed."""
    size = weights.stat().st_size
    try:
        with zipfile.ZipFile(weights) as packed:
            return max(size, sum(part.file_size for part in packed.infolist()))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # no zip
        return size


def sha256_of(path: Path) -> str:
    """Of a file, read in pieces."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            hashed.update(block)
    return hashed.hexdigest()


def check_header(weights: Path) -> None:
    """Raises PluralismError where a safetensors file is longer or shorter than its header says."""
    try:
        header = safetensors_header(weights)
        ends = [int(t["data_offsets"][1]) for name, t in header.items() if name != "__metadata__"]
        with weights.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise PluralismError(f"{weights.name} is damaged ({str(error)[:200]}); copy or download it again") from error  # fmt: skip
    said, size = start + max(ends, default=0), weights.stat().st_size
    if said != size:
        raise PluralismError(
            f"{weights.name} is damaged (it has {size:,} bytes, its header says {said:,}); copy or download it again"
        )
