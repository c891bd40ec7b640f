"""Exports of the annotation page read back: rates, agreement and errors that are known."""

from __future__ import annotations

import json
import math
import random
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from pluralism_eval.cli import main
from pluralism_eval.errors import PluralismError
from pluralism_eval.people import agreement, exports, study
from pluralism_eval.people.exports import OUTCOMES
from tests.unit.test_people import make, responses


def answer(pair: dict[str, Any], outcome: str, run_first: bool, seconds: float) -> dict[str, Any]:
    shown = [pair["run"], pair["baseline"]] if run_first else [pair["baseline"], pair["run"]]
    choice = "tie" if outcome == "tie" else ("second", "first")[(outcome == "win") == run_first]
    return {"pair": pair["pair"], "shown": shown, "choice": choice, "seconds": seconds}


def export(
    path: Path,
    key: dict[str, Any],
    outcomes: Sequence[str | None],
    **more: Any,
) -> Path:
    """An annotator's file with these outcomes for the pairs in the key's order; None is open."""
    sides = random.Random(str(path.stem))
    rows = [
        answer(pair, outcome, sides.random() < 0.5, 1.5 * i)
        for i, (pair, outcome) in enumerate(zip(key["pairs"], outcomes, strict=True))
        if outcome
    ]
    file = {"format": exports.FORMAT, "study": key["study"], "annotator": path.stem}
    path.write_text(json.dumps(file | {"pairs": len(key["pairs"]), "answers": rows} | more))
    return path


def written(folder: Path, n: int = 10) -> tuple[Path, dict[str, Any]]:
    path = study.write_study(make(folder, n), folder / "study.html")
    return path, json.loads(path.read_text())


