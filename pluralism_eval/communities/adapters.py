"""Adapters on disk: where they are, what they are for, whether they are what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.llm import embedded

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class AdapterSpec(Protocol):
    """What of a community matters here."""

    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def adapter(self) -> str: ...
    @property
    def revision(self) -> str: ...


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter folder and the hash of its weights."""

    folder: Path
    sha256: str


def resolve_all(communities: Sequence[AdapterSpec]) -> dict[str, Adapter]:
    """Every community's adapter, checked. Raises one PluralismError with all problems."""
    found, problems = {}, []
    for community in communities:
        try:
            found[community.name] = _resolve(community)
        except PluralismError as error:
            problems.append(f"{community.name}: {error}")
    raise_all("community adapters", problems)
    return found


def base_model(base: str) -> str:
    """What transformers loads for ``base`` (a folder or Hub id)."""
    return embedded.locate() if base == "embedded" else base


def base_identity(base: str) -> str:
    """What messages depend on: the base's name, for the embedded model its file as well."""
    return Path(embedded.locate()).name if base == "embedded" else base


def _resolve(community: AdapterSpec) -> Adapter:
    folder = _folder(community)
    config_file, weights = folder / CONFIG, folder / WEIGHTS
    if not config_file.is_file():
        raise PluralismError(f"adapter={community.adapter!r} has no {CONFIG}: not a PEFT adapter")
    if not weights.is_file():
        raise PluralismError(
            f"adapter={community.adapter!r} has no {WEIGHTS}; pickled weights are refused: "
            "load and save it once with peft's save_pretrained"
        )
    config = json.loads(config_file.read_text(encoding="utf-8"))
    trained_on = str(config.get("base_model_name_or_path"))
    if config.get("peft_type") != "LORA":
        raise PluralismError(
            f"adapter={community.adapter!r} is of type {config.get('peft_type')!r}; LORA is needed"
        )
    if trained_on not in _names_of(community.base):
        raise PluralismError(
            f"adapter={community.adapter!r} belongs to base model {trained_on!r}, the pool says base={community.base!r}"
        )
    return Adapter(folder, hashlib.sha256(weights.read_bytes()).hexdigest())


def _names_of(base: str) -> set[str]:
    return (
        {"embedded", embedded.HUB_ID}
        if base in ("embedded", embedded.HUB_ID)
        else {base, str(Path(base).resolve())}
    )


def _folder(community: AdapterSpec) -> Path:
    place, _, name = community.adapter.partition("/")
    if place == "embedded" and name:
        return Path(str(files("pluralism_eval.communities"))) / "embedded" / "adapters" / name
    if Path(community.adapter).is_dir():
        return Path(community.adapter)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                community.adapter, revision=community.revision, allow_patterns=[CONFIG, WEIGHTS]
            )
        )
    except Exception as error:  # offline, gated, misspelled: one line each, the reason kept
        raise PluralismError(
            f"adapter={community.adapter!r} is neither a folder nor to be had from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error
