"""Broken adapters: one clear error each, before any model is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import Community
from pluralism_eval.errors import PluralismError

GOOD = Path(adapters.__file__).parent / "embedded" / "adapters" / "news_left"


def config(**change: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / adapters.CONFIG
        file.write_text(json.dumps(json.loads(file.read_text()) | change))

    return edit


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        state = load_file(folder / adapters.WEIGHTS)
        change(state)
        save_file(state, folder / adapters.WEIGHTS)

    return edit


def first(state: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name in sorted(state) if part in name)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / adapters.WEIGHTS), folder / adapters.PICKLED)
    (folder / adapters.WEIGHTS).unlink()


def zero(state: dict[str, torch.Tensor]) -> None:
    for name in state:
        if "lora_B" in name:
            state[name].zero_()


def truncate(folder: Path) -> None:
    data = (folder / adapters.WEIGHTS).read_bytes()
    (folder / adapters.WEIGHTS).write_bytes(data[: len(data) // 2])


def other_base_weights(folder: Path) -> None:
    record = json.loads((folder / adapters.RECORD).read_text())
    (folder / adapters.RECORD).write_text(json.dumps(record | {"base_sha256": "0" * 64}))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "wrong base": (config(base_model_name_or_path="org/other"), "belongs to base model 'org/other'"),
    "other base weights": (other_base_weights, "was trained on weights of 'embedded' with hash 000"),
    "not LoRA": (config(peft_type="IA3"), "of type 'IA3'; LORA is needed"),
    "wrong rank": (config(r=16), "wrong shape.*rank r=16"),
    "wrong shape": (
        tensors(lambda s: s.update({first(s, "lora_B"): torch.ones(3, 8)})),
        r"1 tensors have the wrong shape.*\[3, 8\].*needs",
    ),
    "missing tensors": (
        tensors(lambda s: s.pop(first(s, "lora_A"))),
        "1 tensors missing, 0 unexpected",
    ),
    "tensors of other modules": (
        config(target_modules=["k_proj", "v_proj"]),
        "tensors missing, .* unexpected",
    ),
    "modules the base lacks": (
        config(target_modules=["c_attn"]),
        "does not fit 'embedded'.*c_attn",
    ),
    "zero weights": (tensors(zero), "all lora_B weights are zero"),
    "NaN": (
        tensors(lambda s: s[first(s, "lora_A")].fill_(float("nan"))),
        "holds NaN or infinity",
    ),
    "infinity": (tensors(lambda s: s[first(s, "lora_B")].fill_(torch.inf)), "holds NaN or infinity"),
    "pickle": (pickled, "only pickled weights .* refused.*pickle: true"),
    "truncated file": (truncate, "is damaged"),
    "empty file": (lambda f: (f / adapters.WEIGHTS).write_bytes(b""), "is damaged"),
    "no weights": (lambda f: (f / adapters.WEIGHTS).unlink(), "has no adapter_model.safetensors"),
    "no config": (lambda f: (f / adapters.CONFIG).unlink(), "not a PEFT adapter"),
    "config is no JSON": (lambda f: (f / adapters.CONFIG).write_text("{"), "is not JSON"),
}  # fmt: skip


def community(folder: Path, **more: Any) -> Community:
    return Community("mine", "d", base="embedded", adapter=str(folder), **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "adapter"))


@pytest.mark.model
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_adapters(folder: Path, kind: str) -> None:
    breaking, part = BROKEN[kind]
    breaking(folder)
    with pytest.raises(PluralismError, match=part) as caught:
        adapters.resolve_all([community(folder)])
    assert "mine: " in str(caught.value)


@pytest.mark.model
def test_a_good_adapter_and_a_pinned_hash(folder: Path) -> None:
    found = adapters.resolve_all([community(folder)])["mine"]
    assert (found.rank, found.tensors) == (8, 120)
    pinned = community(folder, sha256=found.sha256)
    assert adapters.resolve_all([pinned])["mine"] == found
    with pytest.raises(PluralismError, match=r"has sha256 .* the pool says abc"):
        adapters.resolve_all([community(folder, sha256="abc")])


@pytest.mark.model
def test_allowed_pickles_are_read_as_tensors_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = load_file(folder / adapters.WEIGHTS)
    pickled(folder)
    monkeypatch.setattr(adapters, "cache_root", lambda: tmp_path / "cache")
    found = adapters.resolve_all([community(folder, pickle=True)])["mine"]
    again = load_file(found.folder / adapters.WEIGHTS)
    assert all(torch.equal(again[name], original[name]) for name in original)

    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("code ran",))

    torch.save({"x": Evil()}, folder / adapters.PICKLED)
    with pytest.raises(PluralismError, match="cannot be read as plain tensors"):
        adapters.resolve_all([community(folder, pickle=True)])


def test_the_commit_of_a_base_is_read_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--base"
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    assert adapters.hub_commit("org/base") == adapters.hub_commit("org/base", "c0ffee") == "c0ffee"
    for model in ("org/other", str(tmp_path), "embedded", "no id at all/x/y"):
        assert adapters.hub_commit(model) is None


def test_weight_hashes_follow_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    one = adapters.weights_sha256(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert adapters.weights_sha256(str(tmp_path)) != one
    assert adapters.weights_sha256("nobody/nothing") is None
