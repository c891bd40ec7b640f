"""Several continuations of a prompt in one row, against each of them alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import BloomConfig, MambaConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pluralism_eval.llm.continuations import can_share, score_continuations
from pluralism_eval.llm.forward import Opening
from tests.unit.test_forward import CONFIGS

MODELS = {
    **CONFIGS,
    "bloom, no positions": BloomConfig(
        vocab_size=40, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.6
    ),
    "mamba, states": MambaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, initializer_range=0.6
    ),
}
SHARED = {"llama", "gemma 2, logits capped", "cohere, logits scaled", "gpt2"}


def model_of(name: str) -> Any:
    torch.manual_seed(4)
    return AutoModelForCausalLM.from_config(MODELS[name]).eval()


def rows(begin: tuple[int, ...] = ()) -> list[tuple[list[int], list[list[int]]]]:
    draw = random.Random(3)

    def text(n: int) -> list[int]:
        return [draw.randrange(1, 40) for _ in range(n)]

    return [
        ([*begin, *text(n)], [text(m) for m in lengths])
        for n, lengths in ((9, (1, 5, 2)), (1, (3,)), (14, (1, 1)), (6, (4, 1, 7, 2)))
    ]


def alone(model: Any, prompt: list[int], continuation: list[int]) -> tuple[float, bool]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *continuation]])).logits[0].float()
    logprobs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    nats = sum(float(logprobs[i, token]) for i, token in enumerate(continuation))
    return nats, logprobs.argmax(-1).tolist() == continuation


@pytest.mark.parametrize("name", MODELS)
def test_each_continuation_as_if_alone(name: str) -> None:
    model = model_of(name)
    asked = rows()
    found = score_continuations(model, asked)
    for (prompt, continuations), scores in zip(asked, found, strict=True):
        for tokens, score in zip(continuations, scores, strict=True):
            nats, greedy = alone(model, prompt, tokens)
            assert score.logprob == pytest.approx(nats, abs=1e-4)
            assert (score.tokens, score.greedy) == (len(tokens), greedy)


@pytest.mark.parametrize("name", MODELS)
def test_models_that_share_rows(name: str) -> None:
    """A window shorter than the row, states, and positions that follow from the mask: each option is a row."""
    assert can_share(model_of(name), 20) == (name in SHARED)


def test_an_opening_changes_nothing() -> None:
    model = model_of("llama")
    asked = rows((7, 3, 9, 1, 30, 2) * 20) * 2
    opening = Opening.of(model, [prompt for prompt, _ in asked])
    assert opening is not None
    for own, expected in zip(
        score_continuations(model, asked, opening), score_continuations(model, asked), strict=True
    ):
        for a, b in zip(own, expected, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_a_model_whose_masks_mean_something_else_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("llama")
    whole = type(model).forward

    def forward(self: Any, **given: Any) -> Any:
        given.pop("attention_mask", None)
        return whole(self, **given)

    monkeypatch.setattr("pluralism_eval.llm.continuations._takes_masks", lambda model: True)
    monkeypatch.setattr(type(model), "forward", forward)
    assert not can_share(model, 20)
