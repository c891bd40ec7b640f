"""Entailment scorers: names, a small classifier (mechanics only), an LLM as judge."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.models.api_models import JsonChatStr
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    RobertaConfig,
)

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import entailment
from pluralism_eval.metrics.entailment import (
    Pair,
    check_accuracy,
    load_scorer,
    read_pairs,
    score_pairs,
    scorer_names,
    scorer_problems,
)
from pluralism_eval.metrics.nli_classifier import ClassifierScorer, _longest
from pluralism_eval.metrics.nli_judge import LETTERS, JudgeScorer
from pluralism_eval.prompts import Prompts
from tests.conftest import TEST_DATA, scripted_letter
from tests.openai_server import serve

WORDS = [f"w{i}" for i in range(50)]
PAIRS: list[Pair] = [
    (" ".join(WORDS[i : i + 1 + 3 * i % 17]), " ".join(WORDS[2 * i : 2 * i + 2])) for i in range(9)
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    load_scorer.cache_clear()
    monkeypatch.setattr(entailment, "cache_root", lambda: tmp_path / "cache")
    yield
    load_scorer.cache_clear()


# ---------------------------------------------------------------------- names


def test_names_are_written_out_and_stay_so() -> None:
    names = scorer_names("vitaminc + wanli:float32+deberta+embedded+llm:hf:pretrained=x;dtype=auto")
    assert names == [
        "tals/albert-xlarge-vitaminc-mnli", "alisawuffles/roberta-large-wanli:float32",
        "microsoft/deberta-v2-xlarge-mnli", "embedded", "llm:hf:pretrained=x;dtype=auto",
    ]  # fmt: skip
    assert scorer_names("+".join(names)) == names


def test_a_folder_may_have_a_plus_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a+b"
    folder.mkdir()
    assert scorer_names(str(folder)) == [str(folder)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody/no-such-model", "nli=embedded"),
        ("", "empty scorer name"),
        ("wanli:int8", "float32, float16, bfloat16"),
        ("llm:no_such_lm", "'no_such_lm' is no LLM.* embedded, "),
        ("llm:vanilla", "'vanilla' is no LLM"),
        ("llm:pluralism_moe", "'pluralism_moe' is no LLM"),
        ("llm:hf", "llm=hf needs pretrained"),
        ("llm:hf:pretrained", "key=value;key=value"),
        ("llm:embedded:pretrained=x", "drop llm_args' pretrained"),
        ("llm:embedded:prompts=/no/such/file", "cannot be read"),
    ],
)
def test_what_a_wrong_scorer_is_told(name: str, said: str) -> None:
    problems = scorer_problems(scorer_names(name))
    assert len(problems) == 1
    assert re.search(said, problems[0], re.DOTALL)


# ---------------------------------------------------------------------- a classifier

# Random weights: they show how labels, batches, lengths and the store are handled, nothing else.


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[..., Path]:
    def make(labels: list[str], positions: int = 24) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / "-".join(labels).replace(" ", "_")
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join([*special, *WORDS]))
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(special) + len(WORDS), hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=32, max_position_embeddings=positions,
            id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
            initializer_range=1.0,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder)
        return folder

    return make


VITAMINC = ["SUPPORTS", "REFUTES", "NOT ENOUGH INFO"]


def direct(folder: Path, pair: Pair) -> list[float]:
    """The model's own label → probability, in our order; one pair, no batch."""
    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    inputs = tokenizer(*pair, return_tensors="pt", truncation=True, max_length=24)
    with torch.no_grad():
        found = model(**inputs).logits[0].softmax(-1).tolist()
    named = {model.config.id2label[i]: p for i, p in enumerate(found)}
    return [named["SUPPORTS"], named["NOT ENOUGH INFO"], named["REFUTES"]]