def report(capsys: pytest.CaptureFixture[str], *given: Path | str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["annotate", "read", *map(str, given), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_rates_of_constructed_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, content = written(tmp_path, 5)
    votes = {
        "ann": ["win", "win", "tie", "lose", None],
        "bob": ["win", "lose", "tie", "lose", "win"],
        "cy": ["win", "tie", "lose", None, None],
    }
    files = [export(tmp_path / f"{name}.json", content, row) for name, row in votes.items()]
    found = report(capsys, key, *files)
    assert (found["pairs"], found["run"], found["baseline"]) == (5, "secretsystem", "otherthing")
    for name, row in votes.items():
        own, given = found["annotators"][name], [v for v in row if v]
        assert (own["answered"], own["unanswered"]) == (len(given), 5 - len(given))
        for outcome in OUTCOMES:
            assert own[outcome] == pytest.approx(given.count(outcome) / len(given))
        assert own["median_seconds"] == np.median([1.5 * i for i, v in enumerate(row) if v])
    every = [v for row in votes.values() for v in row if v]
    for outcome in OUTCOMES:
        estimate = found["mean"][outcome]
        assert estimate["value"] == pytest.approx(every.count(outcome) / 12)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["n_pairs"] == 5
    # pair 1: one vote each, undecided; pair 2: two ties; 3: two of two; 4: one of one
    majority = ["win", "tie", "tie", "lose", "win"]
    assert [v["outcome"] for v in found["votes"]] == majority
    assert [v["undecided"] for v in found["votes"]] == [False, True, False, False, False]
    assert [v["id"] for v in found["votes"]] == [p["id"] for p in content["pairs"]]
    assert found["majority"]["win"]["value"] == pytest.approx(0.4)
    assert (found["undecided"], found["unanswered"]) == (1, 0)
    assert found["fleiss_kappa"]["n_pairs"] == 3


def test_the_interval_is_over_whole_pairs(tmp_path: Path) -> None:
    key, content = written(tmp_path, 40)
    votes = ["win"] * 20 + ["lose"] * 20
    files = [export(tmp_path / f"a{i}.json", content, votes) for i in range(6)]
    one, six = (
        agreement.mean_rates(exports.read_exports(part, exports.read_key(key)))["win"]
        for part in (files[:1], files)
    )
    # six people who always agree know no more than one: sqrt(.5 * .5 / 40) * 1.96 = 0.155
    assert (one.low, one.high) == (six.low, six.high)
    assert six.high - six.low == pytest.approx(2 * 0.155, abs=0.03)


def test_sides_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, content = written(tmp_path, 40)
    always_first = [
        {"pair": p["pair"], "shown": [p["run"], p["baseline"]][:: 1 if i % 4 else -1],
         "choice": "first" if i < 36 else "tie", "seconds": 2}
        for i, p in enumerate(content["pairs"])
    ]  # fmt: skip
    file = export(tmp_path / "a.json", content, [None] * 40, answers=always_first)
    sides = report(capsys, key, file)["sides"]
    assert (sides["first"], sides["decided"], sides["run_first"]) == (36, 36, 0.75)
    assert sides["p_value"] == pytest.approx(binomtest(36, 36).pvalue)
    ties = export(tmp_path / "ties.json", content, ["tie"] * 40)
    assert report(capsys, key, ties)["sides"]["p_value"] is None
    assert main(["annotate", "read", str(key), str(ties)]) == 0
    assert "every answer is a tie" in capsys.readouterr().out


def fleiss_by_definition(table: Sequence[Sequence[int]]) -> Fraction:
    """Fleiss (1971), eqs. 1-7, over counts [n_pairs][n_outcomes], in exact fractions."""
    n = sum(table[0])
    agreeing = [Fraction(sum(c * (c - 1) for c in row), n * (n - 1)) for row in table]
    observed = sum(agreeing) / len(table)
    shares = [Fraction(sum(column), n * len(table)) for column in zip(*table, strict=True)]
    chance = sum(s * s for s in shares)
    return (observed - chance) / (1 - chance)


def test_kappa_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # counts of (win, tie, lose) of 3 annotators on 4 pairs: agreement (1 + 1 + 1/3 + 0) / 4 = 7/12;
    # shares 6/12, 2/12, 4/12: by chance 14/36; kappa (7/12 - 14/36) / (22/36) = 7/22
    table = [[3, 0, 0], [0, 0, 3], [2, 1, 0], [1, 1, 1]]
    assert fleiss_by_definition(table) == Fraction(7, 22)
    rows = [[o for o, c in zip(OUTCOMES, row, strict=True) for _ in range(c)] for row in table]
    key, content = written(tmp_path, 4)
    files = [export(tmp_path / f"a{i}.json", content, [row[i] for row in rows]) for i in range(3)]
    kappa = report(capsys, key, *files)["fleiss_kappa"]
    assert kappa["value"] == pytest.approx(7 / 22)
    assert (kappa["n_pairs"], kappa["why_nan"]) == (4, "")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_kappa_is_statsmodels_on_random_tables(data: st.DataObject) -> None:
    n, m = data.draw(st.integers(2, 12)), data.draw(st.integers(2, 6))
    cell = st.sampled_from(OUTCOMES)
    votes = data.draw(st.lists(st.lists(cell, min_size=n, max_size=n), min_size=m, max_size=m))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key, content = written(folder, n)
        files = [export(folder / f"a{i}.json", content, row) for i, row in enumerate(votes)]
        read = exports.read_exports(files, exports.read_key(key))
        found = agreement.fleiss(read, exports.read_key(key))
    counts = [[column.count(o) for o in OUTCOMES] for column in zip(*votes, strict=True)]
    assert found.n_pairs == n
    if len({v for row in votes for v in row}) == 1:
        assert math.isnan(found.value)
        assert found.why_nan == "all answers are the same outcome"
        return
    assert found.value == pytest.approx(inter_rater.fleiss_kappa(np.array(counts)), abs=1e-12)
    assert found.value == pytest.approx(float(fleiss_by_definition(counts)), abs=1e-12)
    assert math.isnan(found.low) or found.low <= found.high


def test_no_kappa_has_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, content = written(tmp_path, 3)
    alone = export(tmp_path / "a.json", content, ["win", "tie", "lose"])
    found = report(capsys, key, alone)["fleiss_kappa"]
    assert (found["value"], found["why_nan"]) == (None, "it takes two annotators")
    apart = export(tmp_path / "b.json", content, ["win", None, None])
    found = report(capsys, key, alone, apart)["fleiss_kappa"]
    assert (found["n_pairs"], found["why_nan"]) == (1, "it takes two pairs that all answered")


def test_agreement_with_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, content = written(tmp_path, 8)
    people = ["win", "win", "tie", "lose", "lose", "win", "win", "win"]
    verdicts = ["win", "lose", "tie", "lose", "tie", "win", "unparsed"]  # the last: not judged
    pairs = [
        {"id": p["id"], "outcome": v} for p, v in zip(content["pairs"], verdicts, strict=False)
    ]
    verdict_file = tmp_path / "judge.json"
    verdict_file.write_text(json.dumps({"pairs": [*pairs, {"id": "elsewhere", "outcome": "win"}]}))
    file = export(tmp_path / "a.json", content, people)
    found = report(capsys, key, file, "--judge", str(verdict_file))["judge"]
    assert found["agreement"]["value"] == pytest.approx(4 / 6)
    assert found["kappa"]["value"] == pytest.approx(cohen_kappa_score(people[:6], verdicts[:6]))
    # by hand: chance (3·2 + 1·2 + 2·2) / 36 = 1/3, so (2/3 - 1/3) / (2/3)
    assert found["kappa"]["value"] == pytest.approx(0.5)
    assert (found["agreement"]["n_pairs"], found["unparsed"], found["missing"]) == (6, 1, 1)
    assert main(["annotate", "read", str(key), str(file), "--judge", str(verdict_file)]) == 0
    printed = capsys.readouterr().out
    assert "say the same: 0.6667" in printed
    assert "1 pairs with an unparsed verdict, 1 that the judge did not see" in printed
    verdict_file.write_text(json.dumps({"pairs": pairs[6:]}))
    found = report(capsys, key, file, "--judge", str(verdict_file))["judge"]
    assert (found["agreement"]["value"], found["kappa"]["why_nan"]) == (None, "no pair has both")
    verdict_file.write_text(json.dumps({"pairs": [pairs[0], pairs[5]]}))
    found = report(capsys, key, file, "--judge", str(verdict_file))["judge"]
    assert (found["agreement"]["value"], found["kappa"]["value"]) == (1.0, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as the judge's verdicts"),
        ('{"win": 1}', 'has no list "pairs"'),
        ('{"pairs": [{"id": "1", "outcome": "draw"}]}', "outcome 'draw' is none of"),
        ('{"pairs": [{"id": 1, "outcome": "win"}, {"id": "1", "outcome": "win"}]}', "occurs twice"),
        ('{"pairs": [{"outcome": "win"}]}', "field 'id' is missing"),
        ('{"pairs": [{"id": "1"}]}', "field 'outcome' is missing"),
        (
            '{"pairs": [], "run": {"name": "otherthing"}, "baseline": {"name": "secretsystem"}}',
            "judge them the same way round",
        ),
    ],
)
def test_a_judge_of_another_form(text: str, message: str, tmp_path: Path) -> None:
    key, _ = written(tmp_path, 2)
    (tmp_path / "j.json").write_text(text)
    with pytest.raises(PluralismError, match=message):
        exports.read_judge(tmp_path / "j.json", exports.read_key(key))


def test_every_bad_export_is_named_in_one_error(tmp_path: Path) -> None:
    key, content = written(tmp_path, 3)
    good = export(tmp_path / "good.json", content, ["win", "tie", None])
    rows = json.loads(good.read_text())["answers"]
    bad = {
        "foreign": {"study": "0123"},
        "form": {"format": "something"},
        "nobody": {"annotator": "  "},
        "silent": {"answers": []},
        "list": {"answers": "no"},
        "twice": {"answers": [rows[0], rows[0]]},
        "swapped": {"answers": [rows[0] | {"shown": rows[1]["shown"]}]},
        "unknown": {"answers": [rows[0] | {"pair": "ffff"}]},
        "choice": {"answers": [rows[0] | {"choice": "both"}]},
        "slow": {"answers": [rows[0] | {"seconds": float("nan")}]},
        "huge": {"answers": [rows[0] | {"seconds": 10**400}]},
        "short": {"answers": [{"pair": rows[0]["pair"]}]},
        "GOOD": {"annotator": "Good"},
    }
    reasons = {
        "foreign": "belongs to study '0123'", "form": '"format" is \'something\'',
        "nobody": "no annotator", "silent": "holds no answer", "list": "no list of answers",
        "twice": "is answered twice", "swapped": "are not the two responses",
        "unknown": "is not in the study", "choice": "choice 'both' is none of first, tie, second",
        "slow": "seconds nan must be", "huge": "too large", "short": "field 'shown' is missing",
        "GOOD": f"annotator 'Good' is in {good} already",
    }  # fmt: skip
    for name, change in bad.items():
        export(tmp_path / f"x{name}.json", content, ["win", "tie", None], **change)
    (tmp_path / "broken.json").write_text("{")
    files = [good, *(tmp_path / f"x{name}.json" for name in bad), tmp_path / "broken.json"]
    with pytest.raises(PluralismError) as caught:
        exports.read_exports(files, exports.read_key(key))
    text = str(caught.value)
    assert f"{len(bad) + 1} problem(s)" in text
    for name, reason in reasons.items():
        assert re.search(rf"x{name}\.json[^\n]*(\n[^\n]*)?{re.escape(reason)}", text), (name, text)
    assert "broken.json cannot be read" in text


def test_a_key_of_another_form(tmp_path: Path) -> None:
    key, content = written(tmp_path, 2)
    with pytest.raises(PluralismError, match=r"study\.html cannot be read as the key of a study"):
        exports.read_key(tmp_path / "study.html")
    file = export(tmp_path / "a.json", content, ["win", "win"])
    with pytest.raises(PluralismError, match="is no key of a study"):
        exports.read_key(file)
    del content["pairs"][0]["run"]
    key.write_text(json.dumps(content))
    with pytest.raises(PluralismError, match="field 'run' is missing"):
        exports.read_key(key)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = responses(tmp_path / "ours.json", ["x", "", "same", "only here"])
    base = responses(tmp_path / "theirs.json", ["y", "z", "same"])
    page = tmp_path / "out" / "study.html"
    given = ["annotate", "make", str(run), "--baseline", str(base), "--output", str(page)]
    assert main(given) == 0
    printed = capsys.readouterr().out
    for line in (
        "3 pairs of 3, ours against theirs",
        "fewer than the 100 asked for",
        "left out, 1 situations",
        "1 of 3 pairs: the run's response is empty",
        "1 of 3 pairs: both responses are the same",
    ):
        assert line in printed
    key = page.with_suffix(".key.json")
    content = json.loads(key.read_text())
    votes = [["win", "win", "lose"], ["win", "lose", None]]
    files = [export(tmp_path / f"{n}.json", content, v) for n, v in zip("ab", votes, strict=True)]
    assert main(["annotate", "read", str(key), *map(str, files)]) == 0
    printed = capsys.readouterr().out
    table = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("| ")]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in table}
    assert rows["a"][:4] == ["3", "0.667", "0.000", "0.333"]
    assert rows["b"][:4] == ["2", "0.500", "0.000", "0.500"]
    assert rows["all answers"][1].startswith("0.600 [")
    assert "1 annotator(s) left pairs unanswered" in printed
    assert "1 pairs have no outcome with the most votes" in printed
    assert "(the paper's five people, on 100 pairs of theirs: 0.4678)" in printed
    assert main(["annotate", "read", str(key), str(run)]) == 2
    assert "ours.json is no export" in capsys.readouterr().err


def test_outcomes_survive_any_sides(tmp_path: Path) -> None:
    key, content = written(tmp_path, 60)
    outcomes = [OUTCOMES[i % 3] for i in range(60)]
    file = export(tmp_path / "a.json", content, outcomes)
    read = exports.read_export(file, exports.read_key(key))
    assert [a.outcome for a in read.answers.values()] == outcomes
    kinds = Counter((a.outcome, a.run_first, a.first) for a in read.answers.values())
    assert set(kinds) == {
        ("win", True, True), ("win", False, False), ("lose", True, False), ("lose", False, True),
        ("tie", True, None), ("tie", False, None),
    }  # fmt: skip
