"""Damaged items are found and named; inputs rebuilt from the originals equal the released ones."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from pluralism_eval.cli import main
from pluralism_eval.data import build, cleaning
from pluralism_eval.data.docs import load_docs
from pluralism_eval.errors import PluralismError
from tests.conftest import AUTHORS_INPUTS, TEST_DATA, needs_authors_inputs

OPINIONQA = AUTHORS_INPUTS / "steerable_test_opinionqa_small.json"


def survey(options: list[str], gold: list[float], stem: str = "How often?") -> dict[str, Any]:
    question = f"Question: {stem}\nOptions: ...\nAnswer:"
    return {"question": question, "options": options, "gold_distribution": gold}


@pytest.mark.parametrize(
    ("options", "gold", "reason"),
    [
        (["Ye", "requently", "No"], [0, 0, 1], cleaning.SPLIT),
        (["Essential", "Importan", "ut not essential"], [1, 0, 0], cleaning.SPLIT),
        (["'Yes", "No", '"I\'m not sure"'], [0, 1, 0], cleaning.QUOTES),
        (["Not selected"], [1.0], cleaning.SINGLE),
        (["Some", "None"], [1.0, 0], cleaning.NONE),
        (["Some", "None"], [0.9, 0.1], None),
        (["legal in all cases", "illegal in all cases"], [0.5, 0.5], None),
        (["Yes", "No"], [1.0, 0.0], None),
    ],
)
def test_each_kind_of_damage(options: list[str], gold: list[float], reason: str | None) -> None:
    found = cleaning.damaged([survey(options, gold, "Is it legal in all cases?")])
    assert found == ({0: reason} if reason else {})


@needs_authors_inputs
def test_the_released_opinionqa_input_has_its_share() -> None:
    items = json.loads(OPINIONQA.read_text())
    found = cleaning.damaged(items)
    counts = Counter(found.values())
    assert counts == {
        cleaning.SPLIT: 113,
        cleaning.QUOTES: 53,
        cleaning.SINGLE: 7,
        cleaning.NONE: 28,
    }
    # in the whole file 426 of 4,475: 233 split, 115 quoted, 16 single options, 62 "None"
    assert 233 + 115 + 16 + 62 == 426
    assert len(found) / len(items) == pytest.approx(426 / 4475, abs=0.01)
    for i in found:  # the evidence: answers to a damaged option were never counted
        gold = items[i]["gold_distribution"]
        assert min(gold) == 0 or len(gold) == 1
    kept = load_docs("opinionqa", data=f"cleaned:{AUTHORS_INPUTS}")["test"]
    assert len(kept) == len(items) - len(found)
    assert len(load_docs("opinionqa", data=str(AUTHORS_INPUTS))["test"]) == len(items)


@needs_authors_inputs
def test_the_card_names_every_damaged_item(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "card", "--data", str(AUTHORS_INPUTS), "--task", "opinionqa"]
    assert main([*arguments, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)[0]
    assert (card["items"], card["damaged"], len(card["damaged_items"])) == (2238, 201, 201)
    assert {"id", "options", "reason"} == card["damaged_items"][0].keys()
    assert main(arguments) == 0
    assert "damaged: 201" in capsys.readouterr().out


@needs_authors_inputs
def test_moralchoice_rebuilt_from_its_source(tmp_path: Path) -> None:
    source = TEST_DATA / "moralchoice"
    assert (
        main(["data", "build", "moralchoice", "--source", str(source), "--output", str(tmp_path)])
        == 0
    )
    items = json.loads((tmp_path / "distributional_test_moralchoice.json").read_text())
    assert len(items) == 1367
    by_id = {item["id"]: item for item in items}
    released = json.loads((AUTHORS_INPUTS / "distributional_test_moralchoice.json").read_text())
    assert all(by_id[item["id"]] == item for item in released)
    uniform = np.array([jensenshannon([0.5, 0.5], item["gold_distribution"]) for item in items])
    low = np.array([item["attribute"] == "low_ambiguity" for item in items])
    found = uniform.mean(), uniform[low].mean(), uniform[~low].mean()
    assert [round(float(v), 4) for v in found] == [0.2334, 0.4645, 0.0]
    first = np.nanmean(
        [np.nan_to_num(jensenshannon([1, 0], i["gold_distribution"])) for i in items]
    )
    assert round(float(first), 4) == 0.2311


def test_globalopinionqa_from_its_csv(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    rows = [
        ("Is it good?", "defaultdict(<class 'list'>, {'Japan': [0.2, 0.6], 'Peru': [0.0, 0.0]})", "['Yes', 'No']", "GAS"),
        ("Which?", "{'Japan': [1]}", "['a']", "WVS"),
        ("Broken", "defaultdict(", "['a', 'b']", "WVS"),
    ]  # fmt: skip
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("question", "selections", "options", "source"), *rows])
    built = build.globalopinionqa(file)
    assert [(i["attribute"], i["gold_distribution"]) for i in built.items] == [
        ("Japan", pytest.approx([0.25, 0.75]))
    ]
    assert built.items[0]["question"] == "Question: Is it good?\nOptions: A. Yes B. No\nAnswer:"
    assert sum(built.dropped.values()) == 3


def test_opinionqa_from_its_bundle_with_and_without_weights(tmp_path: Path) -> None:
    wave = tmp_path / "human_resp" / "American_Trends_Panel_W26"
    wave.mkdir(parents=True)
    with (wave / "info.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [
                ("key", "question", "references"),
                ("Q1", "Do you?", "['Yes, often', 'None', 'Refused']"),
            ]
        )
    people = [("Yes, often", "Male", 3.0), ("None", "Male", 1.0), ("Refused", "Male", 9.0)]
    with (wave / "responses.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("Q1", "SEX", "WEIGHT_W26"), *people])
    (item,) = build.opinionqa(tmp_path).items
    assert item["options"] == ["Yes, often", "None"]
    assert item["gold_distribution"] == [0.75, 0.25]
    assert (item["respondents"], item["refused"], item["attribute"]) == (2, 1, "SEX_Male")
    assert build.opinionqa(tmp_path, weighted=False).items[0]["gold_distribution"] == [0.5, 0.5]
    with pytest.raises(PluralismError, match="American_Trends_Panel"):
        build.opinionqa(wave)


@needs_authors_inputs
@pytest.mark.parametrize("task", ["globalopinionqa", "opinionqa"])
def test_other_groups_on_the_same_question(task: str) -> None:
    docs = load_docs(task, data=str(AUTHORS_INPUTS))["test"].to_list()
    for doc in docs[:200]:
        same = [
            d["gold"] for d in docs
            if d["query"] == doc["query"] and d["options"] == doc["options"]
            and (d["pluralism"]["attribute"], d["group"]) != (doc["pluralism"]["attribute"], doc["group"])
        ]  # fmt: skip
        assert doc["others"] == pytest.approx(np.mean(same, axis=0).tolist() if same else [])
