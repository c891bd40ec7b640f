"""Adapters on disk: where they are, what they are for, whether they are what they say."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from pluralism_eval import checksums
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.communities import adapter_files, kinds
from pluralism_eval.communities.adapter_config import config_sha256, is_usual
from pluralism_eval.communities.bases import base_identity as base_identity
from pluralism_eval.communities.bases import base_model as base_model
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.files import write_atomic
from pluralism_eval.llm import embedded
from pluralism_eval.llm.contents import hub_commit as hub_commit
from pluralism_eval.llm.contents import weights_sha256 as weights_sha256

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
CONFIG = "adapter_config.json"
RECORD = "training.json"
log = logging.getLogger(__name__)


class AdapterSpec(Protocol):
    """What of a community matters here."""

    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def base_revision(self) -> str: ...
    @property
    def adapter(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def pickle(self) -> bool: ...


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that was checked against its base model."""

    folder: Path
    sha256: str
    """Of the weight file."""
    rank: int
    tensors: int
    commit: str | None = None
    """Hub commit, where it came from there."""
    key_version: int = 1
    """See :func:`kinds.key_version`."""
    config_sha256: str = ""
    """Of the configuration, as far as a text depends on it."""
    usual: bool = False
    """LoRA as PEFT makes it by itself, see :func:`~pluralism_eval.communities.adapter_config.is_usual`."""

    @property
    def identity(self) -> str:
        """What its texts depend on: weights and configuration."""
        return digest([self.sha256, self.config_sha256])


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


def training_record(community: AdapterSpec) -> dict[str, Any] | None:
    """``training.json`` beside the adapter: corpus, recipe, perplexities; None if there is none."""
    try:
        found = adapter_files.read_config(_folder(community), RECORD)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


# ---------------------------------------------------------------------- the checks


def _resolve(community: AdapterSpec) -> Adapter:
    folder = _folder(community)
    config = _config(community, folder)
    commit = folder.name if folder.parent.name == "snapshots" else None
    weights = folder / WEIGHTS
    if not weights.is_file():
        folder = _unpickled(community, folder)
        weights = folder / WEIGHTS
    _check_weight_file(community, weights)
    sha256 = adapter_files.sha256_of(weights)
    if community.sha256 and community.sha256 != sha256:
        raise PluralismError(
            f"adapter={community.adapter!r} has sha256 {sha256}, the pool says {community.sha256}; "
            "the file has changed, or the entry is out of date"
        )
    _check_base(community)
    rank, tensors = _check_tensors(community, weights, config, sha256)
    commit = folder.name if folder.parent.name == "snapshots" else None
    return Adapter(
        folder,
        sha256,
        rank,
        tensors,
        commit,
        kinds.key_version(config),
        config_sha256(config),
        is_usual(config),
    )


def _check_weight_file(community: AdapterSpec, weights: Path) -> None:
    """Before anything reads it whole: is it what its header says, and no larger than its configuration implies?"""
    try:
        if weights.name == WEIGHTS:
            adapter_files.check_header(weights)
        if adapter_files.is_large(weights):
            adapter_files.check_size(weights, _expected_shapes(community, weights.parent))
    except PluralismError as error:
        raise PluralismError(f"adapter={community.adapter!r}: {error}") from error


