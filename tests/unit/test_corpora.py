"""Corpora: what is read, what is refused, and CultureBank by continent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from pluralism_eval import corpora
from pluralism_eval.corpora import read_corpus
from pluralism_eval.errors import PluralismError

TEXTS = [f"Piece number {i}." for i in range(12)]


def test_every_sixth_different_piece_is_held_out(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps({"body": t}) for t in [*TEXTS, TEXTS[0], " " + TEXTS[1]]))
    corpus = read_corpus(str(path), column="body")
    assert corpus.duplicates == 2
    assert [piece.text for piece in corpus.held_out] == [TEXTS[5], TEXTS[11]]
    assert sorted(p.text for p in corpus.training + corpus.held_out) == sorted(TEXTS)


def test_text_folders_and_json_lines_give_the_same_corpus(tmp_path: Path) -> None:
    text, lines, folder = tmp_path / "c.txt", tmp_path / "c.jsonl", tmp_path / "folder"
    text.write_text("\n \n".join(TEXTS))
    lines.write_text("\n".join(json.dumps({"text": t}) for t in TEXTS))
    folder.mkdir()
    for i, piece in enumerate(TEXTS):
        (folder / f"{i:02}.txt").write_text(piece)
    (folder / "empty.txt").write_text("")
    found = [read_corpus(str(path)) for path in (text, lines, folder)]
    assert len({corpus.sha256 for corpus in found}) == 1
    assert found[2].left_out == {"empty files": 1}


def test_a_dataset(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"text": TEXTS})
    folder = tmp_path / "data"
    folder.mkdir()
    data.to_parquet(str(folder / "train.parquet"))
    loaded = corpora._dataset(str(folder), "train")
    assert corpora._pieces("d", loaded, "text") == corpora._plain(TEXTS)
    with pytest.raises(PluralismError, match="no dataset with split 'other'"):
        corpora._dataset(str(folder), "other")


def write(content: bytes, name: str = "c.jsonl") -> Callable[[Path], str]:
    def make(tmp_path: Path) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (write(b""), "has 0 different pieces"),
        (write(b"", "c.txt"), "has 0 different pieces"),
        (write(b"one long document", "c.txt"), "has 1 different pieces.*Part it by blank lines"),
        (write(b"the same\n\n" * 40, "c.txt"), r"has 1 different pieces \(39 duplicates dropped"),
        (write(b"\0\1\2", "c.txt"), "is binary"),
        (write(b"\xff\xfe", "c.txt"), "is not UTF-8"),
        (write(b"{"), "line 1 is not JSON"),
        (write(b'{"body": "x"}'), "has no column 'text'.*it has: body.*set --column"),
        (write(b'"x"'), "row 1 is str, not a table row; set --column"),
        (write(b'{"text": 5}'), "column 'text' is 5, not text"),
        (write(b'{"text": " "}'), "column 'text' is ' ', not text"),
        (lambda _: "./missing.jsonl", "no such file"),
        (lambda tmp_path: str(tmp_path), "has no .txt file"),
        (lambda _: "culturebank:mars", "the continents are asia"),
        (lambda _: "nobody/nothing", "is no file here, and no dataset"),
    ],
)
def test_bad_corpora(make: Callable[[Path], str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(PluralismError, match=reason):
        read_corpus(make(tmp_path))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("Americans", {"northamerica"}),
        ("South American", {"southamerica"}),
        ("South Africans", {"africa"}),
        ("Asian Americans", {"asia", "northamerica"}),
        ("people from the Philippines", {"asia"}),
        ("British and Irish people", {"europe"}),
        ("Nigerian", {"africa"}),
        ("Papua New Guineans", {"oceania"}),
        ("vegans", set()),
        ("discussions in Indiana", set()),
    ],
)
def test_continents(group: str, expected: set[str]) -> None:
    assert corpora.continents_of(group) == expected


def test_culturebank_takes_one_continent_and_counts_the_rest() -> None:
    def load(_: str, split: str) -> list[dict[str, Any]]:
        groups = {
            "tiktok": ["Japanese", "vegans"],
            "reddit": ["Koreans", "Asian American", "French"],
        }
        return [{"cultural group": g, "eval_whole_desc": f"About {g}."} for g in groups[split]]

    texts, left_out, licence = corpora._culturebank("asia", load)
    assert texts == ["About Japanese.", "About Koreans."]
    assert left_out == {
        "rows whose cultural group has no continent": 1,
        "rows of several continents": 1,
    }
    assert licence == "MIT"
