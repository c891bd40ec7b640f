"""Runs are read back as they were saved, also after they were moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.results import read_run


def save(folder: Path, stamp: str, method: str = "vanilla") -> Path:
    """What lm-eval leaves of a run: results, samples, and our transcript above them."""
    inner = folder / method
    inner.mkdir(parents=True, exist_ok=True)
    transcript = folder / f"transcript_{stamp}.jsonl"
    ours = {"method": method, "transcript": f"/elsewhere/{transcript.name}"}
    results = {"results": {"t": {"acc,none": 1}}, "config": {"model": method, "pluralism": ours}}
    (inner / f"results_{stamp}.json").write_text(json.dumps(results))
    rows = [{"doc_id": 1, "resps": [["b"]]}, {"doc_id": 0, "resps": [["a"]]}]
    (inner / f"samples_some_task_{stamp}.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows)
    )
    lines = [{"task": "some_task", "doc_id": i, "response": stamp} for i in range(2)]
    transcript.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return inner


def test_the_newest_run_of_a_folder_with_its_own_samples_and_transcript(tmp_path: Path) -> None:
    inner = save(tmp_path, "2026-01-01T00-00-00.1")
    save(tmp_path, "2026-01-02T00-00-00.1")
    run = read_run(tmp_path)
    assert (run.name, run.results["t"]["acc,none"]) == ("vanilla", 1)
    assert [s["resps"] for s in run.samples_of("some_task")] == [[["a"]], [["b"]]]
    assert run.transcript_of("some_task")[1]["response"] == "2026-01-02T00-00-00.1"
    older = read_run(inner / "results_2026-01-01T00-00-00.1.json")
    assert older.transcript_of("some_task")[0]["response"] == "2026-01-01T00-00-00.1"
    with pytest.raises(PluralismError, match=r"no samples of other.*it has some_task"):
        run.samples_of("other")
    with pytest.raises(PluralismError, match="has no line of other"):
        run.transcript_of("other")


def test_what_is_no_run_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(PluralismError, match="holds no run"):
        read_run(tmp_path)
    save(tmp_path, "2026-01-01", "vanilla")
    save(tmp_path, "2026-01-01", "moe")
    with pytest.raises(PluralismError, match="holds several runs"):
        read_run(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "results_x.json").write_text(text)
        with pytest.raises(PluralismError, match="results"):
            read_run(tmp_path / "results_x.json")
