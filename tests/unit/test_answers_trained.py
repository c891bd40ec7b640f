"""Rows of questions and situations: only what is answered is scored, and topics are held out whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from pluralism_eval.corpora import read_corpus
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.settings import parse
from pluralism_eval.train import _batch, _examples, tokens_of
from tests.unit.test_identity import made

__all__ = ["made"]  # a fixture


def rows(n: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for i in range(n):
        found.append({"topic": f"t{i}", "question": f"Is {i} good?", "options": ["Yes", "No"], "answer": "No", "reasons": f"It is {i}."})  # fmt: skip
        found.append({"topic": f"t{i}", "situation": f"Doing {i}.", "view": f"I like {i}."})
    return found


def write(folder: Path, given: list[dict[str, object]]) -> str:
    file = folder / "c.jsonl"
    file.write_text("\n".join(map(json.dumps, given)))
    return str(file)


def test_topics_are_held_out_whole(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, rows(13)))
    assert {piece.topic for piece in corpus.held_out} == {"t5", "t11"}
    assert (len(corpus.held_out), len(corpus.training)) == (4, 22)
    first, second = corpus.pieces[:2]
    assert first.text == "No. It is 0."
    assert first.options == ("Yes", "No")
    assert first.prompt.startswith("Is 0 good?\nPossible answers:\n- Yes\n- No\nWhich one")
    assert second.prompt.startswith("Please comment on the following situation: Doing 0.\nGive")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"answer": "Maybe"}, "none of the options"), ({"options": "Yes"}, "a list of texts"), ({"reasons": " "}, "not text")],
)  # fmt: skip
def test_bad_rows(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    with pytest.raises(PluralismError, match=rf"row 1.*{reason}"):
        read_corpus(write(tmp_path, [rows(1)[0] | change, *rows(13)]))


def test_only_the_answer_is_scored(tmp_path: Path, made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(made / "base"))
    pieces = read_corpus(write(tmp_path, rows(13))).training
    prompt, answer = tokens_of(tokenizer, pieces[0])
    assert tokenizer.decode(prompt).replace(" ", "").startswith("<user>Is0good?")
    assert answer[-1] == tokenizer.eos_token_id
    examples = _examples(tokenizer, pieces[:2], 64)
    assert examples[0] == {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
    model = AutoModelForCausalLM.from_pretrained(str(made / "base"))
    batch = _batch(examples, model)
    kept = [[t for t in row if t != -100] for row in batch["labels"].tolist()]
    assert kept == [answer, tokens_of(tokenizer, pieces[1])[1]]
    assert batch["labels"].shape[1] == batch["logits_to_keep"] < batch["input_ids"].shape[1]


def test_texts_of_a_transformers_model_equal_a_plain_loop(made: Path) -> None:
    import torch

    llm = load_llm(parse("vanilla", {"llm": "hf", "pretrained": str(made / "base")}))
    prompts, texts = ["Is it?", "Or"], [[" yes", " no way"], [" so"]]
    found = llm.text_logprobs(prompts, texts)
    for prompt, own, scores in zip(prompts, texts, found, strict=True):
        begin = len(llm.inner.tok_encode(prompt))
        for text, score in zip(own, scores, strict=True):
            ids = torch.tensor([llm.inner.tok_encode(prompt + text)])
            with torch.inference_mode():
                logprobs = llm.inner.model(ids).logits[0].float().log_softmax(-1)
            nats = sum(float(logprobs[i - 1, ids[0, i]]) for i in range(begin, ids.shape[1]))
            assert score.logprob == pytest.approx(nats, abs=1e-4)
            assert score.tokens == ids.shape[1] - begin


def test_pieces_of_too_few_topics_leave_nothing_to_hold_out(tmp_path: Path) -> None:
    few = [row | {"topic": str(i % 5)} for i, row in enumerate(rows(13))]
    with pytest.raises(PluralismError, match="5 different topics; at least 6"):
        read_corpus(write(tmp_path, few))
