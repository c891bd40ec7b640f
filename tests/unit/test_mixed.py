"""Adapters in one batch, against PEFT's own ``adapter_names``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, LlamaConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pluralism_eval.communities.mixed import MixedAdapters, can_mix
from pluralism_eval.errors import PluralismError

ATTENTION = ["q_proj", "v_proj"]
ROWS = ["a", "b", "b", "c", "a"]


def peft_of(**adapters: LoraConfig) -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.6,
    )  # fmt: skip
    return attached(AutoModelForCausalLM.from_config(config), **adapters)


def attached(model: Any, **adapters: LoraConfig) -> Any:
    (first, settings), *others = adapters.items()
    peft = get_peft_model(model.eval(), settings, adapter_name=first)
    for name, more in others:
        peft.add_adapter(name, more)
    return peft.eval()


def lora(r: int, targets: list[str], **more: Any) -> LoraConfig:
    return LoraConfig(
        r=r, lora_alpha=3 * r, target_modules=targets, init_lora_weights=False, **more
    )


@pytest.fixture(scope="module")
def peft() -> Any:
    """Other ranks, other layers, another scale."""
    return peft_of(
        a=lora(4, ATTENTION), b=lora(2, ["q_proj", "down_proj"]), c=lora(8, ATTENTION, use_rslora=True)
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 7])
def test_each_row_has_its_own_adapter(peft: Any, tokens: int) -> None:
    """One token is a decoding step, several are a prompt: computed in other orders."""
    ids = torch.randint(40, (len(ROWS), tokens), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = peft(input_ids=ids, adapter_names=ROWS).logits
    model = peft.get_base_model()
    mixed = MixedAdapters(peft, ["a", "b", "c"])
    assert can_mix(peft, ["a", "b", "c"])
    peft.base_model.disable_adapter_layers()
    try:
        with torch.inference_mode():
            bare = model(input_ids=ids).logits
            with mixed.acting():
                assert mixed.choose(ROWS) == {}
                found = model(input_ids=ids).logits
            after = model(input_ids=ids).logits
    finally:
        peft.base_model.enable_adapter_layers()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - bare).abs().amax(dim=(1, 2)).min() > 0.1, "an adapter that does nothing"
    assert torch.equal(after, bare)


def test_a_broken_adapter_breaks_no_other(peft: Any) -> None:
    broken = peft_of(a=lora(4, ATTENTION), b=lora(4, ATTENTION))
    with torch.no_grad():
        for name, weight in broken.named_parameters():
            if "lora_A.b" in name:
                weight.fill_(torch.nan)
    broken.base_model.disable_adapter_layers()
    mixed = MixedAdapters(broken, ["a", "b"])
    for tokens in (1, 3):
        with torch.inference_mode(), mixed.acting():
            mixed.choose(["a", "b"])
            logits = broken.get_base_model()(
                input_ids=torch.ones(2, tokens, dtype=torch.long)
            ).logits
        assert logits[0].isfinite().all()
        assert logits[1].isnan().any()


def test_layers_of_gpt2_are_linear_too() -> None:
    config = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, initializer_range=0.6)
    peft = attached(
        AutoModelForCausalLM.from_config(config),
        a=lora(4, ["c_attn"], fan_in_fan_out=True), b=lora(2, ["c_fc"], fan_in_fan_out=True),
    )  # fmt: skip
    ids = torch.randint(40, (2, 5), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = peft(input_ids=ids, adapter_names=["b", "a"]).logits
        mixed = MixedAdapters(peft, ["a", "b"])
        peft.base_model.disable_adapter_layers()
        with mixed.acting():
            mixed.choose(["b", "a"])
            found = peft.get_base_model()(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_what_is_more_than_lora_is_left_to_peft() -> None:
    assert not can_mix(peft_of(a=lora(4, ATTENTION, use_dora=True)), ["a"])
    assert not can_mix(peft_of(a=lora(4, ["q_proj", "embed_tokens"])), ["a"])
    assert not can_mix(peft_of(a=lora(4, ATTENTION, modules_to_save=["lm_head"])), ["a"])


def test_rows_must_be_known(peft: Any) -> None:
    """Where a layer gets the tokens of all rows in one list, no row can have its own adapter."""
    mixed = MixedAdapters(peft, ["a", "b", "c"])
    mixed.choose(["a", "b"])
    peft.base_model.disable_adapter_layers()
    try:
        with mixed.acting(), pytest.raises(PluralismError, match="other target_modules"):
            peft.get_base_model()(input_ids=torch.ones(3, 2, dtype=torch.long))
    finally:
        peft.base_model.enable_adapter_layers()
