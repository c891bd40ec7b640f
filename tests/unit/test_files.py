"""Files are written whole or not at all, also those that lm-eval writes for us."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import cli, results, study
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import cut_name, write_atomic
from pluralism_eval.schema import Answer, Query
from pluralism_eval.transcript import Transcript
from tests.faults import full_disk

MORAL = "pluralism_distributional_moralchoice"
SAMPLE = {
    "doc_id": 0, "doc_hash": "", "prompt_hash": "", "target_hash": "", "arguments": [["p", "c"]],
    "resps": [["r"]], "filtered_resps": ["r"], "target": 0,
}  # fmt: skip


def broken(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("letter", ["a", "ü", "是", "🙂"])
def test_a_long_name_is_cut_with_a_hash_and_a_short_one_stays(letter: str, tmp_path: Path) -> None:
    assert cut_name(letter * 40) == letter * 40
    first, second = (cut_name(letter * 300 + end) for end in "12")
    assert first != second
    assert first[:40] == letter * 40
    write_atomic(tmp_path / f"{first}_samples.jsonl", "")


@pytest.mark.parametrize("letter", ["a", "是"])
def test_a_study_and_lm_eval_make_folders_of_models_of_any_name(
    letter: str, tmp_path: Path
) -> None:
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    from pluralism_eval import plugin

    def folder(name: str) -> Path:
        llm = study.StudyLLM(name, "embedded")
        return study.RunSpec("x", "vanilla", llm, (MORAL,), metadata={"data": "sample"}).folder(
            tmp_path
        )

    folder(letter * 300).mkdir()
    assert folder(letter * 300) != folder(letter * 301)
    assert folder("llama2-13b/aligned").name.startswith("vanilla_llama2-13b_aligned_")
    plugin.fit_trackers()
    tracker = GeneralConfigTracker()
    for name in ("org/model", f"/models/{letter * 100}/{letter * 200}"):
        tracker.log_experiment_args("vanilla", {"pretrained": name}, None, None, False)
        (tmp_path / str(tracker.model_name_sanitized)).mkdir()
        assert tracker.model_name == name
    assert (tmp_path / "org__model").is_dir()


def test_a_file_is_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "b.txt"
    assert write_atomic(path, "ü").read_bytes() == "ü".encode()
    path.chmod(0o640)
    write_atomic(path, b"second")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"second", 0o640)
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, broken)
            with pytest.raises(PluralismError, match=r"b\.txt' cannot be written: No space left"):
                write_atomic(path, "third")
        assert path.read_bytes() == b"second"
        assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_new_files_have_the_users_permissions_and_links_stay(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert stat.S_IMODE(write_atomic(tmp_path / "f", "1").stat().st_mode) == 0o640
    finally:
        os.umask(before)
    (tmp_path / "link").symlink_to("f")
    write_atomic(tmp_path / "link", "2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "2"


@pytest.mark.parametrize("name", ["file/below", "folder", "x" * 300])
def test_places_that_are_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PluralismError, match="cannot be written"):
        write_atomic(tmp_path / name, "text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's device")
def test_devices_are_written_to() -> None:
    assert write_atomic(Path("/dev/null"), "text") == Path("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(PluralismError, match="No space left"):
        write_atomic(Path("/dev/full"), "text")


# ---------------------------------------------------------------------- runs


def of_a_run(**tasks: int) -> dict[str, Any]:
    samples = {t: [SAMPLE | {"doc_id": i} for i in range(n)] for t, n in tasks.items()}
    return {"results": {}, "config": {}, "samples": samples}


def test_a_run_is_saved_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.save(of_a_run(t=2, t_u=3), tmp_path, "vanilla")
    saved = results.read_run(tmp_path)
    assert {t: len(rows) for t, rows in saved.samples.items()} == {"t": 2, "t_u": 3}
    before = sorted(tmp_path.rglob("*"))
    calls = iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr("lm_eval.loggers.evaluation_tracker.sanitize_list", lambda x: x if next(calls) < 3 else broken())  # fmt: skip
        with pytest.raises(PluralismError, match=r"problem.*\n.*sample results: .*No space left"):
            study.save(of_a_run(t=2, t_u=3), tmp_path, "vanilla")
    assert sorted(tmp_path.rglob("*")) == before
    replaced = iter(range(9))
    kept = os.replace
    for stop in (0, 1, 2):
        replaced = iter(range(stop))

        def killed(a: Path, b: Path, left: Any = replaced) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            kept(a, b)

        with monkeypatch.context() as patch:
            patch.setattr(study.os, "replace", killed)
            patch.setattr(study.shutil, "rmtree", lambda *_, **__: None)  # as after a kill
            with pytest.raises(KeyboardInterrupt):
                study.save(of_a_run(t=1, t_u=1), tmp_path, "vanilla")
        assert results.read_run(tmp_path).path == saved.path
        assert results.runs_below(tmp_path) == [saved.path]


def test_only_a_whole_mark_makes_a_run_finished(tmp_path: Path) -> None:
    spec = study.RunSpec("l", "vanilla", study.parse_llm("embedded"), ("pluralism_steerable_vk",),
                         metadata={"data": "sample"})  # fmt: skip
    folder = spec.folder(tmp_path)
    mark = json.dumps({"fingerprint": spec.fingerprint(), "seconds": 2.5})
    for text in (mark[:-1], "[]", mark.replace(spec.fingerprint()[:4], "")):
        write_atomic(folder / results.STUDY, text)
        assert not spec.finished(tmp_path)
    write_atomic(folder / results.STUDY, mark)
    assert spec.finished(tmp_path)
    assert spec.seconds(tmp_path) == 2.5


def test_a_last_line_that_breaks_off_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = tmp_path / "transcript_vanilla.jsonl"
    study.save(of_a_run(t=1) | {"config": {"pluralism": {"transcript": str(transcript)}}}, tmp_path, "vanilla")  # fmt: skip
    transcript.write_text('{"task": "t", "doc_id": 0}\n{"task": "t", "doc_id": 1, "text": "half')
    assert results.read_run(tmp_path).transcript == [{"task": "t", "doc_id": 0}]
    assert "its last line breaks off and is left out; 1 are whole" in caplog.text
    transcript.write_text('{"task": "t", "doc\n{"task": "t", "doc_id": 1}\n')
    with pytest.raises(PluralismError, match="cannot be read as JSON lines"):
        results.read_run(tmp_path)


def test_lm_evals_warnings_of_unsaved_results_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate() -> None:
        from lm_eval.loggers import EvaluationTracker

        (tmp_path / "file").write_text("")
        EvaluationTracker(output_path=str(tmp_path / "file")).save_results_aggregated(results={})

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", evaluate)
    monkeypatch.setattr(sys, "argv", [])
    assert cli.main(["run", "--output_path", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert "file': not all is saved" in said
    assert "Could not save results aggregated: " in said
    assert logging.getLogger("lm_eval.loggers.evaluation_tracker").handlers == []


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's device")
def test_a_transcript_that_cannot_be_added_to_ends_the_run(tmp_path: Path) -> None:
    written = Transcript("vanilla", str(tmp_path / "t.jsonl"))
    written.path = Path("/dev/full")
    query = Query("k", "t", 0, "0", "", "overton", "generation", "text")
    with pytest.raises(PluralismError, match="/dev/full' cannot be written: No space left"):
        written.write([(query, Answer(text="x"))])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's device")
def test_a_full_disk_under_standard_output_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(cli.os, "dup2", lambda *_: None)
        assert cli.main(["communities", "list"]) == 2
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert "cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root mounts a disk")
@pytest.mark.parametrize("name", full_disk.LIGHT)
def test_a_full_disk_is_a_clear_error(name: str, disk: Path) -> None:
    place = disk / "place"
    place.mkdir()
    assert full_disk.attempt(full_disk.LIGHT[name], place, disk) == ""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "cache"))
    try:
        with full_disk.small_disk(tmp_path / "disk") as disk:
            yield disk
    except OSError as error:
        pytest.skip(f"no disk can be mounted: {error}")
