"""What an LLM says, read as a number, a letter or shares; and what a server sends."""

from __future__ import annotations

import json
import math
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval import replies
from pluralism_eval.api.replies import Reply, read_reply
from pluralism_eval.distribution import read
from pluralism_eval.llm.openai_scores import ending, from_top, summed
from pluralism_eval.readouts import check_logprobs
from tests.fuzz import JSON, TEXTS, fuzz, mutated, ours
from tests.unit.test_replies import naive_letter

PIECES = st.sampled_from(
    ["The answer is ", "answer: ", "Comment ", "number", "A", "B", "C.", "(D)", "1", "2", "12", " 3,", "%", "40", ".5", "0.25", "\n", "\t",
     " ", ":", ": ", "-", "—", "’", "'", "**", "A:", "B =", "É", "ﬁ", "²", "١", "½", "ß", "İ", "9" * 5000, "Support", "Opposes", "it depends",
     "either", "not", "{", "}", '"A"', '"B": ', "\u2028", "\ud800", "\0"]
)  # fmt: skip
SAID = st.one_of(st.lists(PIECES, max_size=9).map("".join), TEXTS)
LETTERS = st.integers(1, 26).map(lambda n: string.ascii_uppercase[:n])
OPTIONS = st.lists(
    st.sampled_from(["Support", "Oppose", "Either", "a (b", "İ", "A", "B.", "yes.*", "\\d", "12"]),
    max_size=5,
)


@given(SAID, st.integers(1, 12))
@fuzz(100)
def test_a_choice_is_one_of_the_numbers_or_unclear(said: str, n: int) -> None:
    found = replies.parse_choice(said, n)
    assert found is None or 0 <= found < n
    if found is not None:
        assert str(found + 1) in said or not said.isascii()


@given(
    st.integers(1, 40),
    st.data(),
    st.sampled_from(["", "Comment ", "The answer is ", "**", "Answer: #"]),
    st.sampled_from(["", ".", ")", " because it is good", "\nnot 1, 2 or 3", "**"]),
)
@fuzz(100)
def test_a_number_said_plainly_is_read(n: int, data: Any, lead: str, end: str) -> None:
    number = data.draw(st.integers(1, n))
    assert replies.parse_choice(f"{lead}{number}{end}", n) == number - 1
    other = data.draw(st.integers(1, n))
    both = replies.parse_choice(f"{lead}{number} or {other}{end}", n)
    assert both == (number - 1 if number == other else None)


@given(SAID, LETTERS, OPTIONS, st.sampled_from(["strict", "authors"]))
@fuzz(100)
def test_an_answer_is_one_of_the_options_or_unparsed(
    said: str, letters: str, options: list[str], rule: str
) -> None:
    options = options[: len(letters)]
    found = replies.parse_answer(rule, said, letters, options)
    assert found is None or 0 <= found < max(len(letters), 3)
    if rule == "strict" and found is not None:
        opened = found < len(options) and options[found].lower() in said.lower()
        assert letters[found] in said or opened


@given(LETTERS, st.data(), st.sampled_from(["", "The answer is ", "My answer: ", "("]))
@fuzz(100)
def test_a_letter_said_plainly_is_read(letters: str, data: Any, lead: str) -> None:
    letter = data.draw(st.sampled_from(letters))
    for end in ("", ".", ")", ". Because.", ": yes", "\nB is wrong"):
        assert replies.parse_option(f"{lead}{letter}{end}", letters) == letters.index(letter)
    other = data.draw(st.sampled_from(letters))
    both = replies.parse_option(f"{lead}{letter}. {other}.", letters)
    assert both == (letters.index(letter) if letter == other else None)


@given(SAID)
@fuzz(100)
def test_the_authors_rules_are_those_of_their_code(said: str) -> None:
    found = replies.parse_option_authors(said)
    assert (found or "Z") == naive_letter(said) or (found is None and naive_letter(said) not in "ABCDE")  # fmt: skip
    assert replies.parse_stance_authors(said) in (0, 1, 2, None)


