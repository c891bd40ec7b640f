"""What is known of a model without loading it: its size, its key-value cache, its context window."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from pluralism_eval.communities.adapters import base_model

WINDOW = 8192
"""Context assumed where nothing says it."""
_BYTES = {"float32": 4.0, "float": 4.0, "float64": 8.0, "int8": 1.0, "float8": 1.0}
_SIXTEEN_BIT = 2.0
_SIZE = re.compile(r"(?<![\d.x])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_MIXTURE = re.compile(r"\d+x\d+(?:\.\d+)?b", re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """One model, as far as it is known."""

    name: str
    parameters: float | None
    """All of them; None: unknown."""
    source: str
    """Where ``parameters`` is from."""
    forward: float | None = None
    """Parameters that a token passes; None: all."""
    layers: int | None = None
    kv: int | None = None
    """Key-value heads times their width: numbers a layer keeps of a token, once for keys, once for values."""
    window: int = WINDOW
    """Context in tokens."""
    window_known: bool = False
    width: float = _SIXTEEN_BIT
    """Bytes a parameter."""

    @property
    def computed(self) -> float | None:
        """Parameters that count for FLOPs."""
        return self.forward or self.parameters

    @property
    def weight_bytes(self) -> float | None:
        return None if self.parameters is None else self.parameters * self.width

    @property
    def cache_bytes(self) -> tuple[float, bool] | None:
        """(bytes of key-value cache a token, is it exact): 2 · layers · kv · bytes a number.

        Where only the size is known: a plain transformer of that size, 12 · layers · width² parameters
        with width = 128 · layers, and as many key-value heads as heads. That is an upper bound for
        models with grouped heads.
        """
        number = max(self.width, _SIXTEEN_BIT)
        if self.layers and self.kv:
            return 2.0 * self.layers * self.kv * number, True
        if self.parameters is None:
            return None
        layers = (self.parameters / (12 * 128**2)) ** (1 / 3)
        return 2.0 * layers * (128 * layers) * number, False


def card_of(
    model: str, arguments: Mapping[str, Any] | None = None, parameters: float | None = None
) -> Card:
    """The card of ``model`` (a folder, a Hub id, ``embedded``, or any name). Nothing is downloaded.

    Args:
        arguments: of the lm-eval model: ``dtype``, ``load_in_8bit``, ``max_length``, ...
        parameters: what the user says; goes before everything else.
    """
    given = dict(arguments or {})
    local = _local(model)
    known = local or _listed(model) or _named(model)
    if parameters is not None:
        known = {**known, "parameters": parameters, "source": "given"}
        known.pop("forward", None)
    window = given.get("max_length") or given.get("max_model_len") or known.get("window")
    return Card(
        name=model,
        parameters=known.get("parameters"),
        source=known.get("source", "unknown: give --parameters"),
        forward=known.get("forward"),
        layers=known.get("layers"),
        kv=known.get("kv"),
        window=int(window or WINDOW),
        window_known=bool(window),
        width=_width(given, model),
    )


def nominal(model: str) -> float | None:
    """The size that a name states (``7b``: 7e9), as the paper counts; the embedded model's is 135 million."""
    if model == "embedded":
        return 135e6
    found = None if _MIXTURE.search(model) else _SIZE.search(model)
    return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6) if found else None


def _named(model: str) -> dict[str, Any]:
    size = nominal(model)
    return {} if size is None else {"parameters": size, "source": "its name"}


def _listed(model: str) -> dict[str, Any]:
    spelled = model.lower().replace("llama2", "llama-2").replace("llama3", "llama-3")
    for part, entry in _table().items():
        if re.search(rf"(?<![a-z0-9]){re.escape(part)}(?![a-z0-9])", spelled):
            return {**entry, "source": "models.yaml"}
    return {}


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    text = (files("pluralism_eval.planning") / "models.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(text)
    numbers = {name: {k: float(v) for k, v in entry.items()} for name, entry in loaded.items()}
    whole = ("layers", "kv", "window")
    return {
        name: {k: int(v) if k in whole else v for k, v in entry.items()}
        for name, entry in numbers.items()
    }


@lru_cache(maxsize=32)
def _local(model: str) -> dict[str, Any]:
    """From the model's config, where it is on this machine; {} otherwise."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(
            base_model(model), local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    except Exception:  # not here, or nothing that transformers knows: the name has to do
        return {}
    heads = getattr(config, "num_attention_heads", None)
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)
    return {
        "parameters": float(parameters),
        "source": "its config",
        "layers": getattr(config, "num_hidden_layers", None),
        "kv": groups * width if groups and width else None,
        "window": getattr(config, "max_position_embeddings", None),
    }


def _width(arguments: Mapping[str, Any], model: str) -> float:
    """Bytes a parameter; 16 bit unless something says otherwise."""
    if arguments.get("load_in_4bit"):
        return 0.5
    if arguments.get("load_in_8bit"):
        return 1.0
    named = str(arguments.get("dtype") or ("float32" if model == "embedded" else "auto"))
    return _BYTES.get(named, _SIXTEEN_BIT)
