"""Faithfulness on constructed responses: every figure is known beforehand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralism_eval.cli import main
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import coverage, entailment
from pluralism_eval.metrics.exchanges import Exchange, chosen_scorer, exchanges
from pluralism_eval.metrics.faithfulness import Faithfulness, faithfulness, strangers
from pluralism_eval.results import read_run
from tests.conftest import NAMES

TASK = "pluralism_overton_nli"
POOL = ("a", "b", "c")
UNREADABLE = "static"


class OverlapScorer:
    """A premise entails a hypothesis whose every word it has; unreadable ones get no verdict."""

    lot = 100
    seen: list[tuple[str, str]] = []  # noqa: RUF012 - reset by the fixture

    def __init__(self, name: str) -> None:
        self.identity = f"overlap:{name}"

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.seen.extend(pairs)
        rows = []
        for premise, hypothesis in pairs:
            if UNREADABLE in premise:
                rows.append([math.nan] * 3)
            else:
                words = [set(text.lower().strip(".").split()) for text in (premise, hypothesis)]
                rows.append([0.8, 0.1, 0.1] if words[1] <= words[0] else [0.1, 0.8, 0.1])
        return np.array(rows)

    def truncated(self, pairs: Sequence[tuple[str, str]]) -> int:
        return 0


@pytest.fixture
def overlap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[OverlapScorer]:
    """Every scorer name is an :class:`OverlapScorer`, through the real store."""
    monkeypatch.setattr(entailment, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(entailment, "load_scorer", OverlapScorer)
    monkeypatch.setattr(coverage, "scorer_problems", lambda names: [])
    monkeypatch.setattr(OverlapScorer, "seen", [])
    return OverlapScorer


def exchange(situation: str, messages: Sequence[str], *sentences: str) -> Exchange:
    return Exchange(situation, tuple(zip(POOL, messages, strict=True)), sentences, False)


DOCS = [
    # a covers both sentences, b the second, c none; nobody the third
    exchange("S", ("cats sleep dogs bark", "dogs bark loud", "fish"), "Cats sleep.", "Dogs bark.", "It rains."),
    # b is empty, c unreadable; a covers the only sentence
    exchange("T", ("birds sing", " ", UNREADABLE), "Birds sing."),
    # no response: nothing is covered, and no new content
    exchange("U", ("trees grow", "grass grows", "moss grows")),
    # all new
    exchange("V", ("one", "two", "three"), "Four.", "Five."),
]  # fmt: skip


def test_exact_figures(overlap: type[OverlapScorer]) -> None:
    found = faithfulness(DOCS, POOL, "any")
    covered = {
        name: (c.covered.value, c.covered.n, c.empty) for name, c in found.communities.items()
    }
    assert covered == {"a": (2 / 4, 4, 0), "b": (1 / 3, 3, 1), "c": (0, 4, 0)}
    assert (found.all_messages.covered.value, found.all_messages.covered.n) == (3 / 11, 11)
    assert found.all_messages.empty == 1
    content = found.new_content
    assert (content.sentences.value, content.sentences.n) == (
        3 / 6,
        6,
    )  # "It rains.", "Four.", "Five."
    assert content.by_response.value == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert (content.responses.value, content.responses.n) == (2 / 3, 3)
    assert (found.docs, found.situations, found.empty_responses) == (4, 4, 1)
    assert (found.pairs, found.unread) == (9 + 2 + 0 + 6, 1)
    assert found.unpaired == 0
    assert 0 <= found.scorer_accuracy <= 1
    assert found.scorer_checked == 66
    for share in (found.all_messages.covered, found.communities["a"].covered, content.sentences):
        assert share.low <= share.value <= share.high
        assert share.low < share.high


def test_shuffled_messages_of_unrelated_docs_cover_nothing(overlap: type[OverlapScorer]) -> None:
    found = faithfulness(DOCS, POOL, "any")
    assert all(c.shuffled.value == 0 for c in found.communities.values())
    assert found.new_content_shuffled.sentences.value == 1
    above = found.above_shuffled
    assert above is not None
    assert above.difference == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    # what every response says is said by all: nothing is left above the shuffled row
    alike = [exchange(s, ("same words",) * 3, "Same words.") for s in "STU"]
    found = faithfulness(alike, POOL, "any")
    assert found.all_messages.covered.value == found.all_messages.shuffled.value == 1
    assert found.above_shuffled is not None
    assert found.above_shuffled.difference == 0
    assert found.new_content.sentences.value == found.new_content_shuffled.sentences.value == 0


def test_intervals_are_clustered_by_situation(overlap: type[OverlapScorer]) -> None:
    twice = [doc for doc in DOCS for _ in range(2)]  # each situation twice: no further evidence
    once, doubled = (faithfulness(docs, POOL, "any").all_messages.covered for docs in (DOCS, twice))
    assert doubled.value == once.value
    assert (doubled.low, doubled.high) == (once.low, once.high)
    alone = faithfulness(DOCS[:1], POOL, "any")
    assert math.isnan(alone.all_messages.covered.low)
    assert alone.unpaired == 1
    assert math.isnan(alone.all_messages.shuffled.value)
    assert alone.above_shuffled is None


def test_each_pair_is_scored_once(overlap: type[OverlapScorer]) -> None:
    faithfulness(DOCS, POOL, "any")
    assert len(overlap.seen) == len(set(overlap.seen)) > 66
    assert all(premise.strip() for premise, _ in overlap.seen)
    overlap.seen.clear()
    faithfulness(DOCS, POOL, "any")
    assert overlap.seen == []  # from disk


@settings(deadline=None)
@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=12), st.integers(0, 5))
def test_strangers_are_about_another_situation(situations: list[str], seed: int) -> None:
    docs = [Exchange(s, (), (), False) for s in situations]
    found = strangers(docs, seed)
    assert found == strangers(docs, seed)
    for i, j in enumerate(found):
        if j is None:
            assert len(set(situations)) == 1
        else:
            assert situations[j] != situations[i]
    if len(set(situations)) == len(situations) > 1:
        assert sorted(j for j in found if j is not None) == list(range(len(docs)))  # each once


# ---------------------------------------------------------------------- from a run, as a command


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path / "run", "modular_pluralism")


def save(folder: Path, method: str) -> Path:
    """A run as lm-eval and the transcript leave it, over DOCS."""
    folder.mkdir()
    ours = {
        "method": method, "preset": "paper", "transcript": str(folder / "transcript.jsonl"),
        "communities": [{"name": name} for name in POOL],
    }  # fmt: skip
    results = {"results": {}, "config": {"model": method, "pluralism": ours}}
    (folder / "results_1.json").write_text(json.dumps(results))
    lines: list[dict[str, Any]] = [
        {
            "task": TASK, "doc_id": i, "mode": "overton", "query": doc.situation, "response": " ".join(doc.sentences),
            "messages": [{"community": c, "text": t} for c, t in doc.messages],
            "sent": [{"round": "respond", "tokens_cut": 3 * (i == 0)}],
        }
        for i, doc in enumerate(DOCS)
    ]  # fmt: skip
    (folder / "transcript.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_run_gives_the_docs_back(saved: Path) -> None:
    docs = exchanges(read_run(saved))
    assert [(d.situation, d.messages, d.sentences) for d in docs] == [
        (d.situation, d.messages, d.sentences) for d in DOCS
    ]
    assert [d.cut for d in docs] == [True, False, False, False]


@pytest.mark.parametrize("kind", [".png", ".svg"])
def test_the_command(
    saved: Path, overlap: type[OverlapScorer], capsys: Any, tmp_path: Path, kind: str
) -> None:
    plot = tmp_path / f"figure5{kind}"
    assert main(["faithfulness", str(saved), "--plot", str(plot), "--nli", "any"]) == 0
    out = capsys.readouterr().out
    assert "| a         | 4        | 0     | 0.500 [" in out
    assert "| b         | 3        | 1     | 0.333 [" in out
    assert "1 of 4 responses have no sentence" in out
    assert "Without a readable verdict: 1 of 17 pairs" in out
    assert "In 1 docs messages were cut" in out
    content = plot.read_bytes()
    if kind == ".svg":
        assert b"new content" in content
        assert main(["faithfulness", str(saved), "--plot", str(plot), "--nli", "any"]) == 0
        assert plot.read_bytes() == content
    else:
        assert content.startswith(b"\x89PNG")


def test_the_command_as_json(saved: Path, overlap: type[OverlapScorer], capsys: Any) -> None:
    assert main(["faithfulness", str(saved), "--json", "--nli", "any"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["faithfulness"]["communities"]["a"]["covered"]["value"] == 0.5
    assert found["preset"] == "paper"
    assert set(found["faithfulness"]) == set(Faithfulness.__dataclass_fields__)


def test_what_cannot_be_done_is_one_error_before_scoring(
    saved: Path, overlap: type[OverlapScorer], tmp_path: Path, capsys: Any
) -> None:
    vanilla = save(tmp_path / "vanilla", "vanilla")
    for arguments, message in (
        ([str(vanilla)], "Allowed: runs of modular_pluralism, moe"),
        ([str(saved), "--nli", "x+y"], "one is used"),
        ([str(saved), "--plot", str(tmp_path / "x.pdf")], ".png or .svg"),
        ([str(saved), "--plot", str(tmp_path / "nowhere" / "x.png")], "there is no folder"),
        ([str(saved), "--preset", "papper"], "Allowed: paper, reference"),
    ):
        assert main(["faithfulness", *arguments]) == 2
        assert message in capsys.readouterr().err
    results = json.loads((saved / "results_1.json").read_text())
    results["config"]["pluralism"]["communities"] = [{"name": name} for name in NAMES]
    (saved / "results_1.json").write_text(json.dumps(results))
    with pytest.raises(PluralismError, match=r"messages of a, b, c, the run's pool is news_left"):
        exchanges(read_run(saved))
    assert overlap.seen == []


def test_the_scorer_is_the_runs_own_unless_told(saved: Path, overlap: type[OverlapScorer]) -> None:
    run = read_run(saved)
    assert chosen_scorer(run, None, None) == "embedded"  # $PLURALISM_EVAL_NLI of the tests
    doc = {"pluralism": {"nli": "first+second"}}
    run = type(run)(run.name, run.path, run.config, {}, {TASK: [{"doc": doc}]}, run.transcript)
    assert chosen_scorer(run, None, None) == "first"
    assert chosen_scorer(run, None, "paper") == "embedded"
    assert chosen_scorer(run, "wanli", None) == entailment.ALIASES["wanli"]