@given(st.one_of(SAID, JSON.map(json.dumps), mutated({"A": 40, "B": 60}).map(json.dumps)), LETTERS)
@fuzz(100)
def test_shares_are_a_distribution_or_unclear(said: str, letters: str) -> None:
    found = replies.parse_shares(said, letters)
    if found is not None:
        assert len(found) == len(letters)
        assert sum(found) == pytest.approx(1)
        assert all(0 <= value <= 1 for value in found)


@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=9).filter(sum),
    st.randoms(use_true_random=False),
)
@fuzz(100)
def test_shares_said_plainly_are_read(counts: list[int], random: Any) -> None:
    shares = [count / sum(counts) for count in counts]
    letters = string.ascii_uppercase[: len(shares)]
    rows = list(zip(letters, shares, strict=True))
    random.shuffle(rows)
    written = {letter: round(100 * share, 3) for letter, share in rows}
    lines = "\n".join(f"{letter}. {share}%" for letter, share in written.items())
    for said in (lines, json.dumps(written), json.dumps(dict(rows))):
        assert replies.parse_shares(said, letters) == pytest.approx(shares, abs=1e-4)
    twice = json.dumps(written)[:-1] + f', "A": {written["A"]}}}'
    assert replies.parse_shares(twice, letters) is None, "A is said twice"


@pytest.mark.parametrize("piece", [" ", "answer ", "the ", "A", "1 ", "(", "*", "'", "A: ", "{", "\u2028", "."])  # fmt: skip
def test_long_replies_take_no_long_time(piece: str) -> None:
    said = piece * 20_000
    started = time.monotonic()
    replies.parse_choice(said, 6)
    replies.parse_option(said, "ABCDE", ["Support", "Oppose"])
    replies.parse_option_authors(said)
    replies.parse_shares(said, "ABCDE")
    assert time.monotonic() - started < 5


# ---------------------------------------------------------------------- servers

CHAT = {
    "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A", "refusal": None},
         "logprobs": {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A", "logprob": -0.1}, {"token": " B", "logprob": -3.0}]}]}},
        {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": None}, "logprobs": None},
    ],
}  # fmt: skip
TEXT = {
    "model": "m", "usage": {"prompt_tokens": 2, "completion_tokens": 1},
    "choices": [
        {"index": 0, "finish_reason": "stop", "text": "Q A B",
         "logprobs": {"tokens": ["Q", " A", " B"], "token_logprobs": [None, -0.5, -1.0], "top_logprobs": [None, {" A": -0.5}, {" C": -0.2}]}}
    ],
}  # fmt: skip


@given(st.one_of(mutated(CHAT), mutated(TEXT), mutated(CHAT, 9), JSON), st.booleans())
@fuzz(100)
def test_any_json_of_a_server_is_a_reply_or_an_error(raw: Any, echo: bool) -> None:
    with ours():
        reply = read_reply(raw, echo)
        assert isinstance(reply, Reply)
        assert reply.prompt_tokens >= 0
        assert reply.new_tokens >= 0
        for choice in reply.choices:
            assert isinstance(choice.text, str)
            choice.text.encode()
            assert not (choice.refused and choice.text)
            assert len(choice.tokens) == len(choice.logprobs)
            numbers = [v for v in (*choice.logprobs, *choice.best) if v is not None]
            assert all(isinstance(v, float) and v <= 0.01 for v in numbers), "no NaN, none above 0"
            top = [v for _, v in choice.first or ()]
            assert top == sorted(top, reverse=True)
            for count in (None, 1):
                with ours():
                    scores = from_top(choice, ("A", "B"), count)
                    assert 0 <= scores.unseen <= 1
                    check_logprobs("m", [scores.logprobs])
                    distribution, mass = read(scores.logprobs)
                    assert sum(distribution) == pytest.approx(1)
                    assert mass <= 2.1
        if reply.choices:
            tokens, value, greedy = ending(reply, " A")
            assert not math.isnan(value)
            summed([[(tokens, value, greedy)]])
