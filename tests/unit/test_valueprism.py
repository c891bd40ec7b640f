"""The Value Kaleidoscope inputs: the released wording, rebuilt; the builder on rows of our own.

ValuePrism is gated and was not at hand: the rows below are ours, in the columns that the module
names. What the released files themselves can show is checked on them.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from pluralism_eval.cli import main
from pluralism_eval.data import valueprism
from pluralism_eval.data.docs import build_docs
from pluralism_eval.errors import PluralismError
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs

OVERTON = "overton_test_valuekaleidoscope"
VK = "steerable_test_valuekaleidoscope"
FULL = ("situation", "vrd", "text", "explanation", "valence")
VALENCE = ("situation", "vrd", "text", "valence")

BIKE, NAP = 'Lending a bike to a "friend"\nof a friend', "Napping at work."
ROWS = [  # situation, kind, value, explanation, valence
    (BIKE, "Value", "Generosity", "Lending is giving, for a while.", "Supports"),
    (BIKE, "Right", "Right to property", "The owner decides, and may refuse.", "Either"),
    (NAP, "Duty", "Duty to work", "An employer pays for work.", "Opposes"),
    (NAP, "Value", "Health", "Rest restores.", "Supports"),
    (NAP, "Value", "Health", "Tired people err.", "Supports"),
]
ELSEWHERE = ("Feeding crows", "Value", "Kindness", "Crows are hungry, too.", "Supports")


def write(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def dataset(folder: Path, rows: Sequence[Sequence[str]] = ROWS) -> Path:
    """A folder like the dataset's: ``rows`` are the test split, ELSEWHERE is the train split."""
    write(folder / "full" / "full.csv", FULL, [ELSEWHERE, *rows])
    for split, part in (("train", [ELSEWHERE]), ("test", rows)):
        pairs = [(s, kind, text, valence) for s, kind, text, _, valence in part]
        write(folder / "valence" / f"valence_{split}.csv", VALENCE, pairs)
    return folder


