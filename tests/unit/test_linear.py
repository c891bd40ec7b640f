"""Linear layers by oneDNN: torch's numbers, and a model that is left as it was."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from pluralism_eval import onednn, ram
from pluralism_eval.llm.linear import fast_frozen_linear, fast_linear, forget

pytestmark = pytest.mark.skipif(
    not onednn.available(), reason="no x86 CPU, or torch without oneDNN"
)


class Net(nn.Module):
    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(40, 24, **more), nn.Linear(24, 7, bias=False, **more)

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x).tanh())


@pytest.fixture(params=[True, False], ids=["in oneDNN's order", "as they are"])
def ordered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether memory holds the weights a second time."""
    monkeypatch.setattr(ram, "total", lambda: 1e12 if request.param else 10.0)
    return bool(request.param)


def layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


def computed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Filled by every product of oneDNN's: was the weight in its order?"""
    seen: list[bool] = []
    product = onednn.product

    def counted(x: Any, weight: Any, bias: Any = None) -> Any:
        seen.append(weight.is_mkldnn)
        return product(x, weight, bias)

    monkeypatch.setattr(onednn, "product", counted)
    return seen


@pytest.mark.parametrize("shape", [(40,), (1, 40), (64, 40), (3, 5, 40), (0, 40)])
def test_the_numbers_are_torchs(
    shape: tuple[int, ...], ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model, x, seen = Net(), torch.randn(shape), computed(monkeypatch)
    with torch.inference_mode():
        expected = model(x)
        with fast_linear(model):
            found = model(x)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert seen == [ordered, ordered]
        assert torch.equal(model(x), expected), "outside it is torch's own again"
    assert len(seen) == 2
    assert all("forward" not in layer.__dict__ for layer in layers(model))


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    model = Net()
    with pytest.raises(ZeroDivisionError), fast_linear(model):
        raise ZeroDivisionError
    assert all("forward" not in layer.__dict__ for layer in layers(model))


def test_threads_take_turns() -> None:
    model, other, inside, seen = Net(), Net(), threading.Event(), []

    def late(which: Any) -> None:
        assert inside.wait(10)
        with torch.inference_mode(), fast_linear(which):
            seen.append("forward" in which.first.__dict__)

    threads = [threading.Thread(target=late, args=(which,)) for which in (model, other)]
    for thread in threads:
        thread.start()
    with fast_linear(model):
        inside.set()
        time.sleep(0.05)
        assert "forward" in model.first.__dict__
        assert not seen
    for thread in threads:
        thread.join()
    assert seen == [True, True]
    assert all("forward" not in layer.__dict__ for layer in layers(model))


def test_a_changed_weight_is_seen() -> None:
    model, x = Net(), torch.randn(3, 40)
    with torch.inference_mode(), fast_linear(model):
        before = model(x)
    with torch.no_grad():
        model.first.weight.mul_(2)
    with torch.inference_mode():
        expected = model(x)
        with fast_linear(model):
            torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)
    model.second.weight = nn.Parameter(-model.second.weight)
    with torch.inference_mode():
        assert not torch.allclose(expected, before)
        with fast_linear(model):
            torch.testing.assert_close(model(x), -expected, atol=1e-5, rtol=1e-5)


def test_nothing_is_done_to_what_is_not_a_plain_layer_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, x = computed(monkeypatch), torch.randn(2, 40)
    narrow, hooked = Net(dtype=torch.bfloat16), Net()
    with torch.inference_mode():
        with fast_linear(narrow):
            narrow(x.bfloat16())
        with fast_linear(hooked):
            hooked(x)
        assert len(seen) == 2
        # as accelerate does to a model that does not fit its device
        for layer in layers(hooked):
            monkeypatch.setattr(layer, "forward", lambda given, own=layer.forward: own(given))
        with fast_linear(hooked):
            hooked(x)
        assert len(seen) == 2
        assert all("forward" in layer.__dict__ for layer in layers(hooked))


def test_a_model_within_peft_and_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base model's layers are read once; adapters come after, and go on acting."""
    torch.manual_seed(2)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5,
        )
    ).eval()  # fmt: skip
    ids, seen = torch.tensor([[3, 1, 4, 1, 5]]), computed(monkeypatch)
    with torch.inference_mode(), fast_linear(model):
        model(ids)
    n = len(seen)
    assert n == 2 * 7 + 1
    settings = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    peft = get_peft_model(model, settings).eval()
    with torch.inference_mode():
        expected = peft(ids).logits
        with fast_linear(peft):
            found = peft(ids).logits
        assert len(seen) == 2 * n
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        with peft.disable_adapter():
            assert not torch.allclose(peft(ids).logits, expected, atol=1e-2)


def test_what_is_fast_does_not_depend_on_what_was_measured_before_an_adapter_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``train`` measures the base first; where it goes on after a kill, it does not."""
    seen = computed(monkeypatch)
    ids = torch.tensor([[1, 2, 3]])
    counts = []
    for measured in (True, False):
        config = LlamaConfig(
            vocab_size=9,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
        model: Any = LlamaForCausalLM(config).eval()
        if measured:
            with torch.inference_mode(), fast_linear(model):
                model(ids)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM")).eval()
        forget(model)
        seen.clear()
        with torch.inference_mode(), fast_linear(model):
            model(ids)
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_gradients_through_frozen_layers_are_torchs() -> None:
    torch.manual_seed(2)
    config = LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model: Any = get_peft_model(LlamaForCausalLM(config), lora)
    ids = torch.randint(0, 32, (3, 9))

    def gradients() -> list[Any]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    expected = gradients()
    with fast_frozen_linear(model):
        found = gradients()
    assert any(own.abs().max() > 1e-4 for own in expected)
    for own, known in zip(found, expected, strict=True):
        torch.testing.assert_close(own, known, atol=1e-4, rtol=1e-4)
    assert all("forward" not in layer.__dict__ for layer in layers(model))
