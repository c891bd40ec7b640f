"""Data: sources, verification, and malformed items."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from pluralism_eval.data import sources
from pluralism_eval.data.docs import load_docs
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.entailment import LABELS, read_pairs
from pluralism_eval.tasks import TASKS

GOOD = {
    "question": "Q?\nA. a\nB. b\nAnswer:", "options": ["a", "b"], "attribute": "Japan",
    "gold_distribution": [0.4, 0.6], "pred_distribution": None, "id": 3,
}  # fmt: skip


def write(folder: Path, task: str, items: Any) -> str:
    (folder / f"{TASKS[task].input}_small.json").write_text(json.dumps(items))
    return str(folder)


@pytest.mark.parametrize("task", TASKS)
def test_the_sample_loads(task: str) -> None:
    docs = load_docs(task, data="sample", nli="embedded")["test"]
    assert len({doc["id"] for doc in docs}) == len(docs)
    for doc in docs:
        assert doc["pluralism"]["query"] == doc["query"]
        assert "gold" not in doc["pluralism"]
        assert "target" not in doc["pluralism"]


def test_the_sample_is_as_large_as_promised() -> None:
    overton = load_docs("overton", data="sample", nli="embedded")["test"]
    assert len(overton) >= 24
    assert all(5 <= len(doc["values"]) <= 9 for doc in overton)
    labels = load_docs("vk", data="sample")["test"]["target"]
    assert [list(labels).count(i) for i in range(3)] == [40, 40, 40]
    moral = load_docs("moralchoice", data="sample")["test"]
    assert len(moral) == 40
    assert list(moral["group"]).count("high_ambiguity") == 20
    assert {tuple(g) for g in moral["gold"]} == {(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)}
    pairs = read_pairs("nli_check.jsonl")
    assert len(pairs) >= 60
    assert {label for _, label in pairs} == set(range(len(LABELS)))
    calibration = {text for pair, _ in read_pairs("nli_calibration.jsonl") for text in pair}
    assert not calibration & {text for pair, _ in pairs for text in pair}


@pytest.mark.parametrize("task", ["opinionqa", "globalopinionqa"])
def test_every_survey_item_of_the_sample_cites_its_source(task: str) -> None:
    items = json.loads(sources.input_file(task, "sample").read_text())
    assert all(item["source"] and item["respondents"] >= 40 for item in items)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"options": []}, "no options"),
        ({"options": ["a"] * 27, "gold_distribution": [1 / 27] * 27}, "at most 26"),
        ({"gold_distribution": [1.0]}, "2 options and 1 gold"),
        ({"gold_distribution": [0.1, 0.1]}, "not a distribution"),
        ({"question": None, "options": None}, "item 1"),
    ],
)
def test_malformed_items_are_named(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    folder = write(tmp_path, "globalopinionqa", [GOOD, {**GOOD, **change}])
    with pytest.raises(PluralismError, match=part):
        load_docs("globalopinionqa", data=folder)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    item = {k: v for k, v in GOOD.items() if k != "gold_distribution"}
    with pytest.raises(PluralismError, match="'gold_distribution' is missing"):
        load_docs("globalopinionqa", data=write(tmp_path, "globalopinionqa", [item]))


def test_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluralismError, match="neither authors, nor cleaned, nor sample"):
        load_docs("vk", data="/nowhere")
    with pytest.raises(PluralismError, match="has neither"):
        load_docs("vk", data=str(tmp_path))
    (tmp_path / "steerable_test_valuekaleidoscope.json").write_text("[1, 2")
    with pytest.raises(PluralismError, match="cannot be read as JSON"):
        load_docs("vk", data=str(tmp_path))


class FakeResponse:
    def __init__(self, content: bytes) -> None:
        self.content, self.headers = content, {"content-length": str(len(content))}

    def __enter__(self) -> FakeResponse:
        return self

    def __exit__(self, *_: object) -> None: ...

    def raise_for_status(self) -> None: ...

    def iter_content(self, size: int) -> list[bytes]:
        return [self.content]


def test_authors_data_is_downloaded_once_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path))
    content = json.dumps([GOOD]).encode()
    calls: list[str] = []

    def get(url: str, **_: Any) -> FakeResponse:
        calls.append(url)
        return FakeResponse(content)

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(PluralismError, match="git blob id"):
        sources.input_file("globalopinionqa", "authors")
    assert not list(tmp_path.rglob("*.json"))
    known = replace(TASKS["globalopinionqa"], blob=sources.blob_id(content))
    monkeypatch.setitem(TASKS, "globalopinionqa", known)
    first, second = (
        sources.input_file("globalopinionqa", None),
        sources.input_file("globalopinionqa", "authors"),
    )
    assert first == second
    assert first.read_bytes() == content
    assert len(calls) == 2
    assert sources.COMMIT in calls[0]


def test_offline_with_an_empty_cache_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path))

    def get(url: str, **_: Any) -> FakeResponse:
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(PluralismError, match="data=sample"):
        sources.input_file("vk", "authors")


def test_blob_ids_are_gits(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"pluralism\n")
    git = subprocess.run(
        ["git", "hash-object", str(file)], capture_output=True, text=True, check=True
    )
    assert sources.blob_id(file.read_bytes()) == git.stdout.strip()


def test_an_nli_model_out_of_reach_says_how_to_go_on() -> None:
    with pytest.raises(PluralismError, match="nli=embedded"):
        load_docs("overton", data="sample", nli="nobody/no-such-model")
