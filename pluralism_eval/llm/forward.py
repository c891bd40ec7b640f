"""Forward passes of a decoder-only transformers model: what goes into one, and what follows its prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from pluralism_eval import utilisation
from pluralism_eval.llm.decoding import can_decode
from pluralism_eval.llm.linear import fast_linear

_SHORT = 12
"""Tokens: a shorter opening is computed with every prompt. After one attention needs a mask."""
_SAVED = 256
"""Tokens that an opening has to save."""
_A_PASS = 64
"""What a forward pass costs beside its tokens, in tokens: reading the weights, starting the kernels."""


def passes(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices of rows of ``lengths`` tokens (each at least 1) by forward pass, longest first, in the cheapest way.

    A pass costs its tokens, padding included, and :data:`_A_PASS`. It has at most ``most`` tokens, or one row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    costs, begins = [0], [0]  # of the first n rows; where the last pass of these begins
    for end in range(1, len(order) + 1):
        cheapest, at = costs[end - 1] + lengths[order[end - 1]] + _A_PASS, end - 1
        for begin in range(end - 2, -1, -1):
            padded = (end - begin) * lengths[order[begin]]
            if padded > most:
                break
            if costs[begin] + padded + _A_PASS < cheapest:
                cheapest, at = costs[begin] + padded + _A_PASS, begin
        costs.append(cheapest)
        begins.append(at)
    found, end = [], len(order)
    while end:
        found.append(order[begins[end] : end])
        end = begins[end]
    return found[::-1]


class Opening:
    """The tokens with which all prompts begin (a chat template's, an instruction), computed once."""

    def __init__(self, model: Any, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        _, output = next_logits(model, [tokens], past_key_values=DynamicCache(), use_cache=True)
        utilisation.prefill(model, [len(tokens)], 0)
        layers = output.past_key_values.layers
        self._kept = [(layer.keys, layer.values) for layer in layers]

    @classmethod
    def of(cls, model: Any, prompts: Sequence[list[int]]) -> Opening | None:
        """None where it would save little, or where a layer keeps more of a token than its keys and values."""
        if len(prompts) < 2:
            return None
        ends = [prompt[:-1] for prompt in (min(prompts), max(prompts))]
        pairs = enumerate(zip(*ends, strict=False))
        shared = next((i for i, (a, b) in pairs if a != b), min(map(len, ends)))
        if shared < _SHORT or shared * (len(prompts) - 1) < _SAVED or not can_decode(model):
            return None
        return cls(model, prompts[0][:shared])

    def __len__(self) -> int:
        return len(self.tokens)

    def cache(self, rows: int, growing: bool = False) -> Cache:
        """For ``rows`` prompts that go on from here; it takes up what is theirs only where it is ``growing``."""
        kind = _Begun if growing else _Read
        return Cache(layers=[kind(keys, values, rows) for keys, values in self._kept])


class _Begun(DynamicLayer):
    """An opening's keys and values in one layer, before those of every row."""

    def __init__(self, keys: Any, values: Any, rows: int) -> None:
        super().__init__()
        self.keys, self.values = (x.expand(rows, -1, -1, -1) for x in (keys, values))
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


class _Read(_Begun):
    """The rows' own are not kept."""

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        keys = torch.cat([self.keys, key_states], dim=-2)
        return keys, torch.cat([self.values, value_states], dim=-2)


def next_logits(
    model: Any, prompts: Sequence[Sequence[int]], opening: Opening | None = None, **more: Any
) -> tuple[Any, Any]:
    """What follows each prompt; the vocabulary's matrix is applied at its last token only.

    Prompts are padded on the right, where no token of theirs looks: attention needs no mask, and kernels
    without one are the fast ones.

    Args:
        model: bare, or a PEFT model over one.
        prompts: [n_prompts] token ids, none empty.
        opening: what all of them begin with; their last tokens are not in it.
        more: what else the model takes; a cache of the opening's own, where it has to grow.

    Returns:
        ([n_prompts, vocabulary] logits in the model's number format, all that the model returned).
    """
    if opening is not None:
        prompts = [prompt[len(opening) :] for prompt in prompts]
        more = {"past_key_values": opening.cache(len(prompts)), **more, "use_cache": True}
    longest = max(map(len, prompts))
    ids = torch.tensor(
        [[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=model.device
    )
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
    with torch.inference_mode(), fast_linear(model), _head_at(model, last):
        output = model(input_ids=ids, **more)
    logits = output.logits
    if logits.shape[1] > 1:  # its head is not where transformers says
        logits = _at(logits, last)
    return logits[:, 0], output


@contextmanager
def _head_at(model: Any, last: Any) -> Iterator[None]:
    """The output embeddings see one position a row."""
    head = model.get_output_embeddings()
    if head is None:
        yield
        return

    def only_last(_: Any, given: tuple[Any, ...]) -> Any:
        hidden = given[0]
        return (_at(hidden, last), *given[1:]) if hidden.dim() == 3 else given

    hook = head.register_forward_pre_hook(only_last)
    try:
        yield
    finally:
        hook.remove()


def _at(values: Any, last: Any) -> Any:
    """[n, 1, width] of [n, n_tokens, width]."""
    rows = torch.arange(len(last), device=values.device)
    return values[rows, last.to(values.device)][:, None]