def test_labels_go_by_the_models_own_map_and_batches_change_nothing(
    classifier: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = classifier(VITAMINC)
    scorer = ClassifierScorer(str(folder))
    monkeypatch.setattr(scorer, "_budget", 50)  # padded tokens: batches of two and more
    rows = scorer.probabilities(PAIRS)
    np.testing.assert_allclose(rows, [direct(folder, pair) for pair in PAIRS], atol=1e-5)
    assert rows.std(axis=0).min() > 0.01  # the order of rows is tested, too


def test_a_batch_has_a_cap_on_its_padded_tokens(
    classifier: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = ClassifierScorer(str(classifier(VITAMINC)))
    monkeypatch.setattr(scorer, "_budget", 50)
    seen: list[int] = []
    forward = scorer._model.forward

    def watched(**inputs: Any) -> Any:
        seen.append(inputs["input_ids"].numel())
        return forward(**inputs)

    monkeypatch.setattr(scorer._model, "forward", watched)
    scorer.probabilities(PAIRS)
    assert max(seen) <= 50
    assert 1 < len(seen) < len(PAIRS)


def test_cut_pairs_are_counted_once_a_call(
    classifier: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = classifier(VITAMINC)
    long = (" ".join(WORDS[:30]), "w1 w2")
    for _ in range(2):  # cached scores are as cut as new ones
        caplog.clear()
        scores = score_pairs(str(folder), [*PAIRS, long, long])
        said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert [f"1 of {len(PAIRS) + 1} pairs are longer" in text for text in said] == [True]
    assert scores[long] == pytest.approx(direct(folder, long), abs=1e-5)
    both = (" ".join(WORDS[:30]), " ".join(WORDS[20:50]))
    assert sum(score_pairs(str(folder), [both])[both]) == pytest.approx(1)


def test_a_pair_is_scored_once_and_never_again(
    classifier: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(classifier(VITAMINC))
    asked: list[Pair] = []
    original = ClassifierScorer.probabilities

    def watched(self: ClassifierScorer, pairs: Any) -> np.ndarray:
        asked.extend(pairs)
        return original(self, pairs)

    monkeypatch.setattr(ClassifierScorer, "probabilities", watched)
    first = score_pairs(name, [*PAIRS, *PAIRS])
    assert sorted(asked) == sorted(set(PAIRS))
    load_scorer.cache_clear()  # as in a new process
    assert score_pairs(name, PAIRS) == first
    assert len(asked) == len(set(PAIRS))


def test_what_was_scored_before_a_crash_is_kept(
    classifier: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(classifier(VITAMINC))
    scorer = load_scorer(name)
    monkeypatch.setattr(scorer, "lot", 2)
    original, calls = ClassifierScorer.probabilities, [0]

    def failing(self: ClassifierScorer, pairs: Any) -> np.ndarray:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return original(self, pairs)

    monkeypatch.setattr(ClassifierScorer, "probabilities", failing)
    with pytest.raises(KeyboardInterrupt):
        score_pairs(name, PAIRS)
    score_pairs(name, PAIRS)
    assert calls[0] == 3 + math.ceil((len(set(PAIRS)) - 4) / 2)


def test_other_labels_weights_or_formats_are_other_scores(classifier: Callable[..., Path]) -> None:
    one, other = classifier(VITAMINC), classifier(["contradiction", "neutral", "entailment"])
    names = [str(one), str(other), f"{one}:bfloat16", f"{one}:float16"]
    identities = {ClassifierScorer(name).identity for name in names}
    assert len(identities) == 4
    assert ClassifierScorer(f"{one}:float32").identity == ClassifierScorer(str(one)).identity
    half = ClassifierScorer(f"{one}:float16").probabilities(PAIRS)
    np.testing.assert_allclose(half, ClassifierScorer(str(one)).probabilities(PAIRS), atol=0.02)


def test_nan_logits_are_an_error_with_a_way_out(classifier: Callable[..., Path]) -> None:
    folder = classifier(VITAMINC)
    scorer = ClassifierScorer(f"{folder}:float16")
    scorer._model.classifier.weight.data.fill_(6e4)  # overflows float16
    with pytest.raises(PluralismError, match=f"NaN logits in float16.*nli={folder}:float32"):
        scorer.probabilities(PAIRS)


@pytest.mark.parametrize(
    "labels", [["entailment", "not_entailment"], ["LABEL_0", "LABEL_1", "LABEL_2"]]
)
def test_three_known_labels_are_needed(classifier: Callable[..., Path], labels: list[str]) -> None:
    problems = scorer_problems([str(classifier(labels))])
    assert "three are needed: entailment, neutral, contradiction" in problems[0]


def test_robertas_window_is_shorter_than_its_positions() -> None:
    class Unlimited:
        model_max_length = int(1e30)

    assert _longest(RobertaConfig(max_position_embeddings=514), Unlimited()) == 512
    assert _longest(BertConfig(max_position_embeddings=512), Unlimited()) == 512


# ---------------------------------------------------------------------- an LLM as judge


def judge_prompt(pair: Pair) -> str:
    return Prompts().render("entailment", "judge", premise=pair[0], hypothesis=pair[1])


def test_the_judges_letters_become_probabilities(scripted: Any) -> None:
    scores = score_pairs("llm:scripted", PAIRS)
    for pair in PAIRS:
        weights = np.exp([scripted_letter(judge_prompt(pair), letter) for letter in LETTERS])
        assert scores[pair] == pytest.approx(weights / weights.sum())
    assert {kind for kind, _ in scripted.seen} == {"score"}
    n = len(scripted.seen)
    load_scorer.cache_clear()
    assert score_pairs("llm:scripted", PAIRS) == scores
    assert len(scripted.seen) == n + 1  # the probe of a new process


def test_the_judge_is_not_shown_what_it_is_checked_on() -> None:
    shown = judge_prompt(("", ""))
    assert not any(text in shown for pair, _ in read_pairs("nli_check.jsonl") for text in pair)


REPLIES = {
    "A": 0, " b.": None, "B": 1, "(C)": 2, "**A**": 0, "Answer: C": 2, "The answer is B.": 1, "A: it is true": 0,
    "": None, "entailment": None, "A person helps": None, "A or B": None, "A. or B.": None, "D": None, "Yes, A": None,
}  # fmt: skip


def test_a_judge_without_logprobs_is_read_strictly(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scripted, "can_score", False)
    pairs = [(f"Premise {i}.", "It is so.") for i in range(len(REPLIES))]
    by_prompt = dict(zip(map(judge_prompt, pairs), REPLIES, strict=True))
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: by_prompt[prompt]))
    scores = score_pairs("llm:scripted", pairs)
    for pair, (reply, label) in zip(pairs, REPLIES.items(), strict=True):
        if label is None:
            assert all(map(math.isnan, scores[pair])), reply
            assert not entailment.is_entailed(scores[pair])
        else:
            assert scores[pair] == tuple(float(i == label) for i in range(3)), reply
    unread = list(REPLIES.values()).count(None)
    assert f"{unread} of {len(REPLIES)} pairs are without a readable verdict" in caplog.text
    again = score_pairs("llm:scripted", pairs)
    assert [repr(row) for row in again.values()] == [repr(row) for row in scores.values()]
    assert [kind for kind, _ in scripted.seen] == ["generate"] * len(pairs)


def test_an_unreadable_judge_has_no_accuracy(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "can_score", False)
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: "I cannot say."))
    assert check_accuracy("llm:scripted") == (0.0, len(read_pairs("nli_check.jsonl")))


CHAT = "llm:local-chat-completions:"


def test_a_judge_that_takes_chat_turns_only_gets_one(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def template(self: Any, turns: list[dict[str, str]], **_: Any) -> JsonChatStr:
        return JsonChatStr(json.dumps(turns))

    monkeypatch.setattr(scripted, "can_score", False)
    monkeypatch.setattr(scripted, "apply_chat_template", template)
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: "B"))
    assert score_pairs("llm:scripted", [("P.", "H.")])["P.", "H."] == (0, 1, 0)
    _, sent = scripted.seen[-1]
    assert isinstance(sent, JsonChatStr)
    assert json.loads(sent.prompt) == [{"role": "user", "content": judge_prompt(("P.", "H."))}]


