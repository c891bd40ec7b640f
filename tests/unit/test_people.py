"""The human study's page: blind, inert, and the same for the same seed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import judge
from pluralism_eval.people import study
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs


def responses(path: Path, texts: Sequence[Any], **changed: Any) -> Path:
    """A file of finished answers; item i is about situation i."""
    items = [
        {"id": i, "situation": f"situation {i}", "output": text, **changed}
        for i, text in enumerate(texts)
    ]
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def make(folder: Path, n: int = 10, **how: Any) -> study.Study:
    run = responses(folder / "secretsystem.json", [f"own {i}" for i in range(n)])
    base = responses(folder / "otherthing.json", [f"base {i}" for i in range(n)])
    return study.make_study(run, base, **how)


def content(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    text = re.findall(r'<script type="application/json" id="study">(.*?)</script>', page)
    assert len(text) == 1
    found: dict[str, Any] = json.loads(text[0])
    return found


def test_the_page_is_blind(tmp_path: Path) -> None:
    made = make(tmp_path)
    for word in ("secretsystem", "otherthing", str(tmp_path), '"run"', '"baseline"', '"doc'):
        assert word not in made.page
    shown, keyed = content(made.page)["pairs"], {p["pair"]: p for p in made.key["pairs"]}
    for pair in shown:
        assert set(pair) == {"id", "situation", "responses"}
        texts = {r["id"]: r["text"] for r in pair["responses"]}
        entry = keyed[pair["id"]]
        assert texts[entry["run"]] == f"own {entry['id']}"
        assert texts[entry["baseline"]] == f"base {entry['id']}"
        assert pair["situation"] == f"situation {entry['id']}"
    ids = [p[k] for p in made.key["pairs"] for k in ("pair", "run", "baseline")]
    assert len(set(ids)) == 30
    big = make(tmp_path, 400, pairs=400)
    first = {p["id"]: p["responses"][0]["id"] for p in content(big.page)["pairs"]}
    wins = sum(first[p["pair"]] == p["run"] for p in big.key["pairs"])
    assert 150 < wins < 250  # the place in the page says nothing either
    assert [int(p["id"]) for p in big.key["pairs"]] != sorted(
        int(p["id"]) for p in big.key["pairs"]
    )


def test_the_ids_depend_on_responses_that_the_page_does_not_show(tmp_path: Path) -> None:
    first = make(tmp_path, 20, pairs=5)
    shown = {int(p["id"]) for p in first.key["pairs"]}
    hidden = ({*range(20)} - shown).pop()
    run = responses(
        tmp_path / "secretsystem.json", [f"own {i}" * (1 + (i == hidden)) for i in range(20)]
    )
    other = study.make_study(run, tmp_path / "otherthing.json", 5)
    assert {int(p["id"]) for p in other.key["pairs"]} == shown
    assert not {p["run"] for p in other.key["pairs"]} & {p["run"] for p in first.key["pairs"]}


def test_a_seed_makes_the_same_study_again(tmp_path: Path) -> None:
    made = make(tmp_path, 30, pairs=7, seed=3)
    again = make(tmp_path, 30, pairs=7, seed=3)
    assert (made.page, made.key, made.id) == (again.page, again.key, again.id)
    drawn = [
        frozenset(p["id"] for p in make(tmp_path, 30, pairs=7, seed=s).key["pairs"])
        for s in range(9)
    ]
    assert len(set(drawn)) == 9
    assert {len(d) for d in drawn} == {7}
    assert (made.n_common, made.left_out) == (30, 0)
    assert content(made.page)["study"] == made.id == made.key["study"]


HOSTILE = (
    "</script><img src=x onerror=alert(1)>{{policy}} {{x}} <!--<script> \u2028 &lt; \\u003c \ud800"
)


def test_markup_in_a_response_stays_text(tmp_path: Path) -> None:
    run = responses(tmp_path / "a.json", [HOSTILE, " \n "])
    base = responses(tmp_path / "b.json", ["fine", "\n\nalso fine\n"])
    made = study.make_study(run, base, title="<i>{{study}}</i>")
    plain = make(tmp_path, 2)
    for sign in ("<script", "</script", "<img", "<!--", "\u2028"):
        assert made.page.count(sign) == plain.page.count(sign)
    texts = {r["text"] for p in content(made.page)["pairs"] for r in p["responses"]}
    assert texts == {HOSTILE.replace("\ud800", "?"), "fine", "", "also fine"}
    assert "<title>&lt;i&gt;{{study}}&lt;/i&gt;</title>" in made.page
    assert made.peculiar == {"the run's response is empty": 1}


def test_the_policy_allows_the_script_of_the_page_and_nothing_else(tmp_path: Path) -> None:
    page = make(tmp_path).page
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', page)[0]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    assert all(rules[k].startswith("'sha256-") for k in ("script-src", "style-src"))
    assert "unsafe" not in policy
    assert re.findall(r"https?://", page) == []
    assert study.QUESTION in page
    assert "{{" not in page


def test_the_pairs_are_the_first_of_the_judges(tmp_path: Path) -> None:
    keys = [(str(i), f"situation {i}") for i in range(50)]
    judged = [key[0] for key in judge.seeded_sample(keys, lambda key: key, 20, judge.SEED)]
    assert {p["id"] for p in make(tmp_path, 50, pairs=8).key["pairs"]} == set(judged[:8])


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    base = responses(tmp_path / "base.json", ["x", "y", "z"])
    folder = tmp_path / "run" / "m"
    folder.mkdir(parents=True)
    (folder / "results_2026.json").write_text(json.dumps({"results": {}, "config": {"model": "m"}}))
    docs = [{"id": str(i), "situation": f"situation {i}"} for i in range(2)]
    rows = [{"doc_id": i, "doc": d, "resps": [[f" own {i}\n"]]} for i, d in enumerate(docs)]
    samples = folder / "samples_pluralism_overton_nli_2026.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = study.make_study(tmp_path / "run", base)
    assert (made.key["run"]["name"], made.key["baseline"]["name"]) == ("m", "base")
    assert (made.n_common, made.left_out, len(made.key["pairs"])) == (2, 1, 2)
    texts = {r["text"] for p in content(made.page)["pairs"] for r in p["responses"]}
    assert texts == {"own 0", "own 1", "x", "y"}


def test_what_cannot_be_a_study_is_an_error(tmp_path: Path) -> None:
    one = responses(tmp_path / "a.json", ["x"])
    with pytest.raises(PluralismError, match="no situation in common"):
        study.make_study(one, responses(tmp_path / "b.json", ["y"], id=7))
    with pytest.raises(PluralismError, match="no situation in common"):
        study.make_study(one, responses(tmp_path / "c.json", ["y"], situation="elsewhere"))
    with pytest.raises(PluralismError, match="--pairs 0"):
        study.make_study(one, one, 0)
    with pytest.raises(PluralismError, match="output None is not text"):
        study.make_study(one, responses(tmp_path / "d.json", [None]))
    twin = study.make_study(one, one)
    assert [twin.key[k]["name"] for k in ("run", "baseline")] == [f"a ({one})"] * 2
    assert twin.peculiar == {"both responses are the same": 1}


def test_the_key_of_another_study_is_not_overwritten(tmp_path: Path) -> None:
    page, small = tmp_path / "study.html", make(tmp_path, 3)
    key = study.write_study(small, page)
    assert key.name == "study.key.json"
    assert study.write_study(small, page) == key  # the same once more does no harm
    with pytest.raises(PluralismError, match="key of another study"):
        study.write_study(make(tmp_path, 4), page)
    assert json.loads(key.read_text()) == small.key
    assert page.read_text() == small.page
    with pytest.raises(PluralismError, match=r"ending in \.html"):
        study.write_study(small, tmp_path / "study.json")
    with pytest.raises(PluralismError, match="cannot be written"):
        study.write_study(small, page / "below.html")


@needs_authors_inputs
def test_a_hundred_real_situations(tmp_path: Path) -> None:
    items = json.loads((AUTHORS_INPUTS / "overton_test_valuekaleidoscope_small.json").read_text())
    for name in ("first", "second"):
        filled = [item | {"output": f"{name}: {item['explanation'][0]}"} for item in items]
        (tmp_path / f"{name}.json").write_text(json.dumps(filled))
    made = study.make_study(tmp_path / "first.json", tmp_path / "second.json")
    assert (len(made.key["pairs"]), made.n_common) == (100, len(items))
    assert len(content(made.page)["pairs"]) == 100
