"""Next-token logits of several prompts in one forward pass of a decoder-only transformers model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


def next_logits(model: Any, prompts: Sequence[Sequence[int]], **more: Any) -> tuple[Any, Any]:
    """What follows each prompt; the vocabulary's matrix is applied at its last token only.

    Prompts are padded on the right, where no token of theirs looks: attention needs no mask, and kernels
    without one are the fast ones.

    Args:
        model: bare, or a PEFT model over one.
        prompts: [n_prompts] token ids, none empty.
        more: what else the model takes.

    Returns:
        ([n_prompts, vocabulary] logits in the model's number format, all that the model returned).
    """
    longest = max(map(len, prompts))
    ids = torch.tensor(
        [[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=model.device
    )
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
    with torch.inference_mode(), _head_at(model, last):
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