def _config(community: AdapterSpec, folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise PluralismError(f"adapter={community.adapter!r} has no {CONFIG}: not a PEFT adapter")
    adapter_files.check_links(folder, (CONFIG, WEIGHTS, PICKLED, RECORD))
    try:
        config = adapter_files.read_config(folder, CONFIG)
    except (OSError, ValueError) as error:
        raise PluralismError(
            f"adapter={community.adapter!r}: {CONFIG} is not JSON: {error}"
        ) from error
    if not isinstance(config, dict):
        raise PluralismError(
            f"adapter={community.adapter!r}: {CONFIG} is {config!r:.60}, no mapping"
        )
    refused = kinds.refusal(config)
    if refused:
        raise PluralismError(f"adapter={community.adapter!r} {refused}")
    trained_on = str(config.get("base_model_name_or_path"))
    if trained_on not in _names_of(community.base):
        raise PluralismError(
            f"adapter={community.adapter!r} belongs to base model {trained_on!r}, the pool says base={community.base!r}"
        )
    return config


def _check_base(community: AdapterSpec) -> None:
    """Our own adapters record the hash of the weights they were trained on."""
    known = (training_record(community) or {}).get("base_sha256")
    if not known:
        return
    present = weights_sha256(base_model(community.base), community.base_revision)
    if present and present != known:
        raise PluralismError(
            f"adapter={community.adapter!r} was trained on weights of {community.base!r} with hash {known[:12]}, "
            f"those here have {present[:12]}: another revision, or changed; set base_revision or train it again"
        )


def _check_tensors(
    community: AdapterSpec, weights: Path, config: Mapping[str, Any], sha256: str
) -> tuple[int, int]:
    """(rank, number of tensors). A verdict on the same bytes is remembered."""
    identity = base_identity(community.base, community.base_revision)
    store = Store(cache_root() / "hashes.sqlite", "adapters")
    key = digest(["checked", 1, sha256, config, identity])
    known = store.get([key])
    if key in known:
        return int(known[key]["rank"]), int(known[key]["tensors"])
    shapes = _read_tensors(community, weights)
    expected = _expected_shapes(community, weights.parent)
    _compare(community, shapes, expected, config)
    rank, tensors = int(config.get("r", 0)), len(shapes)
    store.put({key: {"rank": rank, "tensors": tensors}})
    return rank, tensors


def _read_tensors(community: AdapterSpec, weights: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape. Raises PluralismError for a damaged file, NaN, infinity, or all zero."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    alive = False
    try:
        with safe_open(str(weights), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_tensor(name)
                shapes[name] = tuple(tensor.shape)
                if not tensor.isfinite().all():
                    raise PluralismError(
                        f"adapter={community.adapter!r}: tensor {name} holds NaN or infinity; train it again"
                    )
                alive = alive or (_acts(name) and bool(tensor.any()))
    except (SafetensorError, OSError) as error:
        raise PluralismError(
            f"adapter={community.adapter!r}: {WEIGHTS} is damaged ({str(error).splitlines()[0]}); copy or download it again"
        ) from error
    if not alive:
        raise PluralismError(
            f"adapter={community.adapter!r}: all lora_B weights are zero, so it would be the bare base model"
        )
    return shapes


def _acts(name: str) -> bool:
    """True for tensors without which an adapter does nothing; others hold numbers all the same."""
    return "lora_B" in name or "lora_embedding_B" in name or "lora_" not in name


def _expected_shapes(community: AdapterSpec, folder: Path) -> dict[str, tuple[int, ...]]:
    """What PEFT makes of this configuration on this base model, without its weights."""
    import torch
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        base_config = AutoConfig.from_pretrained(
            base_model(community.base),
            revision=community.base_revision,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise PluralismError(
            f"base={community.base!r} cannot be had: {str(error).splitlines()[0]}"
        ) from error
    try:
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = False
        config.base_model_name_or_path = None  # checked above; peft would warn of the folder's name
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(base_config)
            modules = [name for name, _ in base.named_modules()]
            layers = getattr(base_config.get_text_config(), "num_hidden_layers", None)
            adapter_files.check_config(vars(config), modules, layers)
            model = get_peft_model(base, config)
        state = get_peft_model_state_dict(model)
    except Exception as error:  # PEFT raises what it likes
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise PluralismError(
            f"adapter={community.adapter!r}: {CONFIG} does not fit {community.base!r}: {reason}"
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _compare(
    community: AdapterSpec,
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
) -> None:
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if wrong:
        name = wrong[0]
        raise PluralismError(
            f"adapter={community.adapter!r}: {len(wrong)} tensors have the wrong shape, e.g. {name} {list(found[name])}; "
            f"rank r={config.get('r')} of {CONFIG} on {community.base!r} needs {list(expected[name])}"
        )
    if missing or surplus:
        raise PluralismError(
            f"adapter={community.adapter!r}: {len(missing)} tensors missing, {len(surplus)} unexpected "
            f"(e.g. {(missing or surplus)[0]}); {CONFIG} and {WEIGHTS} do not belong together"
        )


def _unpickled(community: AdapterSpec, folder: Path) -> Path:
    """A copy in the cache with safetensors, made from pickled weights that the pool allows."""
    pickled = folder / PICKLED
    if not pickled.is_file():
        raise PluralismError(
            f"adapter={community.adapter!r} has no {WEIGHTS} (pickled weights are refused unless its entry says `pickle: true`)"
        )
    if not community.pickle:
        raise PluralismError(
            f"adapter={community.adapter!r} has only pickled weights ({PICKLED}), which are refused: a pickle can run "
            "code. If you trust its author, set `pickle: true` in the pool; it is then read without running code and kept as safetensors"
        )
    import torch
    from safetensors.torch import save

    _check_weight_file(community, pickled)
    config = (folder / CONFIG).read_bytes()
    hashed = adapter_files.sha256_of(pickled)
    target = cache_root() / "adapters" / f"{hashed}-{hashlib.sha256(config).hexdigest()[:12]}"
    why = checksums.fault(target)
    if why:
        if target.exists():
            log.warning("The unpacked adapter %s %s: unpacking it again", community.adapter, why)
        try:
            state = torch.load(pickled, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle errors are of any kind
            raise PluralismError(
                f"adapter={community.adapter!r}: {PICKLED} cannot be read as plain tensors: {str(error).splitlines()[0][:300]}"
            ) from error
        scratch = target.with_name(f".unpacking-{secrets.token_hex(4)}")
        write_atomic(scratch / CONFIG, config)
        write_atomic(scratch / WEIGHTS, save({k: v.contiguous() for k, v in state.items()}))
        checksums.record(scratch)
        checksums.replace_folder(scratch, target)
    return target


def _names_of(base: str) -> set[str]:
    return (
        {"embedded", embedded.HUB_ID}
        if base in ("embedded", embedded.HUB_ID)
        else {base, str(Path(base).resolve())}
    )


def _folder(community: AdapterSpec) -> Path:
    place, _, name = community.adapter.partition("/")
    if place in ("embedded", "control") and name:
        return Path(str(files("pluralism_eval.communities"))) / place / "adapters" / name
    if Path(community.adapter).is_dir():
        return Path(community.adapter)
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, WEIGHTS, RECORD, *([PICKLED] if community.pickle else [])]
    try:
        return Path(
            snapshot_download(community.adapter, revision=community.revision, allow_patterns=wanted)
        )
    except Exception as error:  # offline, gated, misspelled: one line each, the reason kept
        raise PluralismError(
            f"adapter={community.adapter!r} is neither a folder nor to be had from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error
