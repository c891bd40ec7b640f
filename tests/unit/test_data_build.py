"""``data build`` on damaged originals: one clear line with row and column, or a dropped item with its reason."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pluralism_eval.cli import main
from pluralism_eval.data import build
from pluralism_eval.data.docs import build_docs
from pluralism_eval.errors import PluralismError

COMMON = {"input": "x", "preset": "paper"}
PEOPLE: list[list[Any]] = [["Yes", "Male", 3.0], ["No", "Male", 1.0], ["Yes", "Female", 2.0]]
HEADER = ["Q1", "SEX", "WEIGHT_W26"]
INFO: list[list[Any]] = [["Q1", "Do you?", "['Yes', 'No', 'Refused']"]]


def text_of(rows: list[list[Any]], delimiter: str = ",") -> str:
    lines: list[str] = []

    class Lines:
        write = staticmethod(lines.append)

    csv.writer(Lines(), delimiter=delimiter, lineterminator="\n").writerows(rows)
    return "".join(lines)


def wave(folder: Path, responses: str | bytes | None = None, info: list[list[Any]] = INFO) -> Path:
    """A bundle of one wave."""
    target = folder / "human_resp" / "American_Trends_Panel_W26"
    target.mkdir(parents=True, exist_ok=True)
    (target / "info.csv").write_text(text_of([["key", "question", "references"], *info]))
    given = text_of([HEADER, *PEOPLE]) if responses is None else responses
    content = given if isinstance(given, bytes) else given.encode()
    (target / "responses.csv").write_bytes(content)
    return folder


def loads(built: build.Built) -> list[dict[str, Any]]:
    """The docs of what was built: it is what a run would load, and every gold is a distribution."""
    docs = build_docs(built.task, json.loads(json.dumps(built.items, allow_nan=False)), COMMON, "x")
    assert all(sum(doc["gold"]) == pytest.approx(1) and min(doc["gold"]) >= 0 for doc in docs)
    return docs


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "-1", "", " ", "1,5", "x", "1e308", "1e999"])  # fmt: skip
def test_a_weight_that_is_none_is_named(tmp_path: Path, weight: str) -> None:
    people = [*PEOPLE, ["No", "Female", weight]]
    source = wave(tmp_path, text_of([HEADER, *people]))
    with pytest.raises(PluralismError) as raised:
        build.opinionqa(source)
    assert f"row 4, column 'WEIGHT_W26': {weight!r}" in str(raised.value)
    assert "--unweighted" in str(raised.value)
    assert len(loads(build.opinionqa(source, weighted=False))) == 2


@pytest.mark.parametrize(
    ("responses", "parts"),
    [
        (text_of([HEADER, *PEOPLE], ";"), ["separated by ';'"]),
        (text_of([HEADER, *PEOPLE], "\t"), ["separated by '\\t'"]),
        (text_of([HEADER, *PEOPLE])[:-5], ["row 3", "column 'WEIGHT_W26'"]),
        (text_of([HEADER, *PEOPLE])[:-12], ["row 3", "column 'SEX'"]),
        (text_of([HEADER, ["Yes", "Male", 1, 2]]), ["row 1", "behind the last column"]),
        (text_of([HEADER, *PEOPLE]) + '"Yes,Male,1\n', ["row 4", "unexpected end of data"]),
        (text_of([HEADER, *PEOPLE]) + '"Yes" no,Male,1\n', ["row 4", "expected"]),
        (text_of([HEADER]), ["no rows"]),
        ("", ["no rows"]),
        (text_of([["Q1", "Q1", *HEADER[1:]], ["a", "b", "c", 1]]), ["'Q1' more than once"]),
        (text_of([["Q1", "WEIGHT_W26"], ["Yes", 1]]), ["none of the columns POLPARTY"]),
        (text_of([["Q1", "SEX"], ["Yes", "Male"]]), ["no column WEIGHT_W26", "--unweighted"]),
        (text_of([HEADER, *PEOPLE]).encode("utf-16"), ["not UTF-8", "line 1"]),
        (text_of([HEADER, ["Yes", "M\0", 1]]), ["line 2", "zero byte"]),
        (text_of([HEADER, *PEOPLE]).encode() + b"Yes,\xff,1\n", ["not UTF-8", "line 5"]),
    ],
)  # fmt: skip
def test_a_damaged_table_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], responses: str | bytes, parts: list[str]
) -> None:
    source = wave(tmp_path, responses)
    arguments = ["data", "build", "opinionqa", "--source", str(source), "--output", str(tmp_path)]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "responses.csv" in said
    assert all(part in said for part in parts), said
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (["Q1", "Do you?", "['Yes', 'Yes', 'No']"], build.TWICE),
        (["Q1", "Do you?", "['Yes', 'Yes ', 'No']"], build.TWICE),
        (["Q1", "Do you?", "['Yes', 'No'"], "options cannot be read"),
        (["Q1", "Do you?", "['Yes', None]"], "options cannot be read"),
        (["Q1", "Do you?", "'Yes'"], "options cannot be read"),
        (["Q1", "Do you?", "(" * 5000], "options cannot be read"),
        (["Q1", "Do you?", "['Yes', ' ']"], "an option is empty"),
        (["Q1", " ", "['Yes', 'No']"], "the question is empty"),
        (["Q9", "Do you?", "['Yes', 'No']"], "responses.csv has no column of the question"),
        (["Q1", "Do you?", "['Yes', 'Refused']"], "not 2 to 5 options"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_used_is_dropped_with_its_reason(
    tmp_path: Path, info: list[str], reason: str
) -> None:
    built = build.opinionqa(wave(tmp_path, info=[*INFO, info]))
    assert built.dropped[reason] == 1
    assert [doc["gold"] for doc in loads(built)] == [[0.75, 0.25], [1.0, 0.0]]


def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path: Path) -> None:
    plain = loads(build.opinionqa(wave(tmp_path / "a")))
    content = text_of([HEADER, *PEOPLE]).replace("\n", "\r\n").encode("utf-8-sig")
    assert loads(build.opinionqa(wave(tmp_path / "b", content))) == plain


def test_a_last_line_that_may_break_off_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = wave(tmp_path, text_of([HEADER, *PEOPLE])[:-1])
    assert len(build.opinionqa(source).items) == 2
    assert "responses.csv" in caplog.text
    assert "row 3" in caplog.text


def test_what_is_no_option_is_counted_and_missing_categories_are_said(tmp_path: Path) -> None:
    people = [*PEOPLE, ["Ye", "Male", 9.0], ["", "Male", 9.0], ["Refused", "Male", 9.0], ["No", "Refused", 9.0]]  # fmt: skip
    built = build.opinionqa(wave(tmp_path, text_of([HEADER, *people])))
    assert built.noted == {"answers that are none of the question's options": 1}
    assert built.dropped["responses.csv has no column POLPARTY"] == 1
    assert [(i["gold_distribution"], i["respondents"], i["refused"]) for i in built.items] == [
        ([0.75, 0.25], 2, 1), ([1.0, 0.0], 1, 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("selections", "options", "reason"),
    [
        ("{'Peru': None}", "['a', 'b']", "as many shares as options are needed"),
        ("{'Peru': 'ab'}", "['a', 'b']", "as many shares as options are needed"),
        ("{'Peru': [None, 1]}", "['a', 'b']", "shares are no distribution"),
        ("{'Peru': [1e308, 1e308]}", "['a', 'b']", "shares are no distribution"),
        ("{'Peru': [1e999, 1]}", "['a', 'b']", "shares are no distribution"),
        ("{'Peru': [-0.1, 1]}", "['a', 'b']", "shares are no distribution"),
        ("{'Peru': [True, 1]}", "['a', 'b']", "shares are no distribution"),
        ("{'Peru': [0, 0]}", "['a', 'b']", "shares are no distribution"),
        ("{'Peru': [0.5, 0.5]}", "['a', 'a']", build.TWICE),
        ("{'Peru': [0.5, 0.5]}", "['a', '']", "an option is empty"),
        ("{' ': [0.5, 0.5]}", "['a', 'b']", "attribute … must be text that is not empty"),
        ("{'Peru': [0.5, nan]}", "['a', 'b']", "options or selections cannot be read"),
        ("[0.5, 0.5]", "['a', 'b']", "options or selections cannot be read"),
        ("{'Peru': [0.5, 0.5]", "['a', 'b']", "options or selections cannot be read"),
        ("{'Peru': [0.5, 0.5]}", "'ab'", "options or selections cannot be read"),
        ("{'Peru': [0.5, 0.5]}", "{'a': 1, 'b': 2}", "options or selections cannot be read"),
    ],
)  # fmt: skip
def test_shares_that_are_none_are_dropped_with_their_reason(
    tmp_path: Path, selections: str, options: str, reason: str
) -> None:
    file = tmp_path / "data.csv"
    good = ["Good?", "{'Japan': [0.2, 0.6], 'Chad': [5e-324, 0]}", "['a', 'b']"]
    file.write_text(text_of([["question", "selections", "options"], good, ["Q?", selections, options]]))  # fmt: skip
    built = build.globalopinionqa(file)
    assert built.dropped == {reason: 1}
    golds = [doc["gold"] for doc in loads(built)]
    assert golds == [pytest.approx([0.25, 0.75]), [1.0, 0.0]]


def test_every_builder_names_what_its_file_lacks(tmp_path: Path) -> None:
    (tmp_path / "low_ambiguity.csv").write_text("scenario_id,context,action1\nL1,c,a\n")
    with pytest.raises(PluralismError, match=r"no column action2.*it has scenario_id"):
        build.moralchoice(tmp_path)
    (tmp_path / "low_ambiguity.csv").write_text("scenario_id,context,action1,action2\nL1,c,a\n")
    with pytest.raises(PluralismError, match=r"row 1: not as many cells.*before column 'action2'"):
        build.moralchoice(tmp_path)
    (tmp_path / "data.csv").write_text("question;selections;options\n")
    with pytest.raises(PluralismError, match="separated by ';'"):
        build.globalopinionqa(tmp_path / "data.csv")
    with pytest.raises(PluralismError, match="cannot be read as CSV"):
        build.globalopinionqa(tmp_path / "nothing.csv")


def test_a_scenario_without_an_id_is_dropped(tmp_path: Path) -> None:
    for name in ("low", "high"):
        (tmp_path / f"{name}_ambiguity.csv").write_text(
            "scenario_id,context,action1,action2\nX,c,a,b\n,c,a,b\nY,c,a,a\n"
        )
    built = build.moralchoice(tmp_path)
    assert built.dropped == {"id … must be text that is not empty": 2}
    assert built.noted == {"scenarios whose two actions are the same": 2}
    assert len(loads(built)) == 4


def test_counts_are_those_of_a_loop_over_people_and_take_seconds_not_hours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    options, n, questions = ["A, b", "C", "D", "Refused"], 2000, 12
    keys = [f"Q{i}" for i in range(questions)]
    header = [*keys, "SEX", "RELIG", "WEIGHT_W26"]
    answers = rng.choice([*options, ""], (n, questions)).tolist()
    sexes = rng.choice(["Male", "Female"], n).tolist()
    creeds = rng.choice([*(f"R{i}" for i in range(9)), "Refused", ""], n).tolist()
    weights = rng.random(n).round(6).tolist()
    people = [[*a, s, c, w] for a, s, c, w in zip(answers, sexes, creeds, weights, strict=True)]
    source = wave(tmp_path, text_of([header, *people]), [[k, f"{k}?", str(options)] for k in keys])
    started = time.process_time()
    built = build.opinionqa(source)
    assert time.process_time() - started < 5
    assert len(built.items) == questions * (2 + 9)
    for item in built.items[::7]:
        category, _, value = item["attribute"].partition("_")
        own = {"SEX": sexes, "RELIG": creeds}[category]
        place = keys.index(item["question"].split("?")[0].removeprefix("Question: "))
        totals = dict.fromkeys(options, 0.0)
        for i in range(n):
            if own[i] == value and answers[i][place]:
                totals[answers[i][place]] += weights[i]
        shares = np.array([totals[o] for o in options[:-1]])
        assert item["gold_distribution"] == pytest.approx(shares / shares.sum())


def test_other_groups_mean_takes_time_by_the_number_of_docs() -> None:
    rng = np.random.default_rng(0)
    golds = rng.dirichlet(np.ones(4), 6000).tolist()
    items = [
        {"question": "Q?", "options": list("abcd"), "attribute": f"Country {i % 5900}", "gold_distribution": g, "id": i}
        for i, g in enumerate(golds)
    ]  # fmt: skip
    started = time.process_time()
    docs = build_docs("globalopinionqa", items, COMMON, "x")
    assert time.process_time() - started < 5  # 80 s where every doc looked at every other
    for i in (0, 50, 3000, 5899, 5999):
        rest = [g for j, g in enumerate(golds) if j % 5900 != i % 5900]
        assert docs[i]["others"] == pytest.approx(np.mean(rest, axis=0).tolist(), abs=1e-14)
    two = build_docs("globalopinionqa", [{**items[0], "gold_distribution": [1, 0, 0, 0]}, {**items[1], "gold_distribution": [0, 1, 0, 0]}], COMMON, "x")  # fmt: skip
    assert [d["others"] for d in two] == [[0, 1, 0, 0], [1, 0, 0, 0]]
