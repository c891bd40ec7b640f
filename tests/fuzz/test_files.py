"""Files that runs, submissions, annotators and other projects leave."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pluralism_eval.communities.store import MessageSource, _read
from pluralism_eval.leaderboard import samples, schema
from pluralism_eval.leaderboard.verify import verify
from pluralism_eval.metrics.mixtures import mixtures
from pluralism_eval.metrics.responses import read_responses
from pluralism_eval.people import exports
from pluralism_eval.people.study import KEY_FORMAT
from pluralism_eval.results import read_run
from pluralism_eval.schema import Query
from pluralism_eval.transcript import rates
from tests.conftest import ROOT
from tests.fuzz import JSON, damaged_text, encodable, fuzz, mutated, ours

SUBMITTED = next((ROOT / "results/submissions").glob("modular-pluralism-*"))
GLOBAL = "pluralism_distributional_globalopinionqa"
CONTENT = json.loads((SUBMITTED / "submission.json").read_text())
with gzip.open(SUBMITTED / "samples_globalopinionqa.jsonl.gz") as _file:
    ROWS = [json.loads(line) for line in _file][:2]
RESULTS = {
    "results": {GLOBAL: {"jsd,none": 0.3, "alias": "x"}}, "config": {
        "model": "modular_pluralism", "model_args": {"communities": "embedded"},
        "pluralism": {"method": "modular_pluralism", "llm": "x", "communities": [{"name": "a"}], "transcript": "t.jsonl", "rates": {}, "weights": [1.0]},
    },
    "configs": {GLOBAL: {"metadata": {"data": "sample"}}}, "total_evaluation_time_seconds": "3.5",
}  # fmt: skip
LINE = {
    "task": GLOBAL, "doc_id": 0, "id": "1", "mode": "distributional", "readout": "letters", "query": "Q", "attribute": "Japan", "selections": [],
    "messages": [{"community": "a", "text": "m", "n_tokens": 3, "stopped": True, "attempts": 1, "reused": False, "imported": False, "refused": ""}],
    "sent": [{"round": "respond", "prompt": "P", "tokens_cut": 0, "refused": "",
              "scores": {"logprobs": [-1.0, -2.0], "greedy": 0, "uniform_fallback": False, "replies": [], "unread": 0, "unseen": 0.0, "samples": 0}}],
    "options": ["A", "B"], "distribution": [0.7, 0.3], "option_mass": 0.5, "lower": [], "samples": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(encodable(text).encode())
    return path


def lines(rows: Any) -> str:
    return "\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])) + "\n"


@given(
    st.one_of(mutated(RESULTS).map(json.dumps), damaged_text(json.dumps(RESULTS))),
    st.one_of(mutated(ROWS).map(lines), damaged_text(lines(ROWS))),
    st.one_of(mutated([LINE]).map(lines), damaged_text(lines([LINE]))),
    st.integers(1, 7),
)
@example(json.dumps(RESULTS), lines(ROWS), "null\n", 4)
@fuzz(60)
def test_a_run_is_read_or_an_error(
    folder: Path, results: str, rows: str, transcript: str, which: int
) -> None:
    put(folder, "results_now.json", results if which & 1 else json.dumps(RESULTS))
    put(folder, f"samples_{GLOBAL}_now.jsonl", rows if which & 2 else lines(ROWS))
    put(folder, "t.jsonl", transcript if which & 4 else lines([LINE]))
    with ours():
        run = read_run(folder / "results_now.json")
        assert isinstance(run.name, str)
        assert isinstance(run.data, str)
        assert isinstance(run.ours.get("method", ""), object)
        with ours():
            assert all(isinstance(s.get("doc", {}), dict) for s in run.samples_of(GLOBAL))
        with ours():
            found = run.transcript_of(GLOBAL)
            assert all(isinstance(number, int) for number in found)
            with ours():
                assert isinstance(rates(run.transcript), dict)
            with ours():
                mixed = mixtures(list(found.values()), ["a"], [1.0])
                answers = mixed.answers(mixed.priors[None] > 0)
                assert answers.sum(axis=-1) == pytest.approx(1)


def test_the_unchanged_run_is_read(tmp_path: Path) -> None:
    put(tmp_path, "results_now.json", json.dumps(RESULTS))
    put(tmp_path, f"samples_{GLOBAL}_now.jsonl", lines(ROWS))
    put(tmp_path, "t.jsonl", lines([LINE]))
    run = read_run(tmp_path)
    assert len(run.samples_of(GLOBAL)) == 2
    assert rates(run.transcript)[GLOBAL]["messages"] == 1
    assert mixtures(run.transcript, ["a"], [1.0]).read.sum() == 1


# ---------------------------------------------------------------------- submissions


@given(
    st.one_of(
        mutated(CONTENT).map(json.dumps), damaged_text(json.dumps(CONTENT)), JSON.map(json.dumps)
    )
)
@fuzz(20, costs=5)
def test_a_submission_is_valid_or_damaged(folder: Path, text: str) -> None:
    own = folder / "submission"
    own.mkdir(exist_ok=True)
    put(own, schema.FILE, text)
    with ours(schema.Damaged):
        found = schema.load(own)
        assert schema.problems_of(found) == []
        json.loads(schema.write(found))


@given(mutated(CONTENT, 2), st.one_of(st.none(), mutated(ROWS, 2)))
@fuzz(15, costs=25)
def test_a_changed_submission_is_a_verdict(folder: Path, content: Any, rows: Any) -> None:
    own = folder / "verified"
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(SUBMITTED, own)
    content = dict(content if isinstance(content, dict) else CONTENT)
    if isinstance(content.get("tasks"), dict):  # one task is enough
        content["tasks"] = {k: v for k, v in content["tasks"].items() if k == GLOBAL}
    put(own, schema.FILE, json.dumps(content))
    if isinstance(rows, list):
        packed = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
        (own / "samples_globalopinionqa.jsonl.gz").write_bytes(packed)
    found = verify(own)
    assert found.status in ("verified", "rejected", "not verified")
    if isinstance(rows, list):
        assert found.status != "verified", "two rows are not the twelve that were scored"
    assert found.status == "verified" or found.reasons()


@given(st.one_of(st.binary(max_size=80), mutated(ROWS[0]).map(lambda row: gzip.compress(json.dumps(row).encode()))))  # fmt: skip
@fuzz(100)
def test_packed_samples_are_rows_or_damaged(folder: Path, content: bytes) -> None:
    path = folder / "s.jsonl.gz"
    path.write_bytes(content)
    with ours(schema.Damaged):
        rows, digest = samples.read_packed(path)
        assert all(isinstance(row["doc"], dict) for row in rows)
        assert len(digest) == 64


@given(st.one_of(mutated(ROWS[0]).map(lines), damaged_text(lines(ROWS))))
@fuzz(100)
def test_logged_samples_are_rows_or_damaged(folder: Path, text: str) -> None:
    path = put(folder, "samples.jsonl", text)
    with ours(schema.Damaged):
        samples.read_logged("globalopinionqa", path)


# ---------------------------------------------------------------------- people

KEY = {
    "format": KEY_FORMAT, "study": "s", "run": {"name": "R"}, "baseline": {"name": "B"},
    "pairs": [{"pair": "p1", "id": "1", "run": "x1", "baseline": "y1"}, {"pair": "p2", "id": "2", "run": "x2", "baseline": "y2"}],
}  # fmt: skip
EXPORT = {
    "format": exports.FORMAT, "study": "s", "annotator": "Ann",
    "answers": [
        {"pair": "p1", "shown": ["x1", "y1"], "choice": "first", "seconds": 3.5},
        {"pair": "p2", "shown": ["y2", "x2"], "choice": "tie", "seconds": 0},
    ],
}  # fmt: skip
JUDGED = {
    "run": {"name": "R"}, "baseline": {"name": "B"},
    "pairs": [{"id": "1", "outcome": "win"}, {"id": "2", "outcome": "unparsed"}],
}  # fmt: skip


def jsons(value: Any) -> Any:
    return st.one_of(mutated(value).map(json.dumps), damaged_text(json.dumps(value)))


@given(jsons(KEY), jsons(EXPORT), jsons(JUDGED))
@fuzz(60)
def test_what_annotators_and_judges_said(folder: Path, key: str, export: str, judged: str) -> None:
    with ours():
        exports.read_key(put(folder, "key.json", key))
    good = exports.read_key(put(folder, "key.json", json.dumps(KEY)))
    with ours():
        found = exports.read_export(put(folder, "export.json", export), good)
        assert found.annotator.strip()
        assert set(found.answers) <= {"p1", "p2"}
        for answer in found.answers.values():
            assert answer.outcome in exports.OUTCOMES
            assert (answer.first is None) == (answer.outcome == "tie")
            assert 0 <= answer.seconds < float("inf")
    with ours():
        said = exports.read_judge(put(folder, "judge.json", judged), good)
        assert set(said.values()) <= {*exports.OUTCOMES, "unparsed"}


# ---------------------------------------------------------------------- messages, responses


@given(jsons({"1": "one", "2": "two"}))
@fuzz(50)
def test_exported_messages(folder: Path, text: str) -> None:
    own = folder / "messages"
    own.mkdir(exist_ok=True)
    put(own, "input_mistral-a.json", text)
    _read.cache_clear()
    query = Query("t/0", "t", 0, "1", "input", "overton", "generation", "Q")
    with ours():
        source = MessageSource(str(own))
        assert source.exported
        source.check([query], ["a"])
        message = source.lookup(query, "a")
        assert message.community == "a"
        message.text.encode()


ITEMS = [{"id": 1, "situation": "S", "output": "fine"}, {"id": 2, "situation": "T", "output": ""}]
LOGGED = [{"doc": {"id": "1", "situation": "S"}, "resps": [["fine"]]}]


@given(jsons(ITEMS), st.one_of(mutated(LOGGED).map(lines), damaged_text(lines(LOGGED))))
@fuzz(50)
def test_responses_of_finished_runs(folder: Path, items: str, logged: str) -> None:
    for name, text in (("items.json", items), ("logged.jsonl", logged)):
        with ours():
            found = read_responses(put(folder, name, text))
            assert found.texts
            assert all(isinstance(t, str) for t in found.texts.values())
