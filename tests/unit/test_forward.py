"""Logits of several prompts at once, against each prompt alone."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CohereConfig, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pluralism_eval import utilisation
from pluralism_eval.llm.forward import _A_PASS, Opening, next_logits, passes

SMALL = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.6, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "mistral, a window of 8": MistralConfig(**SMALL, sliding_window=8),
    "gemma 2, logits capped": Gemma2Config(**SMALL, head_dim=8),
    "cohere, logits scaled": CohereConfig(**SMALL, logit_scale=0.3),
    "gpt2": GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, initializer_range=0.6),
}


def prompts() -> list[list[int]]:
    draw = random.Random(2)
    return [[draw.randrange(1, 40) for _ in range(n)] for n in (1, 30, 7, 12, 30, 2)]


def model_of(name: str) -> Any:
    torch.manual_seed(4)
    return AutoModelForCausalLM.from_config(CONFIGS[name]).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_each_prompt_as_if_alone(name: str) -> None:
    model = model_of(name)
    found, _ = next_logits(model, prompts())
    for row, prompt in zip(found, prompts(), strict=True):
        with torch.inference_mode():
            alone = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_opening_is_computed_once_and_changes_nothing(name: str) -> None:
    model = model_of(name)
    begin = [7, 3, 9, 1, 30, 2] * 4
    asked = [[*begin, *prompt] for prompt in prompts()] * 4
    with utilisation.phase(f"opening of {name}"):
        opening = Opening.of(model, asked)
        assert opening is not None
        assert opening.tokens == begin
        found, _ = next_logits(model, asked, opening, use_cache=False)
    expected, _ = next_logits(model, asked, use_cache=False)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    again, output = next_logits(model, asked[:3], opening)
    assert output.past_key_values.get_seq_length() == len(begin), "rows' own keys are held"
    torch.testing.assert_close(again, expected[:3], atol=1e-4, rtol=1e-4)
    assert utilisation.snapshot()[f"opening of {name}"].prefilled == len(begin)


def test_an_opening_leaves_every_prompt_a_token_and_saves_enough() -> None:
    model, begin = model_of("llama"), [5] * 40
    asked = [[*begin, 2, 3], begin, [*begin, 1]] * 5
    opening = Opening.of(model, asked)
    assert opening is not None
    assert len(opening) == 39
    assert Opening.of(model, asked[:3]) is None  # a few tokens
    assert Opening.of(model, [*asked, [4, 4]]) is None
    assert Opening.of(model, [[5, 6]] * 900) is None
    assert Opening.of(model, []) is None


def test_the_head_sees_one_position_a_prompt_and_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen = model_of("llama"), []
    forward = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda x: (seen.append(x.shape), forward(x))[1])
    next_logits(model, prompts())
    assert [tuple(shape) for shape in seen] == [(6, 1, 32)]
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 40)


def test_a_model_that_hides_its_head_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    expected, _ = next_logits(model, prompts())
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    torch.testing.assert_close(next_logits(model, prompts())[0], expected)


@given(st.lists(st.integers(1, 300), max_size=8), st.integers(1, 800))
def test_no_other_division_into_passes_is_cheaper(lengths: list[int], most: int) -> None:
    """Against every division of the rows, longest first, that is allowed."""

    def cost(parts: list[list[int]]) -> int:
        return sum(len(part) * max(part) + _A_PASS for part in parts)

    found = [[lengths[i] for i in batch] for batch in passes(lengths, most)]
    assert sorted(i for batch in passes(lengths, most) for i in batch) == [*range(len(lengths))]
    ordered = sorted(lengths, reverse=True)
    assert [n for batch in found for n in batch] == ordered
    ways = []
    for cuts in itertools.product((False, True), repeat=max(0, len(lengths) - 1)):
        ends = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(lengths)]
        parts = [ordered[a:b] for a, b in itertools.pairwise(ends) if b > a]
        if all(len(part) == 1 or len(part) * max(part) <= most for part in parts):
            ways.append(cost(parts))
    assert cost(found) == min(ways)
