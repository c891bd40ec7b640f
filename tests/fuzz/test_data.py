"""Data files: mutations of the items that ship with the package, as inputs and as answers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval import scoring
from pluralism_eval.data.cleaning import damaged
from pluralism_eval.data.docs import build_docs, oddities, read_items
from pluralism_eval.errors import PluralismError
from pluralism_eval.replies import parse_answer
from pluralism_eval.tasks import TASKS
from pluralism_eval.tasks.items import distribution_of
from tests.conftest import ROOT
from tests.fuzz import JSON, TEXTS, damaged_text, encodable, fuzz, mutated, ours

SAMPLE = {
    task: json.loads((ROOT / "pluralism_eval/data/sample" / f"{name}.json").read_text())[:3]
    for task, name in ((t.short, t.input) for t in TASKS.values())
}
COMMON = {"input": "x", "preset": "paper", "nli": "embedded", "nli_directions": "one"}
SHORT = st.sampled_from(sorted(SAMPLE))


@given(SHORT.flatmap(lambda task: st.tuples(st.just(task), mutated(SAMPLE[task], 4))))
@fuzz(120)
def test_items_are_docs_or_one_error(pair: tuple[str, Any]) -> None:
    task, items = pair
    if not isinstance(items, list):
        return  # read_items refuses it
    with ours():
        docs = build_docs(task, items, COMMON, "file.json")
        assert len(docs) == len(items)
        for item, doc in zip(items, docs, strict=True):
            assert doc["id"] == str(item["id"])
            assert doc["query"].strip()
            json.dumps(doc, ensure_ascii=False, allow_nan=False).encode()
            if "gold" in doc:
                assert len(doc["gold"]) == len(doc["options"]) == len(doc["letters"])
                assert math.fsum(doc["gold"]) == pytest.approx(1, abs=1e-9)
                assert doc["gold"][doc["target"]] == max(doc["gold"])
                assert not doc["others"] or math.fsum(doc["others"]) == pytest.approx(1)
            if task == "overton":
                assert len(doc["values"]) == len(doc["explanations"]) > 0
            assert "gold" not in doc["pluralism"]
            assert "target" not in doc["pluralism"]
        assert all(n > 0 for n in oddities(items, docs).values())
        if task == "opinionqa":
            assert set(damaged(items)) <= set(range(len(items)))


@given(st.one_of(JSON, mutated([0.2, 0.3, 0.5]), st.lists(st.floats(), max_size=5)))
@fuzz(100)
def test_a_distribution_is_one_or_an_error(values: Any) -> None:
    with ours(ValueError):
        found = distribution_of(values, "f")
        assert math.fsum(found) == pytest.approx(1)
        assert len(found) == len(values)


@given(st.one_of(damaged_text(json.dumps(SAMPLE["vk"])), TEXTS, st.just("[" * 100_000)))
@fuzz(100)
def test_a_data_file_is_a_list_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "items.json"
    path.write_bytes(encodable(text).encode())
    with ours():
        items = read_items(path)
        assert isinstance(items, list)
        build_docs("vk", items, COMMON, "file.json")


@given(st.binary(max_size=60))
@fuzz(60)
def test_bytes_are_a_list_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(content)
    with ours():
        assert isinstance(read_items(path), list)


def answered(task: str) -> list[dict[str, Any]]:
    """The sample's items with answers."""
    words = {"vk": {"output": "B. Oppose"}}
    return [
        {**item, **words.get(task, {"pred_distribution": item.get("gold_distribution")})}
        for item in SAMPLE[task]
    ]


ANSWERED = st.sampled_from(sorted(set(SAMPLE) - {"overton"}))


@given(ANSWERED.flatmap(lambda task: st.tuples(st.just(task), mutated(answered(task), 4))))
@fuzz(40, costs=5)
def test_answers_are_scores_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[str, Any]
) -> None:
    task, items = pair
    path = tmp_path_factory.getbasetemp() / "answers.json"
    path.write_text(json.dumps(items))
    for count in (False, True):
        with ours():
            _check(task, scoring.score_file(path, task, count_failures=count), items)


def _check(task: str, scored: scoring.Scored, items: list[dict[str, Any]]) -> None:
    assert len(scored.samples) == len(items)
    unread = sum(sample["unparsed"] for sample in scored.samples)
    assert unread >= sum(scored.failures.values())
    for item, sample in zip(items, scored.samples, strict=True):
        assert 0 <= sample["option_mass"] <= 1 + 1e-9
        if task != "vk":
            assert 0 <= sample["jsd"] <= 0.8326
        elif not sample["unparsed"]:
            said = parse_answer("strict", item["output"], "ABC", ["Support", "Oppose", "Either"])
            assert sample["acc"][1] == said


ROW = {
    "doc_id": 0, "doc": build_docs("globalopinionqa", SAMPLE["globalopinionqa"], COMMON, "f")[0], "target": 0, "filtered_resps": [],
    "resps": [[[-0.5, False]]] * 9,
}  # fmt: skip
ROW["resps"] = [[[-2.0, False]] for _ in ROW["doc"]["options"]]  # type: ignore[index]
INEXACT = {**ROW, "resps": [[[-2.0, False, 0.1, 5.0]] for _ in ROW["doc"]["options"]]}  # type: ignore[index]


@given(st.one_of(mutated(ROW, 4), mutated(INEXACT, 4)))
@fuzz(40, costs=5)
def test_samples_are_scores_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, row: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "samples_x.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with ours():
        scored = scoring.score_file(path, "globalopinionqa")
        (sample,) = scored.samples
        assert 0 <= sample["jsd_lower"] - 1e-9 <= sample["jsd"] <= sample["jsd_upper"] + 1e-9
        for summary in scoring.summaries(scored):
            assert not math.isinf(summary.value)


def test_the_unchanged_items_are_no_error() -> None:
    for task, items in SAMPLE.items():
        assert build_docs(task, items, COMMON, "f")
    with pytest.raises(PluralismError):
        build_docs("vk", [None], COMMON, "f")