def test_a_chat_api_as_judge() -> None:
    pytest.importorskip("tenacity", reason="lm-eval[api] is not installed")
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[str, int, str, float | None]:
        asked.append(body)
        letter = "A" if "Premise: Rain.\n" in str(body["messages"][0]["content"]) else "C"
        return letter, 1, "stop", None

    with serve(["judge"], answer) as url:
        name = f"{CHAT}model=judge;base_url={url}/chat/completions"
        assert scorer_problems([name]) == []
        scores = score_pairs(name, [("Rain.", "Water."), ("Sun.", "Water.")])
    assert list(scores.values()) == [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)]
    assert [m["role"] for body in asked for m in body["messages"]] == ["user", "user"]
    assert {(body["max_tokens"], body["temperature"]) for body in asked} == {(10, 0)}


def test_an_api_judge_that_cannot_be_built_is_known_before_it_is_needed() -> None:
    problems = scorer_problems([f"{CHAT}max_length=no_number"])
    assert re.search("cannot be built.*key=value;key=value", problems[0])


def test_a_judges_identity_is_its_model_and_its_wording(scripted: Any, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("entailment: {judge: '{{ premise }} / {{ hypothesis }} /'}")
    names = ["llm:scripted", f"llm:scripted:prompts={file}", "llm:scripted:max_length=512"]
    scorers = [JudgeScorer(name) for name in names]
    assert len({scorer.identity for scorer in scorers}) == 3
    scorers[1].probabilities([("a", "b")])
    assert scripted.seen[-1] == ("score", "a / b /")


def test_a_premise_that_does_not_fit_is_cut_and_counted(
    scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    long = (" ".join(["word"] * 600), "It is so.")
    score_pairs("llm:scripted:max_length=512", [long, ("Short.", "It is so.")])
    assert "1 of 2 pairs are longer" in caplog.text
    prompt = max((text for _, text in scripted.seen), key=len)
    assert "word word" in prompt
    assert prompt.endswith("Hypothesis: It is so.\nAnswer:")
    assert len(scripted().tok_encode(prompt)) <= 512


@pytest.mark.model
@pytest.mark.skipif(
    not (TEST_DATA / "nli").is_dir(), reason=f"the NLI pairs are not at {TEST_DATA / 'nli'}"
)
def test_the_embedded_judge_on_real_pairs() -> None:
    lines = (TEST_DATA / "nli" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [(row["premise"], row["hypothesis"]) for row in map(json.loads, lines[::60])]
    scorer = JudgeScorer("llm:embedded")
    rows = scorer.probabilities(pairs)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert (rows > 0).all()
    alone = np.concatenate([scorer.probabilities([pair]) for pair in pairs])
    np.testing.assert_allclose(rows, alone, atol=1e-4)