def released(name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads((AUTHORS_INPUTS / f"{name}_small.json").read_text())
    return items


@needs_authors_inputs
def test_every_released_query_is_remade_to_the_letter() -> None:
    for item in released(OVERTON):
        assert item["input"] == valueprism.overton_input(item["situation"])
    for item in released(VK):
        assert item["input"] == valueprism.vk_input(item["situation"], item["vrd"])
        assert item["label"] == valueprism.LABELS[item["label_text"]]


@needs_authors_inputs
def test_the_released_inputs_hold_the_pairs_of_one_table_in_one_order() -> None:
    situations = {item["situation"]: item for item in released(OVERTON)}
    first: dict[int, int] = {}  # situation's id → the id of its first pair
    shared = [item for item in released(VK) if item["situation"] in situations]
    for pair in shared:
        whole = situations[pair["situation"]]
        start = pair["id"] - whole["vrd"].index(pair["vrd"])
        assert first.setdefault(whole["id"], start) == start
    assert (len(first), len(shared)) == (164, 213)
    assert list(dict(sorted(first.items())).values()) == sorted(first.values())
    sizes = {item["id"]: len(item["vrd"]) for item in situations.values()}
    following = [i for i in first if i + 1 in first]
    assert following  # no pair of the table is missing between two situations
    assert all(first[i + 1] - first[i] == sizes[i] for i in following)


@needs_authors_inputs
def test_what_the_docstring_says_of_the_released_values() -> None:
    items = released(OVERTON)
    sizes = Counter(len(item["vrd"]) for item in items)
    assert (min(sizes), max(sizes)) == (2, 11)
    assert all(len(set(item["vrd"])) == len(item["vrd"]) for item in items)
    assert all(text.strip() for item in items for text in item["explanation"])


@needs_authors_inputs
def test_released_items_survive_the_way_through_the_tables(tmp_path: Path) -> None:
    pairs = [
        (item["situation"], "", value, explanation, "Either")
        for item in released(OVERTON)
        for value, explanation in zip(item["vrd"], item["explanation"], strict=True)
    ]
    built = valueprism.overton(dataset(tmp_path, pairs)).items
    assert [{**item, "id": 0} for item in built] == [
        {**item, "id": 0} for item in released(OVERTON)
    ]


def test_both_inputs_from_a_folder(tmp_path: Path) -> None:
    source = dataset(tmp_path / "ValuePrism")
    for task in ("overton", "vk"):
        arguments = ["data", "build", task, "--source", str(source), "--output", str(tmp_path)]
        assert main(arguments) == 0
    overton = json.loads((tmp_path / f"{OVERTON}.json").read_text())
    assert overton[0] == {
        "situation": BIKE,
        "vrd": ["Generosity", "Right to property"],
        "explanation": ["Lending is giving, for a while.", "The owner decides, and may refuse."],
        "input": f"Please comment on the following situation: {BIKE}.",
        "output": None,
        "id": 0,
    }
    assert overton[1]["explanation"][1:] == ["Rest restores.", "Tired people err."]
    vk = json.loads((tmp_path / f"{VK}.json").read_text())
    assert [(i["id"], i["label_text"], i["label"]) for i in vk] == [
        (0, "Supports", "A"), (1, "Either", "C"), (2, "Opposes", "B"), (3, "Supports", "A"),
        (4, "Supports", "A"),
    ]  # fmt: skip
    docs = build_docs("vk", vk, {"input": VK, "preset": "paper"}, VK)
    assert [doc["target"] for doc in docs] == [0, 2, 1, 0, 0]
    docs = build_docs("overton", overton, {"input": OVERTON, "preset": "paper"}, OVERTON)
    assert [len(doc["values"]) for doc in docs] == [2, 3]
    assert docs[1]["query"].endswith("Napping at work..")


def test_one_file_and_the_folder_give_the_same(tmp_path: Path) -> None:
    source = dataset(tmp_path)
    one = write(tmp_path / "mine [1].csv", FULL, ROWS)
    assert valueprism.overton(one) == valueprism.overton(source)
    assert valueprism.vk(one) == valueprism.vk(source)
    (train,) = valueprism.overton(source, split="train").items
    assert train["situation"] == ELSEWHERE[0]


def test_dropped_pairs_are_counted_by_reason_and_no_id_moves(tmp_path: Path) -> None:
    rows = [
        ("", "Value", "Lost", "No situation.", "Supports"),
        (BIKE, "Value", " ", "No value.", "Supports"),
        (BIKE, "Value", "Trust", "", "Opposes"),
        (BIKE, "Value", "Care", "Bikes break.", "Neutral"),
        *ROWS[2:],
    ]
    source = dataset(tmp_path, rows)
    vk = valueprism.vk(source)
    assert vk.dropped == {
        valueprism.NO_SITUATION: 1,
        valueprism.NO_VALUE: 1,
        valueprism.UNKNOWN_VALENCE: 1,
    }
    assert [item["id"] for item in vk.items] == [2, 4, 5, 6]
    overton = valueprism.overton(source, minimum=2)
    assert overton.dropped == {
        valueprism.NO_SITUATION: 1,
        valueprism.NO_VALUE: 1,
        valueprism.NO_EXPLANATION: 1,
        "situations with fewer than 2 explained value(s)": 1,
    }
    assert [(item["id"], len(item["vrd"])) for item in overton.items] == [(1, 3)]


def test_the_card_tells_what_was_left_out_and_what_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, (NAP, "Value", "Health", "", "Opposes")]
    source = str(dataset(tmp_path / "original", rows))
    for task in ("overton", "vk"):
        assert main(["data", "build", task, "--source", source, "--output", str(tmp_path)]) == 0
    capsys.readouterr()
    arguments = ["data", "card", "--data", str(tmp_path), "--json", "--task"]
    assert main([*arguments, "overton"]) == 0
    (card,) = json.loads(capsys.readouterr().out)
    assert (card["items"], card["pairs"], card["values"]) == (2, 5, {"2": 1, "3": 1})
    assert (card["repeated_pairs"], card["empty_explanations"]) == (1, 0)
    assert card["left_out"] == {valueprism.NO_EXPLANATION: 1}
    assert main([*arguments, "vk"]) == 0
    (card,) = json.loads(capsys.readouterr().out)
    assert card["labels"] == {"Support": 3, "Oppose": 2, "Either": 1}
    assert (card["repeated_pairs"], card["contradictory_pairs"]) == (2, 1)
    assert (card["left_out"], card["built_from"]) == ({}, source)
    # the record is of the file it was written with, not of its name
    file = tmp_path / f"{VK}.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    assert main([*arguments, "vk"]) == 0
    assert "left_out" not in json.loads(capsys.readouterr().out)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("situation,value\nA,B\n", "no column text, valence.*it has situation, value"),
        ("situation,text,valence\nA,B\n", "row 1: not as many cells"),
        ("situation,text,valence\nA,B,Supports,D\n", "row 1: not as many cells"),
        ("situation,text,valence\n", "no rows"),
        ("", "no rows"),
        ("situation,text,valence\nA,\xff,Supports\n", "cannot be read as CSV"),
    ],
)
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(PluralismError, match=message):
        valueprism.vk(file)


