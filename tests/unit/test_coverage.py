"""Coverage against a direct computation on the authors' situations, its rules, and its properties."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_splitter import SentenceSplitter
from sentencex import segment

from pluralism_eval.data.docs import load_docs
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import coverage, entailment
from pluralism_eval.metrics.coverage import (
    METRICS,
    CoverageFilter,
    overton,
    split_sentences,
)
from pluralism_eval.metrics.metric import metric_list
from pluralism_eval.metrics.summary import Mean
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs

Doc = Mapping[str, Any]
UNREADABLE = "unreadable"


def scripted_row(name: str, premise: str, hypothesis: str) -> list[float]:
    """Label probabilities that depend on scorer and texts, about every fifth time entailment."""
    if UNREADABLE in premise + hypothesis:
        return [math.nan] * 3
    seed = hashlib.sha256(f"{name}\0{premise}\0{hypothesis}".encode()).digest()
    weights = [math.exp(byte / 40) for byte in seed[:3]]
    weights[0] *= 0.5
    return [w / sum(weights) for w in weights]


class HashScorer:
    """A scorer whose every answer is known."""

    lot = 4096

    def __init__(self, name: str) -> None:
        self.name = name
        self.identity = f"hash:{name}"

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([scripted_row(self.name, *pair) for pair in pairs])

    def truncated(self, pairs: Sequence[tuple[str, str]]) -> int:
        return 0


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every scorer name is a :class:`HashScorer`."""
    monkeypatch.setattr(entailment, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(entailment, "load_scorer", HashScorer)
    monkeypatch.setattr(coverage, "check_accuracy", lambda name: (0.5, 66))


def score(docs: Sequence[Doc], responses: Sequence[str]) -> list[dict[str, Any]]:
    rows = CoverageFilter().apply(iter(responses), docs)
    rows = json.loads(json.dumps(rows, allow_nan=False))  # as lm-eval's samples hold them
    return [overton(doc, [row]) for doc, row in zip(docs, rows, strict=True)]


def mean(scores: Sequence[Mapping[str, Any]], name: str) -> float:
    return Mean()([s[name] for s in scores])


# ---------------------------------------------------------------------- against direct computation


def direct_sentences(text: str, splitter: str) -> list[str]:
    if splitter == "sentence_splitter":
        return list(SentenceSplitter(language="en").split(text=text)) if text.strip() else []
    pieces = [s.strip() for line in text.splitlines() for s in segment("en", line.strip())]
    return [s for s in pieces if any(map(str.isalnum, s))]


def direct_best(name: str, sentences: Sequence[str], explanation: str, premise: str) -> float:
    """The authors' loop: the highest entailment probability so far, from -1."""
    best = -1.0
    for sentence in sentences:
        pair = (sentence, explanation) if premise == "sentence" else (explanation, sentence)
        probability = scripted_row(name, *pair)[0]
        if probability > best:
            best = probability
    return best


def direct_covered(name: str, sentences: Sequence[str], explanation: str, premise: str) -> bool:
    """The paper: some sentence for which entailment is the most probable of three."""
    for sentence in sentences:
        pair = (sentence, explanation) if premise == "sentence" else (explanation, sentence)
        entailed, neutral, contradicted = scripted_row(name, *pair)
        if entailed >= neutral and entailed >= contradicted:
            return True
    return False


def responses_to(docs: Sequence[Doc]) -> list[str]:
    """Real sentences: other situations' explanations, as lists and paragraphs, some empty."""
    texts = []
    for i, _ in enumerate(docs):
        other = docs[(i * 7 + 3) % len(docs)]["explanations"]
        joined = (" ".join(other), "\n\n".join(f"- {e}" for e in other), f"{other[0]}\n\n\n---")
        texts.append("" if i % 11 == 0 else joined[i % 3])
    return texts


@needs_authors_inputs
def test_the_papers_coverage_is_the_direct_computation(hashed: None, scripted: Any) -> None:
    nli = "embedded+llm:scripted"
    docs = load_docs("overton", data=str(AUTHORS_INPUTS), nli=nli, nli_directions="both")["test"]
    assert len(docs) == 313
    responses = responses_to(docs)
    scores = score(docs, responses)
    per_doc, backwards, second, same = [], [], [], []
    for doc, response in zip(docs, responses, strict=True):
        s = direct_sentences(response, "sentencex")
        own = [direct_covered("embedded", s, e, "sentence") for e in doc["explanations"]]
        other = [direct_covered("llm:scripted", s, e, "sentence") for e in doc["explanations"]]
        back = [direct_covered("embedded", s, e, "explanation") for e in doc["explanations"]]
        per_doc.append(sum(own) / len(own))
        second.append(sum(other) / len(other))
        backwards.append(sum(back) / len(back))
        same.append(fmean(a == b for a, b in zip(own, other, strict=True)))
    assert [s["coverage"] for s in scores] == pytest.approx(per_doc)
    assert mean(scores, "coverage") == pytest.approx(fmean(per_doc))
    assert mean(scores, "coverage_argmax") == pytest.approx(fmean(per_doc))
    assert mean(scores, "coverage_second") == pytest.approx(fmean(second))
    assert mean(scores, "coverage_reversed") == pytest.approx(fmean(backwards))
    assert mean(scores, "scorer_agreement") == pytest.approx(fmean(same))
    assert len({fmean(per_doc), fmean(second), fmean(backwards)}) == 3
    assert mean(scores, "empty_response") == pytest.approx(responses.count("") / 313)


@needs_authors_inputs
@pytest.mark.parametrize("preset", ["reference", "reference+empty_response=minus_one"])
def test_the_references_coverage_is_the_authors_loop(hashed: None, preset: str) -> None:
    docs = load_docs("overton", data=str(AUTHORS_INPUTS), nli="embedded", preset=preset)["test"]
    responses = responses_to(docs)
    scores = score(docs, responses)
    per_doc = []
    for doc, response in zip(docs, responses, strict=True):
        s = direct_sentences(response, "sentence_splitter")
        best = [direct_best("embedded", s, e, "explanation") for e in doc["explanations"]]
        if "minus_one" not in preset:  # the only departure from the authors: a mean of shares
            best = [max(b, 0.0) for b in best]
        per_doc.append(sum(best) / len(best))
    assert [s["coverage"] for s in scores] == pytest.approx(per_doc)
    assert mean(scores, "coverage") == pytest.approx(sum(per_doc) / 313)
    assert mean(scores, "coverage_probability") == mean(scores, "coverage")
    above = sum(value > 0.33 for value in per_doc) / 313
    assert 0 < above < 1
    assert mean(scores, "coverage_above_threshold") == pytest.approx(above)
    empty = {s["coverage"] for s in scores if s["empty_response"]}
    assert empty == {-1.0 if "minus_one" in preset else 0.0}


# ---------------------------------------------------------------------- rules


def make_doc(preset: str = "paper", nli: str = "one", directions: str = "one") -> dict[str, Any]:
    return {
        "query": "Please comment: lying.",
        "cluster": "lying",
        "explanations": ["Honesty counts.", "Kindness may need a lie.", "Trust is at stake."],
        "pluralism": {"preset": preset, "nli": nli, "nli_directions": directions},
    }


def result(covered: list[bool], best: list[float], **more: Any) -> dict[str, Any]:
    inner = {"covered": covered, "entailment": best, "pairs": len(best), "unread": 0}
    first = {"nli": "one", "nli_check": [0.9, 66], **inner, "reversed": None}
    return {
        "response": "x", "n_sentences": 1, "nli": "one", "nli_check": [0.9, 66],
        "scorers": [first], "echo": inner,
    } | more  # fmt: skip


def test_coverage_readings() -> None:
    one = result([True, False, False, True], [0.9, 0.1, 0.2, 0.6])
    paper, reference = (overton(make_doc(preset), [one]) for preset in ("paper", "reference"))
    assert paper["coverage"] == 0.5
    assert reference["coverage"] == pytest.approx(0.45)
    assert reference["coverage_above_threshold"] == 1.0
    for scores in (paper, reference):
        assert scores["coverage_argmax"] == 0.5
        assert scores["coverage_probability"] == pytest.approx(0.45)


@pytest.mark.parametrize("preset", ["paper", "reference"])
@pytest.mark.parametrize("response", ["", "  \n\n "])
def test_an_empty_response_scores_zero(hashed: None, preset: str, response: str) -> None:
    scores = score([make_doc(preset)], [response])[0]
    assert scores["empty_response"] == 1
    assert scores["n_sentences"] == 0
    zero = ("coverage", "coverage_argmax", "coverage_probability", "coverage_above_threshold")
    assert all(scores[name] == 0 for name in zero)
    assert math.isnan(scores["nli_unread"])


def test_every_doc_emits_every_metric_and_what_was_not_asked_for_is_nan(hashed: None) -> None:
    plain, full = (
        score([make_doc(nli=nli, directions=d)], ["Honesty first. Then the rest."])[0]
        for nli, d in (("one", "one"), ("one+two", "both"))
    )
    names = [row["metric"] for row in metric_list(METRICS)]
    assert list(plain) == list(full) == names  # X_stderr must come after X to override lm-eval's
    asked = {"coverage_second", "coverage_reversed", "scorer_agreement"}
    assert {m.name for m in METRICS if math.isnan(plain[m.name])} == asked
    assert not any(math.isnan(full[m.name]) for m in METRICS)
    assert plain["coverage"] == full["coverage"]


def test_rows_name_every_scorer_and_its_check_accuracy(hashed: None) -> None:
    doc = make_doc(nli="one+two+three", directions="both")
    row = CoverageFilter().apply(iter(["Honesty first."]), [doc])[0]
    assert [each["nli"] for each in row["scorers"]] == ["one", "two", "three"]
    assert all(each["nli_check"] == (0.5, 66) for each in row["scorers"])
    assert (row["nli"], row["nli_check"]) == ("one", (0.5, 66))
    assert [each["reversed"] is None for each in row["scorers"]] == [False, True, True]
    assert all(len(each["covered"]) == len(doc["explanations"]) for each in row["scorers"])


def test_unread_verdicts_entail_nothing_and_are_counted(hashed: None) -> None:
    lost, told = f"This is {UNREADABLE}.", "Honesty comes first."
    only, mixed, clear = (score([make_doc()], [text])[0] for text in (lost, f"{told} {lost}", told))
    assert (only["coverage"], only["coverage_probability"], only["nli_unread"]) == (0, 0, 1)
    assert mixed["nli_unread"] == 0.5
    assert mixed["coverage_probability"] == clear["coverage_probability"] > 0
    assert mixed["coverage"] == clear["coverage"]


def test_standard_errors_are_clustered_by_situation(hashed: None) -> None:
    docs = [make_doc() | {"cluster": name} for name in "aabc"]
    scores = score(docs, ["Honesty.", "Kindness.", "Trust.", ""])
    summary = {row["metric"]: row["aggregation"] for row in metric_list(METRICS)}
    found = summary["coverage_probability_stderr"](
        [s["coverage_probability_stderr"] for s in scores]
    )
    values = np.array([s["coverage_probability"] for s in scores])
    off = values - values.mean()
    sums = np.array([off[0] + off[1], off[2], off[3]])
    assert found == pytest.approx(math.sqrt((sums**2).sum() * 3 / 2) / 4)
    assert math.isnan(summary["coverage_second"]([s["coverage_second"] for s in scores]))
    assert "coverage_echo_stderr" not in summary


sentences = st.lists(st.text("abcdef", min_size=1, max_size=6), max_size=6)


@given(
    sentences, sentences, st.sampled_from(["sentence", "explanation"]),
    st.sampled_from(["paper", "reference", "reference+empty_response=minus_one"]), st.booleans(),
)  # fmt: skip
def test_more_sentences_never_lower_coverage(
    some: list[str], more: list[str], premise: str, preset: str, unreadable: bool
) -> None:
    doc = make_doc(preset)
    longer = [*some, *more, *([UNREADABLE] if unreadable else [])]
    pairs = [pair for e in doc["explanations"] for pair in coverage.pairs_of(longer, e, premise)]
    table = {pair: tuple(scripted_row("one", *pair)) for pair in pairs}
    item = coverage._Item.of("", doc)
    before, after = (item.covered(texts, premise, table) for texts in (some, longer))
    for rule in ("argmax", "max_probability"):
        assert coverage._score(before, rule) <= coverage._score(after, rule) <= 1
    assert coverage._score(after, "argmax") >= 0
    assert after["unread"] == len(doc["explanations"]) * unreadable


# ---------------------------------------------------------------------- sentences and settings

MARKDOWN = "- One point.\n- Another one\n\n**Third.** And a fourth, e.g. this!\n---\n"


def test_the_references_splitter_is_used_as_it_comes() -> None:
    found = split_sentences(MARKDOWN, "sentence_splitter")
    assert found == SentenceSplitter(language="en").split(text=MARKDOWN)
    assert "" in found
    assert all(split_sentences(MARKDOWN))
    assert split_sentences(" \n\n", "sentence_splitter") == split_sentences(" \n\n") == []


def test_all_wrong_settings_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "find_spec", lambda name: None)
    with pytest.raises(PluralismError) as raised:
        load_docs(
            "overton", data="sample", preset="reference",
            nli="embedded+nobody/no-such-model+", nli_directions="all",
        )  # fmt: skip
    text = str(raised.value)
    assert "4 problem(s)" in text
    for part in (
        "nobody/no-such-model", "empty scorer name", "'all' is unknown. Allowed: one, both",
        "pip install 'pluralism-eval[reference]'", "preset=reference+splitter=sentencex",
    ):  # fmt: skip
        assert part in text


