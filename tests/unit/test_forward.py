"""Logits of several prompts at once, against each prompt alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import CohereConfig, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pluralism_eval.llm.forward import next_logits

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
