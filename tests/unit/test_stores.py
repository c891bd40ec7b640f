"""Rows, files and folders of stores under damage, without locks, and on places that refuse to be written."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pluralism_eval.cache import FORM_VARIABLE, Store
from pluralism_eval.errors import PluralismError
from pluralism_eval.stores import lines, places, rows, salvage
from tests.faults import flips, processes, truncation
from tests.faults.stores import CACHES, rows_of, workshop

ROWS = rows_of("messages")


@pytest.fixture(autouse=True)
def _every_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_warned", set())


@pytest.fixture(params=["sqlite", "lines"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "lines":
        monkeypatch.setenv(FORM_VARIABLE, "lines")
    return str(request.param)


def test_every_form_keeps_what_is_there(form: str, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    store, other = Store(path, "t"), Store(path, "other")
    odd = {"a\tb\n": "x\ty\n\u2028", "half": "\ud800", "nan": float("inf"), "empty": None}
    store.put(odd)
    store.put({"half": "another", "new": 1})
    other.put({"half": "of another table"})
    assert store.get(["half", "none", "nan", "a\tb\n"]) == {k: odd[k] for k in ("half", "nan", "a\tb\n")}  # fmt: skip
    assert Store(path, "t").items() == odd | {"new": 1}
    assert (len(store), len(other)) == (5, 1)
    store.put({})
    assert path.exists() == (form == "sqlite")


def test_a_store_keeps_its_form_and_takes_the_rows_of_sqlite_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.sqlite"
    Store(path, "messages").put(ROWS)
    monkeypatch.setattr("pluralism_eval.cache.lock_fault", lambda folder: "locks fail (ENOLCK)")
    store = Store(path, "messages")
    assert store.items() == ROWS
    store.put({"new": 1, next(iter(ROWS)): "another"})
    monkeypatch.undo()
    Store(path, "messages")
    assert Store(path, "messages").items() == ROWS | {"new": 1}
    told = [r.message for r in caplog.records if "is kept as lines" in r.message]
    assert len(told) == 1
    assert "locks fail (ENOLCK)" in told[0]


@pytest.mark.parametrize("cache", CACHES)
def test_flipped_bytes_are_never_served(cache: str, form: str) -> None:
    with workshop() as folder:
        for n, at_once in ((12, 1), (3, 20)):
            tally = flips.flipped(cache, n, folder / str(at_once), at_once)
            assert tally.clean, tally.line(cache)
            if at_once == 1:
                assert sum(tally.recovered) / n > 0.9


@pytest.mark.parametrize(("made", "name"), [("closed", ""), ("killed", ""), ("killed", "-wal")])
def test_stores_cut_off_anywhere(made: str, name: str) -> None:
    with workshop() as folder:
        files = getattr(truncation, made)(folder / "whole")
        tally = truncation.cut(files, truncation.NAME + name, folder / "cut", every=997, first=3)
    assert tally.clean, tally.line(made)
    assert max(tally.recovered) >= 0.5


def test_a_damaged_row_goes_to_the_quarantine_once_and_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.sqlite"
    store = Store(path, "messages")
    store.put(ROWS)
    first, second, third = list(ROWS)[:3]
    with sqlite3.connect(path) as db:
        db.execute('UPDATE messages SET value = \'{"text": "planted"}\' WHERE key = ?', [first])
        db.execute("UPDATE messages SET checksum = NULL OR 5 WHERE key = ?", [second])
        moved = db.execute("SELECT value, checksum FROM messages WHERE key = ?", [third]).fetchone()
        db.execute("UPDATE messages SET value = ?, checksum = ? WHERE key = ?", [*moved, list(ROWS)[3]])  # fmt: skip
    wrong = {first, second, list(ROWS)[3]}
    assert store.get(list(ROWS)) == {k: v for k, v in ROWS.items() if k not in wrong}
    kept = [json.loads(line) for line in rows.quarantine_file(path).read_text().splitlines()]
    assert {row["key"] for row in kept} == wrong
    assert any("planted" in row["value"] for row in kept)
    store.put(ROWS)
    assert store.items() == ROWS
    (told,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert "3 damaged rows" in told
    assert str(rows.quarantine_file(path)) in told


def test_a_damaged_row_does_not_keep_a_new_one_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite", "t")
    store.put({"a": 1, "b": 2})
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE t SET value = '7' WHERE key = 'a'")
    store.put({"a": 1})  # without having asked for it
    assert store.get(["a", "b"]) == {"a": 1, "b": 2}


def test_a_damaged_file_is_replaced_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.sqlite"
    Store(path, "messages").put(ROWS)
    Store(path, "other").put({"k": "v"})
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 100 + whole[100:])
    store = Store(path, "messages")
    assert store.items() == ROWS
    assert Store(path, "other").items() == {"k": "v"}
    assert (tmp_path / "s.sqlite.damaged-1").read_bytes()[100:] == whole[100:]
    (told,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert "its 51 intact rows are in a new file" in told
    path.write_bytes(b"not a database at all")
    assert store.get(list(ROWS)) == {}
    store.put(ROWS)
    assert (tmp_path / "s.sqlite.damaged-2").read_bytes() == b"not a database at all"


def dying(do: Callable[..., object], left: Iterator[int]) -> Callable[..., object]:
    """``do`` that is killed when ``left`` is used up."""

    def step(*given: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return do(*given)

    return step


def test_an_interrupted_salvage_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before any of its steps: nothing is lost, the log's rows included."""
    interrupted = 0
    for stop in range(8):
        folder = tmp_path / str(stop)
        files = truncation.killed(folder)
        path = folder / truncation.NAME
        for name, content in files.items():
            (folder / name).write_bytes(
                b"\0" * 100 + content[100:] if name == path.name else content
            )
        left = iter(range(stop))
        with monkeypatch.context() as patch:
            for name in ("replace", "link"):
                patch.setattr(os, name, dying(getattr(os, name), left))
            try:
                salvage.renew(path, "test")
            except KeyboardInterrupt:
                interrupted += 1
        assert Store(path, "messages").items() == ROWS
    assert interrupted == 6


