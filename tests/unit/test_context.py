"""Passages are cut evenly; what surrounds them never is."""

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
    prompt, cut = fit(render, texts, count, limit)
    assert count(prompt) <= limit
    assert prompt.startswith("read this :")
    assert prompt.endswith("question ?")
    assert cut == sum(map(count, texts)) - prompt.count("w")
    assert cut == 0 or count(render(texts)) > limit


def test_short_passages_survive_and_long_ones_share_the_rest() -> None:
    prompt, cut = fit(render, ["w w", "x " * 40, "y " * 40], count, 30)
    assert (prompt.count("w"), prompt.count("x"), prompt.count("y")) == (2, 10, 10)
    assert cut == 60


def test_a_frame_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(PluralismError, match="without any passage"):
        fit(render, ["w"], count, 3)


def test_a_conversation_for_a_chat_api_counts_by_its_text() -> None:
    """lm-eval's JsonChatStr is a tuple of one: its length says nothing about the prompt."""
    from lm_eval.models.api_models import JsonChatStr

    from pluralism_eval.llm.harness import HarnessLLM

    llm = HarnessLLM(object(), "a chat API")
    assert llm.count_tokens(JsonChatStr("x" * 300)) == llm.count_tokens("x" * 300) == 100  # type: ignore[arg-type]
