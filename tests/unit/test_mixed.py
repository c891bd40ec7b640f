"""Adapters in one batch, against PEFT's own ``adapter_names``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, LlamaConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pluralism_eval.communities.mixed import MixedAdapters, layers_by_row
from pluralism_eval.errors import PluralismError

ATTENTION = ["q_proj", "v_proj"]
ROWS = ["a", "b", "b", "c", "a"]
LLAMA = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, initializer_range=0.6,
)  # fmt: skip


def made(config: Any) -> Any:
    torch.manual_seed(5)
    return AutoModelForCausalLM.from_config(config).eval()


def lora(r: int, targets: list[str], **more: Any) -> LoraConfig:
    return LoraConfig(
        r=r, lora_alpha=3 * r, target_modules=targets, init_lora_weights=False, **more
    )


def mixed_and_peft(config: Any, **adapters: LoraConfig) -> tuple[Any, MixedAdapters, Any]:
    """(the bare model, ours on it, all of them in one PEFT model)."""
    (first, settings), *others = adapters.items()
    peft = get_peft_model(made(config), settings, adapter_name=first)
    for name, more in others:
        peft.add_adapter(name, more)
    layers: dict[str, dict[str, Any]] = {}
    for name, own in adapters.items():
        alone = get_peft_model(made(config), own)
        for path, layer in alone.get_base_model().named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            together = peft.get_base_model().get_submodule(path)
            for matrix in ("lora_A", "lora_B"):
                theirs = getattr(together, matrix)[name].state_dict()
                getattr(layer, matrix)["default"].load_state_dict(theirs)
            layers.setdefault(name, {})[path] = layer
    model = made(config)
    return model, MixedAdapters(model, layers), peft.eval()


@pytest.mark.parametrize("tokens", [1, 7])
def test_each_row_has_its_own_adapter(tokens: int) -> None:
    """One token is a decoding step, several are a prompt: computed in other orders. Other ranks, layers and scales."""
    model, mixed, peft = mixed_and_peft(
        LLAMA, a=lora(4, ATTENTION), b=lora(2, ["q_proj", "down_proj"]), c=lora(8, ATTENTION, use_rslora=True)
    )  # fmt: skip
    ids = torch.randint(40, (len(ROWS), tokens), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = peft(input_ids=ids, adapter_names=ROWS).logits
        bare = model(input_ids=ids).logits
        with mixed.acting():
            assert mixed.choose(ROWS) == {}
            found = model(input_ids=ids).logits
        after = model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - bare).abs().amax(dim=(1, 2)).min() > 0.1, "an adapter that does nothing"
    assert torch.equal(after, bare)


def test_a_broken_adapter_breaks_no_other() -> None:
    model, mixed, _ = mixed_and_peft(LLAMA, a=lora(4, ATTENTION), b=lora(4, ATTENTION))
    for _, stack in mixed._layers:
        stack.a[1] = torch.nan
    for tokens in (1, 3):
        with torch.inference_mode(), mixed.acting():
            mixed.choose(["a", "b"])
            logits = model(input_ids=torch.ones(2, tokens, dtype=torch.long)).logits
        assert logits[0].isfinite().all()
        assert logits[1].isnan().any()


def test_layers_of_gpt2_are_linear_too() -> None:
    config = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, initializer_range=0.6)
    model, mixed, peft = mixed_and_peft(
        config, a=lora(4, ["c_attn"], fan_in_fan_out=True), b=lora(2, ["c_fc"], fan_in_fan_out=True)
    )  # fmt: skip
    ids = torch.randint(40, (2, 5), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = peft(input_ids=ids, adapter_names=["b", "a"]).logits
        with mixed.acting():
            mixed.choose(["b", "a"])
            found = model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_rows_must_be_known() -> None:
    """Where a layer gets the tokens of all rows in one list, no row can have its own adapter."""
    model, mixed, _ = mixed_and_peft(LLAMA, a=lora(4, ATTENTION), b=lora(4, ["down_proj"]))
    mixed.choose(["a", "b"])
    with mixed.acting(), pytest.raises(PluralismError, match="other target_modules"):
        model(input_ids=torch.ones(3, 2, dtype=torch.long))
    mlp = model.model.layers[0].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x.flatten(0, 1)).view_as(x)
    with layers_by_row(model, 3) as found:
        model(input_ids=torch.ones(3, 2, dtype=torch.long))
    assert "model.layers.1.mlp.down_proj" in found
    assert "model.layers.0.self_attn.q_proj" in found
    assert "model.layers.0.mlp.down_proj" not in found