def test_rows_of_older_stores_get_checksums_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as db:
        for table in ("messages", "other"):
            db.execute(f'CREATE TABLE "{table}" (key TEXT PRIMARY KEY, value TEXT NOT NULL)')
        written = [(key, json.dumps(value)) for key, value in ROWS.items()]
        db.executemany("INSERT INTO messages VALUES (?, ?)", [*written, ("broken", '{"text": ')])
    for _ in range(2):
        assert Store(path, "messages").items() == ROWS
    assert Store(path, "other").items() == {}
    assert "broken" in rows.quarantine_file(path).read_text()
    assert len([r for r in caplog.records if "without checksums" in r.message]) == 2  # one a table
    assert not list(tmp_path.glob("*.damaged*"))


def test_a_schema_that_nobody_wrote_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path, "messages").put(ROWS)
    content = path.read_bytes()
    assert content.count(b'CREATE TABLE "messages"') == 1
    path.write_bytes(content.replace(b'CREATE TABLE "messages"', b'CREATE TABLE "massages"'))
    assert Store(path, "messages").items() == ROWS
    assert (tmp_path / "s.sqlite.damaged-1").exists()


def _notice(path: str) -> None:
    store = Store(Path(path), "messages")
    assert store.get(list(ROWS)) == ROWS
    store.put({f"{os.getpid()}": 1})


def test_several_processes_notice_the_same_damage(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path, "messages").put(ROWS)
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    workers = [context.Process(target=_notice, args=(str(path),)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert len(Store(path, "messages")) == len(ROWS) + 6
    assert [p.name for p in tmp_path.glob("*.damaged-*")] == ["s.sqlite.damaged-1"]


# ---------------------------------------------------------------------- file systems


@pytest.mark.parametrize("kind", processes.KINDS)
def test_processes_with_the_same_keys_agree(kind: str, tmp_path: Path) -> None:
    if kind.startswith("locks") and (sys.platform != "linux" or not shutil.which("cc")):
        pytest.skip("needs Linux and a C compiler")
    assert processes.run(kind, tmp_path / kind, processes=4, n=100).total() == 0


def test_locks_are_found_to_work_here(tmp_path: Path) -> None:
    assert places.lock_fault(tmp_path) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("nfs", True), ("nfs4", True), ("fuse.sshfs", True), ("lustre", True), ("ext4", False), ("tmpfs", False), ("", False)],
)  # fmt: skip
def test_the_journal_is_a_log_only_where_memory_is_shared(
    kind: str, remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sqlite"
    Store(path, "t").put({"a": 1})
    monkeypatch.setattr(places, "file_system", lambda folder: kind)
    assert Store(path, "t").items() == {"a": 1}
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == ("delete" if remote else "wal")


def test_of_two_lines_with_one_key_the_earlier_counts_and_half_lines_are_nothing(
    tmp_path: Path,
) -> None:
    folder = lines.folder_of(tmp_path / "s.sqlite")
    folder.mkdir()
    (folder / "z-1-a.rows").write_bytes(lines._line("t", "k", '"first"', 5))
    (folder / "a-1-a.rows").write_bytes(lines._line("t", "k", '"second"', 6))
    store = Store(tmp_path / "s.sqlite", "t")
    half = lines._line("t", "new", '"whole at last"', 7)
    with (folder / "b-1-a.rows").open("wb") as file:
        file.write(half[:-9])
        file.flush()
        assert store.items() == {"k": "first"}
        file.write(half[-9:])
    assert store.items() == {"k": "first", "new": "whole at last"}
    assert not rows.quarantine_file(tmp_path / "s.sqlite").exists()


def test_a_turn_that_was_never_given_back_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORM_VARIABLE, "lines")
    monkeypatch.setattr(lines, "_ABANDONED", 0.3)
    store = Store(tmp_path / "s.sqlite", "t")
    for holder in (f"{lines.socket.gethostname()} 999999999", "", "another-host 1"):
        (lines.folder_of(store.path) / "turn").write_text(holder)
        store.put({holder: 1})
    assert len(store) == 3


def test_a_failed_write_of_lines_leaves_the_next_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORM_VARIABLE, "lines")
    store = Store(tmp_path / "s.sqlite", "t")
    store.put({"a": 1})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(PluralismError, match=r"cannot be written.*No space left.*make room"):
            store.put({"b": 2})
    assert store.items() == {"a": 1}
    store.put({"b": 3})
    assert Store(store.path, "t").items() == {"a": 1, "b": 3}


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_places_that_cannot_be_written_say_what_to_do(form: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PluralismError, match="move away the file"):
        Store(tmp_path / "file" / "s.sqlite", "t")
    if os.geteuid() == 0:
        return  # root may write everywhere
    folder = tmp_path / "refusing"
    store = Store(folder / "s.sqlite", "t")
    store.put({"a": 1})
    folder.chmod(0o500)
    try:
        with pytest.raises(PluralismError, match="make it and its folder writable"):
            Store(folder / "other.sqlite", "t")
    finally:
        folder.chmod(0o700)
    assert store.items() == {"a": 1}


def test_pages_of_random_bytes_hold_no_rows(tmp_path: Path) -> None:
    chance = random.Random(0)
    for n in (0, 1, 99, 4096, 40_000):
        for head in (b"", b"\r" * 4096):
            (tmp_path / "s").write_bytes(head + chance.randbytes(n))
            assert list(salvage.rows(tmp_path / "s")) == []
