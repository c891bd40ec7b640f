"""LoRA adapters of several communities in one batch, each row by its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from pluralism_eval.errors import PluralismError


class MixedAdapters:
    """What PEFT's ``adapter_names`` computes, with all adapters in two matrix products a layer.

    PEFT goes through the adapters one by one in every layer.
    """

    def __init__(self, peft: Any, names: Sequence[str]) -> None:
        """
        Args:
            peft: a PEFT model whose adapters stay disabled: here they act by themselves.
            names: the adapters, see :func:`can_mix`.
        """
        self._places = {name: i for i, name in enumerate(names)}
        self._layers = [(layer, _Stack(layer, names)) for layer in peft.modules() if isinstance(layer, Linear)]  # fmt: skip
        self._device = peft.device
        self._chosen: Any = None
        self._others: Any = None

    def choose(self, names: Sequence[str]) -> dict[str, Any]:
        """The adapters of the rows of the next forward pass; it needs no further arguments."""
        chosen = torch.tensor([self._places[name] for name in names], device=self._device)
        others = torch.arange(len(self._places), device=self._device) != chosen[:, None]
        self._chosen, self._others = chosen, others[:, :, None]
        return {}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, the base model's forward passes are those of the chosen adapters."""
        hooks = [layer.register_forward_hook(partial(self._add, stack)) for layer, stack in self._layers]  # fmt: skip
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _add(self, stack: _Stack, layer: Any, given: tuple[Any, ...], output: Any) -> Any:
        (x,) = given
        if x.dim() != 3 or x.shape[0] != len(self._chosen):
            raise PluralismError(
                f"adapters cannot be mixed in a batch where a layer sees tokens of all rows together ({type(layer.get_base_layer()).__name__} "
                f"got {list(x.shape)}); train them on other target_modules, or use engine: vllm"
            )
        return stack.added(x, self._chosen, self._others, output)


class _Stack:
    """The adapters of one layer, lower ranks filled up with zeros; one that does not change it is zero."""

    def __init__(self, layer: Any, names: Sequence[str]) -> None:
        own = [name if name in layer.lora_A else None for name in names]
        known = [name for name in own if name]
        if not known:
            self.a = None
            return
        a, b = layer.lora_A[known[0]].weight, layer.lora_B[known[0]].weight
        rank = max(layer.lora_A[name].weight.shape[0] for name in known)
        self.a = a.new_zeros(len(names), rank, a.shape[1])
        """[n_adapters, rank, width of the input]"""
        self.b = b.new_zeros(len(names), rank, b.shape[0])
        """[n_adapters, rank, width of the output], scaled"""
        for i, name in enumerate(own):
            if name:
                r = layer.lora_A[name].weight.shape[0]
                self.a[i, :r] = layer.lora_A[name].weight.detach()
                self.b[i, :r] = layer.lora_B[name].weight.detach().T * layer.scaling[name]

    def added(self, x: Any, chosen: Any, others: Any, output: Any) -> Any:
        """``output`` with what each row's adapter adds.

        Args:
            x: [n_rows, n_tokens, width of the input].
            chosen: [n_rows] adapters.
            others: [n_rows, n_adapters, 1] True for those that were not chosen.
            output: [n_rows, n_tokens, width of the output].
        """
        if self.a is None:
            return output
        given = x.to(self.a.dtype)
        if x.shape[1] > 1:
            chosen = chosen.to(x.device)
            change = given @ self.a[chosen].transpose(1, 2) @ self.b[chosen]
        else:  # to gather would be to read more than all adapters
            n_rows, (n_adapters, rank, _) = len(x), self.a.shape
            inner = (given[:, 0] @ self.a.flatten(0, 1).T).view(n_rows, n_adapters, rank)
            inner = inner.masked_fill_(others.to(x.device), 0).flatten(1)
            change = (inner @ self.b.flatten(0, 1))[:, None]
        return output + change.to(output.dtype)


def can_mix(peft: Any, names: Sequence[str]) -> bool:
    """True where the adapters change linear layers alone, by plain LoRA; else PEFT computes them."""
    changed = [m for m in peft.modules() if isinstance(m, (BaseTunerLayer, AuxiliaryTrainingWrapper))]  # fmt: skip
    return all(
        type(m) is Linear
        and not m.merged
        and not any(
            m.lora_bias.get(name) or name in getattr(m, "lora_variant", ()) for name in names
        )
        for m in changed
    )
