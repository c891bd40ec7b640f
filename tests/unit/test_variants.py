"""One query in several ways: orders, reordering of real texts, and the answer made of the readings."""

from __future__ import annotations

import json
import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval.data.docs import load_docs
from pluralism_eval.distribution import to_logprobs
from pluralism_eval.metrics.options import first_listed
from pluralism_eval.schema import Answer, Query
from pluralism_eval.tasks.items import VK_OPTIONS
from pluralism_eval.variants import combine, expand, option_orders, reorder, spreads
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs


def query(options: tuple[str, ...], orders: int, text: str | None = None) -> Query:
    letters = "ABCDE"[: len(options)]
    listed = " ".join(f"{x}. {o}" for x, o in zip(letters, options, strict=True))
    return Query(
        key="t/0", task="t", doc_id=0, source_id="0", source_input="", mode="distributional", readout="letters",
        text=text or f"Question: Q?\nOptions: {listed}\nAnswer:", options=tuple(letters), choices=options, orders=orders,
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_orders_are_different_start_as_listed_and_then_reversed(n: int) -> None:
    everything = option_orders(n, 100)
    assert len(set(everything)) == len(everything) == (n if n < 3 else 2 * n)
    assert set(everything) <= set(permutations(range(n)))
    assert everything[:2] == [tuple(range(n)), tuple(range(n))[::-1]][: len(everything)]
    places = np.array(everything)
    for option in range(n):  # every option visits every place equally often
        assert len({int((places[:, place] == option).sum()) for place in range(n)}) == 1


@st.composite
def questions(draw: Any) -> tuple[str, ...]:
    words = st.text("abc XY'.,", min_size=1, max_size=8).filter(lambda t: bool(t.strip()))
    return tuple(draw(st.lists(words, min_size=2, max_size=5, unique_by=str.strip)))


@given(questions(), st.randoms())
def test_reordering_moves_the_options_and_can_be_undone(
    options: tuple[str, ...], random: Any
) -> None:
    asked = query(options, 1)
    order = list(range(len(options)))
    random.shuffle(order)
    text = reorder(asked.text, asked.options, options, order)
    if text is None:  # the options happen to spell a second list
        return
    shown = [options[i] for i in order]
    for letter, option in zip(asked.options, shown, strict=True):
        assert f"{letter}. {option.strip()}" in text
    back = reorder(text, asked.options, shown, [order.index(i) for i in range(len(order))])
    assert back is None or back == reorder(asked.text, asked.options, options, range(len(options)))


@needs_authors_inputs
@pytest.mark.parametrize("task", ["vk", "opinionqa", "moralchoice", "globalopinionqa"])
def test_every_released_question_can_be_reordered(task: str) -> None:
    for doc in load_docs(task, data=str(AUTHORS_INPUTS))["test"]:
        letters, options = doc["letters"], doc["options"]
        backwards = list(range(len(options)))[::-1]
        text = reorder(doc["query"], letters, options, backwards)
        assert text is not None, doc["query"]
        assert sorted(text.split()) == sorted(doc["query"].split())
        assert f"A. {options[-1].strip()}" in text
        assert doc["pluralism"]["options"] == options
        assert task != "vk" or tuple(options) == VK_OPTIONS


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.integers(1, 10))
def test_a_content_reader_keeps_its_answer_and_a_position_reader_is_averaged_out(
    weights: list[float], orders: int
) -> None:
    n = len(weights)
    truth = np.array(weights) / sum(weights)
    asked = query(tuple(f"o{i}" for i in range(n)), orders)
    ways = expand(asked, 1, 1)
    assert len(ways) == len(option_orders(n, orders))

    def answers(by_content: bool) -> list[Answer]:
        shown = [truth[list(way.order or range(n))] if by_content else truth for way in ways]
        return [Answer(logprobs=to_logprobs(list(d), 0.5), greedy=int(np.argmax(d))) for d in shown]

    content = np.exp(combine(ways, answers(True)).logprobs)
    assert content == pytest.approx(0.5 * truth)
    if len(ways) > 1:
        readings = [
            {"order": r.order, "template": 0, "sample": 0, "distribution": r.distribution, "mass": r.mass}
            for r in combine(ways, answers(True)).readings
        ]  # fmt: skip
        assert spreads(readings)["order"] == pytest.approx(0, abs=1e-9)
    if orders >= 2 * n:  # all orders: position says nothing
        position = combine(ways, answers(False))
        assert np.exp(position.logprobs) == pytest.approx([0.5 / n] * n)


def test_what_could_not_be_read_is_left_out_of_the_mean_and_lowers_the_mass() -> None:
    asked = query(("yes", "no"), 2)
    ways = expand(asked, 1, 1)
    unread = Answer(logprobs=(-math.inf, -math.inf))
    found = combine(ways, [Answer(logprobs=(math.log(0.6), math.log(0.2)), greedy=0), unread])
    assert np.exp(found.logprobs) == pytest.approx([0.3, 0.1])
    assert [r.mass for r in found.readings] == pytest.approx([0.8, 0])
    assert np.isneginf(combine(ways, [unread, unread]).logprobs).all()


def test_a_single_reading_is_passed_on_as_it_is() -> None:
    asked = query(("yes", "no"), 1)
    answer = Answer(logprobs=(-0.123, -4.0), greedy=0)
    assert combine(expand(asked, 1, 1), [answer]) is answer
    text = query(("yes", "no"), 2, "No list here.\nAnswer:")
    assert [way.order for way in expand(text, 1, 1)] == [()]


def test_all_combinations_are_asked_and_each_factor_has_its_spread() -> None:
    ways = expand(query(("yes", "no"), 2), templates=2, samples=3)
    assert len({(w.order, w.template, w.sample) for w in ways}) == len(ways) == 12
    readings = [
        {"order": w.order, "template": w.template, "sample": w.sample, "mass": 1.0,
         "distribution": (0.5 + 0.1 * w.template, 0.5 - 0.1 * w.template)}
        for w in ways
    ]  # fmt: skip
    found = spreads(json.loads(json.dumps(readings)))
    assert found == {"order": 0, "template": pytest.approx(0.1), "sample": pytest.approx(0)}


def test_always_first_under_orders() -> None:
    assert first_listed(2, 1) == [1, 0]
    assert first_listed(2, 2) == [0.5, 0.5]
    assert first_listed(3, 2) == [0.5, 0, 0.5]
    assert first_listed(3, 6) == pytest.approx([1 / 3] * 3)
