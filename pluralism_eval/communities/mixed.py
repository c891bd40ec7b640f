"""LoRA adapters of several communities in one batch, each row by its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from pluralism_eval.errors import PluralismError


class MixedAdapters:
    """What PEFT's ``adapter_names`` computes, with all adapters in two matrix products a layer.

    PEFT goes through the adapters one by one in every layer.
    """

    def __init__(self, model: Any, adapters: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Args:
            model: the bare base model.
            adapters: name → path of a linear layer of ``model`` → PEFT's LoRA layer there, with one adapter
                (:attr:`attached.Attached.layers`).
        """
        self._places = {name: i for i, name in enumerate(adapters)}
        paths = dict.fromkeys(path for layers in adapters.values() for path in layers)
        self._layers = [
            (model.get_submodule(path), _Stack([layers.get(path) for layers in adapters.values()]))
            for path in paths
        ]
        self._device = model.device
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
                f"adapters cannot be mixed in a batch where a layer sees tokens of all rows together ({type(layer).__name__} "
                f"got {list(x.shape)}); train them on other target_modules, or use engine: vllm"
            )
        return stack.added(x, self._chosen, self._others, output)


class _Stack:
    """The adapters of one layer, lower ranks filled up with zeros; one that does not change it is zero."""

    def __init__(self, layers: Sequence[Any]) -> None:
        """
        Args:
            layers: [n_adapters] PEFT's layer of each, or None.
        """
        own = [None if layer is None else _matrices(layer) for layer in layers]
        first_a, first_b = next(pair for pair in own if pair is not None)
        rank = max(len(pair[0]) for pair in own if pair is not None)
        self.a = first_a.new_zeros(len(own), rank, first_a.shape[1])
        """[n_adapters, rank, width of the input]"""
        self.b = first_b.new_zeros(len(own), rank, first_b.shape[1])
        """[n_adapters, rank, width of the output], scaled"""
        for i, pair in enumerate(own):
            if pair is not None:
                self.a[i, : len(pair[0])], self.b[i, : len(pair[1])] = pair

    def added(self, x: Any, chosen: Any, others: Any, output: Any) -> Any:
        """``output`` with what each row's adapter adds.

        Args:
            x: [n_rows, n_tokens, width of the input].
            chosen: [n_rows] adapters.
            others: [n_rows, n_adapters, 1] True for those that were not chosen.
            output: [n_rows, n_tokens, width of the output].
        """
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


def _matrices(layer: Any) -> tuple[Any, Any]:
    """[rank, width of the input] and [rank, width of the output], scaled."""
    (name,) = layer.lora_A
    a, b = layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach()
    return a, b.T * layer.scaling[name]


@contextmanager
def layers_by_row(model: Any, n_rows: int) -> Iterator[set[str]]:
    """The paths of ``model``'s linear layers that see the tokens of each row apart, known once a pass over ``n_rows``
    rows was made inside: only there can each row have its own adapter."""
    apart: set[str] = set()
    mingled: set[str] = set()

    def look(path: str, _: Any, given: tuple[Any, ...], __: Any) -> None:
        by_row = len(given) == 1 and given[0].dim() == 3 and len(given[0]) == n_rows
        (apart if by_row else mingled).add(path)

    hooks = [
        layer.register_forward_hook(partial(look, path))
        for path, layer in model.named_modules()
        if isinstance(layer, (torch.nn.Linear, Conv1D))
    ]
    try:
        yield apart
    finally:
        for hook in hooks:
            hook.remove()
        apart -= mingled
