"""Passages are cut evenly, at sentence borders; what surrounds them never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval.context import fit
from pluralism_eval.errors import PluralismError


def count(text: str) -> int:
    return len(text.split())


def render(passages: list[str]) -> str:
    return "read this :\n" + "\n".join(f"- {p}" for p in passages) + "\nquestion ?"


passages = st.lists(st.integers(0, 60).map(lambda n: " ".join(["w"] * n)), min_size=1, max_size=6)


@given(passages, st.integers(12, 300))
def test_fits_keeps_the_frame_and_counts_the_cut(texts: list[str], limit: int) -> None:
    prompt, cuts = fit(render, texts, count, limit)
    assert count(prompt) <= limit
    assert prompt.startswith("read this :")
    assert prompt.endswith("question ?")
    kept = [line.count("w") for line in prompt.split("\n")[1:-1]]
    assert list(cuts) == [count(text) - n for text, n in zip(texts, kept, strict=True)]
    assert sum(cuts) == 0 or count(render(texts)) > limit


def test_short_passages_survive_and_long_ones_share_the_rest() -> None:
    prompt, cuts = fit(render, ["w w", "x " * 40, "y " * 40], count, 30)
    assert (prompt.count("w"), prompt.count("x"), prompt.count("y")) == (2, 10, 10)
    assert cuts == (0, 30, 30)


def test_cuts_fall_at_the_ends_of_sentences() -> None:
    long = "One two three. Four five six seven. Eight nine ten eleven twelve thirteen."
    prompt, cuts = fit(render, ["Short one.", long], count, 18)
    assert prompt.split("\n")[1:-1] == ["- Short one.", "- One two three. Four five six seven."]
    assert cuts == (0, 6)


def test_a_first_sentence_that_is_too_long_is_cut_at_a_word() -> None:
    prompt, cuts = fit(render, ["Aa bb cc dd ee ff gg hh ii jj kk ll."], count, 12)
    assert prompt.split("\n")[1] == "- Aa bb cc dd ee ff"
    assert cuts == (6,)


def test_a_frame_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(PluralismError, match="without any passage"):
        fit(render, ["w"], count, 3)


def test_a_conversation_for_a_chat_api_counts_by_its_text() -> None:
    """lm-eval's JsonChatStr is a tuple of one: its length says nothing about the prompt."""
    from lm_eval.models.api_models import JsonChatStr

    from pluralism_eval.llm.harness import HarnessLLM

    llm = HarnessLLM(object(), "a chat API")
    assert llm.count_tokens(JsonChatStr("x" * 300)) == llm.count_tokens("x" * 300) == 100  # type: ignore[arg-type]