def test_sources_and_splits_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PluralismError, match="no such file or folder"):
        valueprism.vk(tmp_path / "absent")
    with pytest.raises(PluralismError, match=r"has no valence/\*test.csv"):
        valueprism.vk(tmp_path)
    source = dataset(tmp_path)
    with pytest.raises(PluralismError, match=r"has no valence/\*val.csv"):
        valueprism.vk(source, split="val")
    with pytest.raises(PluralismError, match="not one of train, val, test"):
        valueprism.vk(source, split="validation")
    with pytest.raises(PluralismError, match="has no splits"):
        valueprism.vk(source / "full" / "full.csv", split="test")
    with pytest.raises(PluralismError, match="give 1 or more"):
        valueprism.overton(source, minimum=0)
    (source / "full" / "full.csv").unlink()
    with pytest.raises(PluralismError, match=r"has no full/\*.csv"):
        valueprism.overton(source)


def test_without_a_source_the_hub_is_asked_for_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def download(name: str, **given: Any) -> str:
        asked.append({"name": name, **given})
        return str(dataset(tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(valueprism.overton().items) == 2
    assert len(valueprism.vk(split="train").items) == 1
    common = {
        "name": "allenai/ValuePrism",
        "repo_type": "dataset",
        "revision": valueprism.REVISION,
    }
    assert asked == [
        {**common, "allow_patterns": ["valence/*test.csv", "full/*.csv"]},
        {**common, "allow_patterns": ["valence/*train.csv"]},
    ]


@pytest.mark.parametrize(
    "failure",
    [
        GatedRepoError("401 Client Error.\nCannot access gated repo", response=Mock()),
        LocalEntryNotFoundError("outgoing traffic has been disabled"),
    ],
    ids=["gated", "offline"],
)
def test_no_access_to_the_hub_names_the_ways_out(
    failure: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=failure))
    assert main(["data", "build", "vk", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for part in (type(failure).__name__, "accept its terms on", "datasets/allenai/ValuePrism"):
        assert part in said
    assert "`hf auth login`" in said
    assert "--source FOLDER or --source FILE.csv" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moralchoice"], "moralchoice needs --source"),
        (["opinionqa", "--source", "x", "--split", "test"], "--split concerns"),
        (["vk", "--source", "x", "--minimum", "2"], "--minimum concerns"),
        (["vk", "--source", "x", "--unweighted"], "--unweighted concerns"),
    ],
)
def test_options_of_another_task_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "build", *arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
