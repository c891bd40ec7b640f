"""What an LLM's words mean: strictly, and as the authors' code reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval import replies

LETTERS, OPTIONS = ("A", "B", "C"), ("Support", "Oppose", "Either")


@pytest.mark.parametrize(
    ("reply", "strict", "authors"),
    [
        ("A", 0, 0), (" B. Oppose", 1, 1), ("(C)", 2, 2), ("**B**", 1, 1), ("The answer is C.", 2, 2), ("Answer: B", 1, 0),
        ("My answer is A: Support", 0, 0), ("A: because B is bad", 0, 0), ("C - Either", 2, 2), ("Option B", 1, 1),
        ("Supports.", 0, 0), ("Oppose", 1, 1), ("Either support or oppose", 2, 0), ("It depends", None, 2),
        ("A good question", None, 0), ("A-list people", None, 0), ("A or B", None, 0), ("Answer A, not B.", None, 0),
        ("I think it supports the situation", None, 0), ("I would oppose it", None, 1), ("hm", None, None), ("", None, None),
        ("D", None, None), ("D. It depends", None, 2), ("Because", None, 1), ("so (B)", None, 1), ("x\nsomething else C", None, 2),
    ],
)  # fmt: skip
def test_option_letters(reply: str, strict: int | None, authors: int | None) -> None:
    assert replies.parse_answer("strict", reply, LETTERS, OPTIONS) == strict
    assert replies.parse_answer("authors", reply, LETTERS, OPTIONS) == authors


def test_survey_letters_have_no_words_in_the_authors_rule() -> None:
    options = ("Yes", "No", "Maybe")
    assert replies.parse_answer("authors", "it supports", LETTERS, options) is None
    assert replies.parse_answer("authors", "E", LETTERS, options) is None
    assert replies.parse_answer("strict", "Maybe so", LETTERS, options) == 2


def naive_letter(response: str) -> str:
    """The authors' eight rules, written out as the data sheet states them."""
    word, lower = response.strip().split(" ")[0], response.lower()
    for x in "ABCDE":
        if x in word:
            return x
    for phrase in ("the answer is ", "answer: "):
        for x in "abcde":
            if phrase + x in lower:
                return x.upper()
    for x in "ABCDE":
        if f" {x} " in response or f" {x}." in response:
            return x
    for x in "abcde":
        if "the correct answer is " + x in lower:
            return x.upper()
    for x in "ABCDE":
        if x + ": " in response:
            return x
    for x in "ABCDE":
        if x + "\n" in response or (response and response[-1] == x):
            return x
    return next((x for x in "ABCDE" if f"({x})" in response), "Z")


@given(
    st.lists(
        st.sampled_from(
            ["A", "B", "C", "D", "E", "a", "the answer is ", "answer: ", "The correct answer is ", " ", ".", ": ", "\n", "(B)",
             "(", ")", "so", "Maybe", "no"]
        ), max_size=8,
    )
)  # fmt: skip
def test_the_authors_rules_in_any_text(parts: list[str]) -> None:
    text = "".join(parts)
    assert (replies.parse_option_authors(text) or "Z") == naive_letter(text)


@pytest.mark.parametrize(
    ("reply", "shares"),
    [
        ("A: 40%\nB: 35%\nC: 25%", [0.4, 0.35, 0.25]), ("A 40 B 30 C 30", [0.4, 0.3, 0.3]), ("A. 0.4, B. 0.3, C. 0.3", [0.4, 0.3, 0.3]),
        ("C: 10%\nA: 50%\nB: 40%", [0.5, 0.4, 0.1]), ("A. Support: 40%\nB. Oppose: 50%\nC. Either: 10%", [0.4, 0.5, 0.1]),
        ("A: 1 B: 0 C: 0", [1, 0, 0]), ("A: 33% B: 33% C: 33%", [1 / 3] * 3), ("A: 40%", None), ("A: 90% B: 90% C: 0%", None),
        ("A: 0 B: 0 C: 0", None), ("A: 40% A: 40% B: 10% C: 10%", None), ("A: -5% B: 105% C: 0%", None), ("", None), ("50/50", None),
        ("A: forty B: 30 C: 30", None), ("A: nan% B: 50% C: 50%", None),
    ],
)  # fmt: skip
def test_stated_percentages(reply: str, shares: list[float] | None) -> None:
    assert replies.parse_shares(reply, LETTERS) == (pytest.approx(shares) if shares else None)


@given(st.text(max_size=60), st.integers(2, 5))
def test_no_text_breaks_a_parser(text: str, n: int) -> None:
    letters = "ABCDE"[:n]
    index = replies.parse_option(text, letters, OPTIONS)
    assert index is None or 0 <= index < max(n, len(OPTIONS))
    found: Any = replies.parse_shares(text, letters)
    assert found is None or sum(found) == pytest.approx(1)
    replies.parse_stance_authors(text)