def test_the_reference_without_its_splitter_goes_on_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coverage, "find_spec", lambda name: None)
    docs = load_docs("overton", "sample", "reference+splitter=sentencex", nli="embedded")["test"]
    assert docs[0]["pluralism"]["nli_directions"] == "one"


def test_more_scorers_than_metrics_are_announced(caplog: pytest.LogCaptureFixture) -> None:
    preset = coverage.get_preset("paper")
    found = coverage.scoring("embedded+llm:embedded+llm:dummy", "one", preset)
    assert found["nli"] == "embedded+llm:embedded+llm:dummy"
    assert "first 2 scorers" in caplog.text


MARKERS = ["1.", "2)", "10.", "1.2.", "a.", "b)", "IV.", "ii)", "**4.**", "**5.", "### 6.", "- 7.", "[8]", "9:", "1\\."]  # fmt: skip


@pytest.mark.parametrize("marker", MARKERS)
def test_a_list_marker_is_no_sentence(marker: str) -> None:
    lists = [
        f"{marker} Privacy matters. It protects us.\n{marker} Freedom counts.",
        f"{marker}\nPrivacy matters. It protects us.\n\n{marker}\nFreedom counts.\n{marker}",
    ]
    for text in lists:
        found = split_sentences(text)
        assert [s[s.index(word) :] for s, word in zip(found, ("Priv", "It", "Free"), strict=True)] == [
            "Privacy matters.", "It protects us.", "Freedom counts."
        ]  # fmt: skip
    assert split_sentences(marker) == []


def test_bullets_alone_are_no_sentences_and_short_sentences_stay() -> None:
    assert split_sentences("(3)\nIt is so.") == ["(3) It is so."]
    for bullet in "-*+•":
        assert split_sentences(f"{bullet}\nIt is so.") == ["It is so."]
    for text in ("No.", "It is 5.", "Mix.", "1990.", "Why?", "1", "Civil."):
        assert split_sentences(text) == [text]
