"""Linear layers of float32 models on CPUs, by oneDNN (:mod:`pluralism_eval.onednn`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any, NamedTuple

import torch
from torch import nn

from pluralism_eval import onednn, ram
from pluralism_eval.llm.decoding import bare

_SHARE = 0.1
"""Of all memory, that weights in oneDNN's order may take up beside the model; above, it takes them as they are."""
_turn = RLock()
log = logging.getLogger(__name__)


class _Layer(NamedTuple):
    layer: Any
    weight: Any
    version: int
    """Of the weight, when it was read."""
    forward: Callable[[Any], Any]


class _Product(torch.autograd.Function):
    """A linear layer whose weights are not trained: only its input has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, transposed: Any, bias: Any) -> Any:
        ctx.transposed = transposed
        return onednn.product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return onednn.product(gradients[0].contiguous(), ctx.transposed), None, None, None


@contextmanager
def fast_frozen_linear(model: Any) -> Iterator[None]:
    """Inside, linear layers of ``model`` that are not trained are computed by oneDNN, forward and backward.

    Args:
        model: see :func:`fast_linear`; its weights do not change inside.
    """
    inner = bare(model)
    frozen = [x for x in inner.modules() if _is_ours(x) and not x.weight.requires_grad]
    if not onednn.available() or not copied(2 * sum(layer.weight.nbytes for layer in frozen)):
        yield
        return
    for layer in frozen:
        layer.__dict__["forward"] = _differentiable(layer)
    try:
        yield
    finally:
        for layer in frozen:
            del layer.__dict__["forward"]


def _differentiable(layer: Any) -> Callable[[Any], Any]:
    weight = layer.weight.detach()
    there, back = onednn.in_order(weight), onednn.in_order(weight.t().contiguous())

    def forward(x: Any) -> Any:
        return _Product.apply(x, there, back, layer.bias)  # type: ignore[no-untyped-call]

    return forward


@contextmanager
def fast_linear(model: Any) -> Iterator[None]:
    """Inside, ``model``'s linear layers are computed by oneDNN; for inference only. Outside they are torch's.

    What is computed differs in the last digits, as it does between two sizes of a batch. One thread at a time.

    Args:
        model: a transformers model, bare or within PEFT; nothing happens where its weights are not float32 on a CPU.
    """
    with ExitStack() as inside:
        if onednn.available():
            inside.enter_context(_turn)
            layers = _known(bare(model))
            if layers:
                inside.callback(_leave, layers)
                for layer, _, _, forward in layers:
                    layer.__dict__["forward"] = forward
            else:
                inside.close()
        yield


def _leave(layers: Sequence[_Layer]) -> None:
    for layer, *_ in layers:
        layer.__dict__.pop("forward", None)


def forget(model: Any) -> None:
    """To be called when layers of ``model`` were wrapped or added, as PEFT does: they are read anew."""
    bare(model).__dict__.pop("_pluralism_linear", None)


def copied(weights: float) -> float:
    """Bytes that so many bytes of float32 weights take up a second time, in oneDNN's order; 0 where they are not."""
    return weights if onednn.available() and weights <= _SHARE * ram.total() else 0.0


def _known(model: Any) -> Sequence[_Layer]:
    """The layers of ``model``, read once, and again when one has changed."""
    known: Sequence[_Layer] | None = model.__dict__.get("_pluralism_linear")
    if known is None or not all(map(_is_as_read, known)):
        known = _read(model)
        object.__setattr__(model, "_pluralism_linear", known)
    return known


def _read(model: Any) -> list[_Layer]:
    layers = [layer for layer in model.modules() if _is_ours(layer)]
    size = sum(layer.weight.nbytes for layer in layers)
    ordered = copied(size) > 0
    if layers:
        how = (
            "kept a second time in its order"
            if ordered
            else "taken as they are: too large to keep twice"
        )
        log.info("%d linear layers by oneDNN, %.1f GB of weights %s", len(layers), size / 1e9, how)
    return [_Layer(x, x.weight, x.weight._version, _forward(x, ordered)) for x in layers]


def _is_ours(layer: Any) -> bool:
    if (
        type(layer) is not nn.Linear or "forward" in layer.__dict__
    ):  # somebody else's, such as accelerate's
        return False
    weight = layer.weight
    return (
        weight.dtype == torch.float32 and weight.device.type == "cpu" and not weight.is_inference()
    )


def _is_as_read(known: _Layer) -> bool:
    layer, weight, version, _ = known
    return (
        layer._parameters["weight"] is weight
        and weight._version == version
        and "forward" not in layer.__dict__
    )


def _forward(layer: Any, ordered: bool) -> Callable[[Any], Any]:
    weight, bias = _in_order(layer.weight) if ordered else layer.weight.detach(), layer.bias

    def forward(input: Any) -> Any:
        if (
            "parametrizations" in layer._modules
        ):  # PEFT's target_parameters: another weight for this pass
            return type(layer).forward(layer, input)
        return onednn.product(input, weight, bias)

    return forward


def _in_order(weight: Any) -> Any:
    """Kept on the weight: several module trees may share it."""
    version, found = getattr(weight, "_pluralism_ordered", (None, None))
    if version != weight._version:
        found = onednn.in_order(weight.detach())
        weight._pluralism_ordered = (weight._version, found)
    return found
