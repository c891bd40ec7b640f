"""The cloze readout: what is shown, the four normalisations, and one number from every kind of LLM."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pluralism_eval import cloze
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.schema import Query, TextScore
from pluralism_eval.settings import parse
from pluralism_eval.variants import expand
from tests.conftest import ScriptedLM, scripted_logprob
from tests.openai_server import Scripted, Server
from tests.openai_server.scripted import hashed, split

QUERY = Query(
    "k", "t", 0, "0", "x", "distributional", "cloze", "Is it good?\nOptions: A. Very good B. Bad\nAnswer:", "",
    options=("A", "B"), choices=("Very good", "Bad"),
)  # fmt: skip
OPTIONS = ["Very good", "Bad"]
SCORES = [TextScore(-3.0, 2, False), TextScore(-2.0, 1, True)]


def test_a_cloze_shows_neither_letters_nor_options() -> None:
    assert cloze.asked(QUERY) == "Is it good?"
    assert cloze.texts(QUERY) == [" Very good", " Bad"]
    in_chat = replace(QUERY, chat=True)
    assert cloze.texts(in_chat) == OPTIONS
    assert cloze.texts(replace(in_chat, prefill="I say")) == [" Very good", " Bad"]
    assert cloze.asked(replace(QUERY, text="No list here.\nAnswer:")) == "No list here."


def test_texts_follow_the_order_in_which_options_are_listed() -> None:
    turned = expand(replace(QUERY, orders=2), 1, 1)[1]
    assert turned.choices == ("Bad", "Very good")
    assert cloze.texts(turned) == [" Bad", " Very good"]
    assert cloze.asked(turned) == "Is it good?"


@pytest.mark.parametrize(
    ("how", "values"),
    [
        ("sum", [-3.0, -2.0]),
        ("character", [-3.0 / 9, -2.0 / 3]),
        ("token", [-1.5, -2.0]),
        ("pmi", [-3.0 + 5.0, -2.0 + 2.5]),
    ],
)
def test_normalisations(how: str, values: list[float]) -> None:
    found = cloze.read(OPTIONS, SCORES, [-5.0, -2.5], how)
    weights = np.exp(values) / np.exp(values).sum()
    mass = math.exp(-3) + math.exp(-2)
    np.testing.assert_allclose(np.exp(found.logprobs), weights * mass, rtol=1e-12)
    assert (found.greedy, found.texts, found.priors) == (1, tuple(SCORES), (-5.0, -2.5))


def test_pmi_of_the_question_alone_is_uniform_which_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = cloze.read(OPTIONS, SCORES, [-3.0, -2.0], "pmi")
    assert found.logprobs[0] == pytest.approx(found.logprobs[1], abs=1e-12)
    with caplog.at_level(logging.WARNING):
        parse("vanilla", {"llm": "embedded", "cloze_normalisation": "pmi"})
    assert "its answers are uniform" in caplog.text
    caplog.clear()
    parse("moe", {"llm": "embedded", "cloze_normalisation": "pmi"})
    assert "uniform" not in caplog.text


def test_tiny_probabilities_are_read_and_texts_that_were_not_seen_are_not() -> None:
    tiny = cloze.read(
        OPTIONS, [TextScore(-900.0, 9, False), TextScore(-901.0, 9, False)], [], "sum"
    )
    p = np.exp(np.array(tiny.logprobs) - max(tiny.logprobs))
    assert p[1] == pytest.approx(math.exp(-1))
    assert math.isfinite(tiny.logprobs[0])
    lost = cloze.read(
        OPTIONS, [TextScore(-1.0, 1, True), TextScore(-math.inf, 1, False)], [], "sum"
    )
    assert (lost.logprobs, lost.greedy) == ((-math.inf, -math.inf), -1)


PROMPTS = ["Is it good?", "Is it good?", "And this one"]
TEXTS = [[" Very good", " Bad"], [" Bad", " Very good"], [" Bad"]]


def test_any_model_of_lm_eval_scores_texts(scripted: Any) -> None:
    llm = HarnessLLM(ScriptedLM(), "scripted")
    found = llm.text_logprobs(PROMPTS, TEXTS)
    assert [[s.logprob for s in own] for own in found] == [
        [scripted_logprob(p, t) for t in own] for p, own in zip(PROMPTS, TEXTS, strict=True)
    ]
    assert [[s.tokens for s in own] for own in found] == [[4, 2], [2, 4], [2]]
    assert len(scripted.seen) == 3, "equal pairs are asked once"


def test_a_server_that_echoes_scores_texts() -> None:
    with Server(Scripted(distribution=hashed)) as server:
        args = {"model": "model", "base_url": server.url, "api": "completions", "max_length": 2048}
        llm = load_llm(parse("vanilla", {"llm": "openai", "llm_args": args}))
        assert llm.resolve("cloze") == "cloze"
        found = llm.text_logprobs(PROMPTS[:1], [[" yes", " no", " people think"]])[0]
    expected = []
    for text in (" yes", " no", " people think"):
        nats, context = 0.0, PROMPTS[0]
        for token in split(text):
            nats += math.log(hashed(context)[token])
            context += token
        expected.append(nats)
    assert [s.logprob for s in found] == pytest.approx(expected, abs=1e-4)
    assert [s.tokens for s in found] == [1, 1, 2]


def test_settings_of_the_embedded_llm_and_of_others() -> None:
    default = parse("moe", {})
    assert (default.llm, default.readout, default.chat) == ("embedded", "cloze", True)
    paper = parse("moe", {"llm": "scripted"})
    assert (paper.readout, paper.chat) == ("options", False)
    reference = parse("moe", {"preset": "reference"})
    assert (reference.readout, reference.chat) == ("options", False)
    own = parse("vanilla", {"readout": "harness"})
    assert (own.readout, own.chat) == ("harness", False)
    for bad in ({"cloze_normalisation": "mean"}, {"chat": "maybe"}, {"readout": "harness", "chat": True}):  # fmt: skip
        with pytest.raises(PluralismError, match=r"cloze_normalisation=|chat="):
            parse("vanilla", bad)
