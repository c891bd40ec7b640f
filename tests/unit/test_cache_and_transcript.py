"""The store on disk, and the rates read from transcripts."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from pluralism_eval.cache import Store, digest
from pluralism_eval.transcript import output_folder, rates


def test_store_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite", "messages")
    store.put({f"k{i}": {"text": "ü" * i} for i in range(1200)})
    again = Store(tmp_path / "s.sqlite", "messages")
    assert len(again) == 1200
    assert again.get([f"k{i}" for i in range(1300)])["k1199"] == {"text": "ü" * 1199}
    assert again.get([]) == {}


def _fill(path: str, start: int) -> None:
    store = Store(Path(path), "t")
    for i in range(start, start + 50):
        store.put({str(i): i})


def test_processes_share_a_store(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sqlite")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(path, 50 * n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(Store(Path(path), "t")) == 200


def test_digest_is_of_the_content() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_rates_count_everything_irregular() -> None:
    def message(**change: object) -> dict[str, object]:
        return {"text": "t", "attempts": 1, "stopped": True, "reused": False} | change

    entries = [
        {
            "task": "t", "doc_id": 0, "readout": "letters", "option_mass": 0.5, "selections": [{"fallback": True}],
            "messages": [message(), message(text="", attempts=3), message(stopped=False, reused=True)],
            "sent": [{"tokens_cut": 4, "broken": {"a": 2}}, {"tokens_cut": 0, "scores": {"uniform_fallback": True}}],
        },
        {
            "task": "t", "doc_id": 1, "readout": "letters", "option_mass": 0.1, "selections": [{"fallback": False}],
            "messages": [message()], "sent": [{"tokens_cut": 0, "scores": {"uniform_fallback": False}}, {"tokens_cut": 0}],
        },
        {"task": "u", "doc_id": 0, "readout": "generation", "response": " ", "messages": [], "sent": [{}]},
        {"task": "v", "doc_id": 0, "readout": "harness", "response": "x", "sent": [{"overlong": True}]},
        {"task": "v", "doc_id": 1, "readout": "harness", "response": " \n", "sent": [{}]},
        {"task": "x", "doc_id": 0, "readout": "harness", "response": [-1.0, False], "sent": [{}]},
        {"task": "w", "doc_id": 0, "readout": "generation", "response": "", "sent": [], "skipped": "too long"},
        {"task": "w", "doc_id": 1, "readout": "generation", "response": "x", "sent": [{}], "skipped": ""},
    ]  # fmt: skip
    found = rates(json.loads(json.dumps(entries)))
    assert found["t"] == {
        "docs": 2, "prompts": 4, "messages": 4, "messages_generated": 3, "empty_messages": 0.25, "imported_messages": 0.0,
        "resampled_messages": 0.25, "messages_cut_at_length_limit": 0.25, "prompts_with_passages_cut": 0.25,
        "prompts_with_broken_tokens": 0.25, "selection_fallbacks": 0.5, "uniform_fallbacks": 0.5,
        "mean_option_mass": pytest.approx(0.3), "min_option_mass": 0.1,
    }  # fmt: skip
    assert found["u"] == {
        "docs": 1,
        "prompts": 1,
        "messages": 0,
        "messages_generated": 0,
        "empty_responses": 1.0,
    }
    assert found["v"]["prompts_cut_by_the_model"] == 1
    assert found["v"]["empty_responses"] == 0.5
    assert "empty_responses" not in found["x"], "scores are no text"
    assert found["w"]["skipped_docs"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--output_path", "out"], "out"),
        (["-o", "out/r.json"], "out"),
        (["--output_path=out"], "out"),
    ],
)
def test_transcripts_go_beside_lm_evals_output(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.setattr("sys.argv", ["lm_eval", *arguments])
    assert output_folder() == Path(expected)
