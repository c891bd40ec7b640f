"""What of an adapter's configuration a text depends on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pluralism_eval.cache import digest

_UNREAD_BY_PEFT = {
    "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version", "lora_dropout",
}  # fmt: skip
"""Fields of an adapter's configuration that no text depends on: dropout acts in training only."""
_ORDERED = ("rank_pattern", "alpha_pattern")
"""The first pattern that fits a layer counts."""
_UNORDERED = ("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform")
_ALWAYS = ("r", "lora_alpha", "target_modules")
_BEFORE_TRAINING = (True, False, None, "gaussian", "orthogonal")
"""Values of init_lora_weights that leave the base as it is: the adapter's weights are then the file's."""


def config_sha256(config: Mapping[str, Any]) -> str:
    """A hash over those fields of ``adapter_config.json`` that a text depends on.

    Fields that are missing count as the installed PEFT's default, as PEFT reads them.
    """
    return digest(_normalised(config))


def _normalised(config: Mapping[str, Any]) -> dict[str, Any]:
    defaults = _defaults()
    given = {k: v for k, v in config.items() if k not in _UNREAD_BY_PEFT}
    if given.get("init_lora_weights") in _BEFORE_TRAINING:
        given.pop("init_lora_weights", None)
    kept = {}
    for name in {*given, *_ALWAYS}:
        value = _plain(name, given.get(name, defaults.get(name)))
        usual = _plain(name, defaults.get(name))
        if name in _ALWAYS or not (value == usual or (not value and not usual)):
            kept[name] = value
    return kept


def _plain(name: str, value: Any) -> Any:
    if name in _UNORDERED and isinstance(value, (list, tuple, set)):
        return sorted(value, key=str)
    if name in _ORDERED and isinstance(value, Mapping):
        return [[key, _number(entry)] for key, entry in value.items()]
    return _number(value)


def _number(value: Any) -> Any:
    """16.0 is 16."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Any]:
    from peft import LoraConfig

    found: dict[str, Any] = LoraConfig().to_dict()
    return found


def is_usual(config: Mapping[str, Any]) -> bool:
    """True for LoRA as PEFT makes it by itself, which is what `pluralism-eval train` writes.

    Keys of earlier versions held an adapter's weights only. They stay valid for such configurations.
    """
    found = _normalised(config)
    del found["target_modules"]  # the tensors show which
    return found == {"r": 8, "lora_alpha": 8, "task_type": "CAUSAL_LM"}
