"""Paired tests need the same docs, scored alike; files of another task are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import scoring
from pluralism_eval.cli import main
from pluralism_eval.data.docs import build_docs, load_docs
from pluralism_eval.errors import PluralismError
from pluralism_eval.report.comparison import check_same_docs, comparisons
from pluralism_eval.tasks import TASKS
from tests.conftest import ROOT

SURVEY = "pluralism_distributional_globalopinionqa"
ITEM = {
    "question": "Question: Is it so?\nAnswer:", "options": ["Yes", "No"], "attribute": "Japan",
    "gold_distribution": [0.25, 0.75], "pred_distribution": [0.5, 0.5], "id": 1,
}  # fmt: skip


def samples(*items: dict[str, Any], preset: str = "paper") -> list[dict[str, Any]]:
    docs = build_docs("globalopinionqa", items, {"input": "x", "preset": preset}, "x")
    return [{"doc_id": i, "doc": doc, "jsd": 0.1 * i} for i, doc in enumerate(docs)]


TWO = [ITEM, {**ITEM, "id": 2, "attribute": "Peru"}]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"id": 3}, ["id is '2' in a and '3' in b"]),
        ({"question": "Question: Is it not so?\nAnswer:"}, ["query is", "Is it not so?"]),
        ({"gold_distribution": [0.26, 0.74]}, ["gold is [0.25, 0.75] in a and [0.26, 0.74] in b"]),
        ({"gold_distribution": [0.75, 0.25]}, ["gold is"]),
        ({"attribute": "Chad"}, ["group is 'Peru' in a and 'Chad' in b"]),
        ({"options": ["Yes", "Never"]}, ["options is ['Yes', 'No'] in a and ['Yes', 'Never'] in b"]),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(change: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(PluralismError) as raised:
        comparisons({"a": {SURVEY: samples(*TWO)}, "b": {SURVEY: samples(ITEM, {**TWO[1], **change})}}, [("a", "b")])  # fmt: skip
    assert "from place 1 (id 2)" in str(raised.value)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_another_preset_or_number_of_docs_is_named_and_rounding_is_none() -> None:
    one = samples(*TWO)
    with pytest.raises(PluralismError, match="preset is 'paper' in a and 'reference' in b"):
        check_same_docs(SURVEY, "a", "b", one, samples(*TWO, preset="reference"))
    with pytest.raises(PluralismError, match=r"a \(2 docs\) and b \(1\).*from place 1"):
        check_same_docs(SURVEY, "a", "b", one, samples(ITEM))
    older = {**one[0]["doc"], "gold": [0.25 + 1e-10, 0.75]}  # before golds were normalised on load
    check_same_docs(SURVEY, "a", "b", one, [{**one[0], "doc": older}, one[1]])


def test_a_difference_far_into_a_long_text_is_shown() -> None:
    long = {**ITEM, "question": "so " * 400 + "A?"}
    other = {**long, "question": "so " * 400 + "B?"}
    with pytest.raises(PluralismError, match=r"so A\?'\.\.\. in a and .*so B\?"):
        check_same_docs(SURVEY, "a", "b", samples(long), samples(other))


@pytest.mark.parametrize("field", ["label", "vrd", "explanation", "situation"])
def test_labels_values_and_explanations_count(field: str) -> None:
    task = "overton" if field == "explanation" else "vk"
    name = TASKS[task].input
    item = json.loads((ROOT / "pluralism_eval/data/sample" / f"{name}.json").read_text())[0]
    other = {"label": "ABC"[item.get("label") == "A"], "vrd": "Another", "explanation": ["!"] * len(item["vrd"]), "situation": "Z"}  # fmt: skip
    common = {"input": "x", "preset": "paper", "nli": "embedded"}
    first, second = (
        [{"doc": doc} for doc in build_docs(task, [own], common, "x")]
        for own in (item, {**item, field: other[field]})
    )
    check_same_docs(task, "a", "b", first, first)
    with pytest.raises(PluralismError, match="from place 0"):
        check_same_docs(task, "a", "b", first, second)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("given", TASKS)
def test_score_refuses_files_of_another_task(
    tmp_path: Path, task: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if task == given:
        return
    name = TASKS[task].input
    items = json.loads((ROOT / "pluralism_eval/data/sample" / f"{name}.json").read_text())[:3]
    for item in items:
        item |= {"output": "A", "pred_distribution": item.get("gold_distribution")}
    answered = tmp_path / "answered.json"
    answered.write_text(json.dumps(items))
    docs = load_docs(task, data="sample", nli="embedded")["test"].to_list()[:3]
    logged = tmp_path / "samples_x.jsonl"
    rows = [
        {"doc_id": i, "doc": doc, "resps": [[[-1.0, False]]] * len(doc.get("options", "x"))}
        for i, doc in enumerate(docs)
    ]
    logged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for file in (answered, logged):
        assert main(["score", str(file), "--task", given, "--nli", "embedded"]) == 2
        assert file.name in capsys.readouterr().err
    with pytest.raises(PluralismError, match=f"samples of {task}, not of --task {given}"):
        scoring.score_file(logged, given, nli="embedded")
