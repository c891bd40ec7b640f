"""Files that are no submissions."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import board, pages, samples, schema
from pluralism_eval.leaderboard.verify import verify, verify_each
from tests.unit.leaderboard.runs import FAST, MC, call, with_text, with_value


def _packed(content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / samples.file_name("moralchoice")).write_bytes(content)


def _link(folder: Path) -> None:
    file = folder / samples.file_name("moralchoice")
    file.rename(folder.parent / "elsewhere.gz")
    file.symlink_to(folder.parent / "elsewhere.gz")


BROKEN: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no object", with_text(lambda t: "[1]"), "must be a JSON object"),
    ("a number", with_text(lambda t: "1e400"), "must be a JSON object"),
    ("cut off", with_text(lambda t: t[:900]), "no JSON"),
    ("deep", with_text(lambda t: "[" * 200_000), "no JSON"),
    ("not UTF-8", lambda f: (f / schema.FILE).write_bytes(b"\xff\xfe{}"), "cannot be read"),
    ("NaN", with_value("value", "NaN"), "NaN is no JSON number"),
    ("Infinity", with_value("value", "-Infinity"), "-Infinity is no JSON number"),
    ("a key twice", with_text(lambda t: t.replace('"by"', '"name"', 1)), "'name' stands twice"),
    ("gone", lambda f: (f / schema.FILE).unlink(), "submission.json is missing"),
    ("huge", lambda f: (f / schema.FILE).write_text(" " * (schema.MAX_BYTES + 1)), "bytes; at most"),
    ("a stale version", with_value("version", "0"), r"version 0 of the schema is not 3.*submit the run again"),
    ("a later version", with_value("version", "4"), "version 4 of the schema is not 3"),
    ("another format", with_value("format", '"x"'), "format must be"),
    ("text as a number", with_value("value", '"high"'), r"coverage\.value.*'high' is not of type"),
    ("more fields", with_value("by", '"x", "rank": 1'), "'rank' was unexpected"),
    ("an unknown task", with_text(lambda t: t.replace(MC, "pluralism_other")), "'pluralism_other' was unexpected"),
    ("another folder", with_text(lambda t: t.replace("samples_moralchoice.jsonl.gz", "../x/samples_moralchoice.jsonl.gz")), r"samples\.file.*is not valid"),
    ("an absolute path", with_text(lambda t: t.replace("samples_moralchoice.jsonl.gz", "/etc/passwd")), r"samples\.file.*is not valid"),
    ("another task's file", with_text(lambda t: t.replace("samples_moralchoice.jsonl.gz", "samples_overton.jsonl.gz")), "expected samples_moralchoice.jsonl.gz"),
    ("samples missing", lambda f: (f / samples.file_name("moralchoice")).unlink(), "samples_moralchoice.jsonl.gz is missing"),
    ("samples are a link", _link, "links are not followed"),
    ("samples are no gzip", _packed(b"hello"), "cannot be unpacked: BadGzipFile"),
    ("samples are empty", _packed(b""), "rows: expected 5, found 0"),
    ("samples cut off", lambda f: _packed((f / samples.file_name("moralchoice")).read_bytes()[:-20])(f), "cannot be unpacked: EOFError"),
    ("samples damaged", lambda f: _packed((f / samples.file_name("moralchoice")).read_bytes()[:100] + b"\0" * 50)(f), "cannot be unpacked"),
    ("samples not UTF-8", _packed(gzip.compress(b'{"doc": "\xff"}\n')), "line 1: 'utf-8' codec"),
    ("rows are no objects", _packed(gzip.compress(b"[]\n")), "line 1: no object with a doc"),
    ("rows with NaN", _packed(gzip.compress(b'{"doc_id": 0, "doc": {"gold": [NaN]}}\n')), "line 1: NaN is no JSON number"),
    ("a doc_id that is text", _packed(gzip.compress(b'{"doc_id": "0", "doc": {}}\n')), "doc_id '0' is no whole number"),
    ("rows of nothing", _packed(gzip.compress(b'{"doc_id": 0, "doc": {}}\n')), "cannot be scored"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "found"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damaged_files_are_rejected_with_a_reason(
    damage: Callable[[Path], Any], found: str, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(good)
    assert call("verify", str(good)) == 1
    out = capsys.readouterr().out
    assert "=> rejected" in out
    assert re.search(found, out), out
    listed = board.build(list(verify_each([good])))
    assert [v.folder for v in listed.rejected] == [good]
    assert good.name in pages.as_markdown(listed, good.parent)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


JUNK = [None, 0, -1, 1e308, "", "x", [], {}, True, [[]], {"a": 1}, "nan", 10**30, ["1"], -0.5]


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_change_of_any_row_is_a_verdict_and_no_crash(good: Path, data: st.DataObject) -> None:
    task = data.draw(st.sampled_from(FAST))
    file = good / samples.file_name(task)
    before = file.read_bytes()
    rows = samples.read_packed(file)[0]
    *path, last = data.draw(st.sampled_from(list(places(rows))))
    at: Any = rows
    for key in path:
        at = at[key]
    old, at[last] = at[last], data.draw(st.sampled_from(JUNK))
    assume(json.dumps(old) != json.dumps(at[last]))
    file.write_bytes(samples.packed(rows))
    found = verify(good)
    file.write_bytes(before)
    assert found.status == "rejected"
    assert good.name in pages.as_html(board.build([found]), good.parent)


def test_a_bomb_is_not_unpacked(good: Path) -> None:
    target = good / samples.file_name("moralchoice")
    target.write_bytes(gzip.compress(b"x" * (100 << 20)))
    assert target.stat().st_size < 200_000
    tracemalloc.start()
    found = verify(good)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("longer than 2,097,152 bytes" in reason for reason in found.reasons())
    assert peak < 30 << 20


def test_many_small_rows_are_a_bomb_as_well(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_ROWS", 1000)
    row = b'{"doc_id": 0, "doc": {}}\n'
    (good / samples.file_name("moralchoice")).write_bytes(gzip.compress(row * 2000))
    assert any("more than 1,000 rows" in reason for reason in verify(good).reasons())
    monkeypatch.setattr(samples, "MAX_BYTES", 1000)
    assert any("more than 1,000 bytes" in reason for reason in verify(good).reasons())


def test_what_verify_is_given_is_checked_first(good: Path) -> None:
    with pytest.raises(PluralismError, match="2 problem"):
        call("verify", str(good / schema.FILE), str(good / "nothing"))
    with pytest.raises(PluralismError, match="one at a time"):
        call("verify", str(good), str(good), "--samples", str(good))
