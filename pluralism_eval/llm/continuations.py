"""Log-probabilities of several continuations of one prompt, by one row of a forward pass.

A row holds the prompt once and then all of its continuations. The attention mask lets every continuation see the
prompt and itself only, and its positions go on from the prompt's. So the prompt, which is most of the work, is
computed once for all options of a question.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pluralism_eval import utilisation
from pluralism_eval.llm.decoding import bare, can_decode
from pluralism_eval.llm.forward import Opening
from pluralism_eval.llm.linear import fast_linear
from pluralism_eval.schema import TextScore

log = logging.getLogger(__name__)

Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Token ids of a prompt, and of each of its continuations (at least one token each)."""
_MASKED = ("sdpa", "eager")
"""Attention kernels that take a mask of any shape."""
_CLOSE = 1e-2
"""Nats by which the two ways of computing may differ, in any number format, before one of them is distrusted."""


def row_length(row: Row, begun: int = 0) -> int:
    """Tokens that a shared row needs: the last token of a continuation is never read."""
    prompt, continuations = row
    return len(prompt) - begun + sum(len(tokens) - 1 for tokens in continuations)


def score_continuations(
    model: Any, rows: Sequence[Row], opening: Opening | None = None
) -> list[list[TextScore]]:
    """[n_rows][n_continuations] log-probabilities, in one forward pass.

    Args:
        model: a decoder-only transformers model.
        rows: see :data:`Row`.
        opening: tokens with which all prompts begin, computed before; never a whole prompt.
    """
    begun = len(opening or ())
    shared = can_share(model, max(row_length(row) for row in rows))
    parts = list(rows) if shared else [(prompt, [c]) for prompt, own in rows for c in own]
    flat = iter(_forward(model, parts, opening, shared))
    # a prompt that every option repeats is no work that has to be done
    read = sum(1 + sum(len(tokens) - 1 for tokens in own) for _, own in rows)
    utilisation.prefill(model, [row_length(row, begun) for row in rows], read, begun)
    return [[next(flat) for _ in own] for _, own in rows]


def can_share(model: Any, longest: int) -> bool:
    """True where continuations of one prompt can share a row of ``longest`` tokens. Tried out once a model."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window and longest > int(window):
        return False
    known = getattr(model, "_pluralism_shares_rows", None)
    if known is None:
        known = _takes_masks(model) and _agrees(model)
        object.__setattr__(model, "_pluralism_shares_rows", known)
        if not known:
            log.warning(
                "%s takes no attention mask of our own: every option is a row of its own, which takes longer",
                type(bare(model)).__name__,
            )
    return bool(known)


def _takes_masks(model: Any) -> bool:
    inner = bare(model)
    return (
        can_decode(model)
        and getattr(inner.config, "_attn_implementation", None) in _MASKED
        and "position_ids" in inspect.signature(inner.forward).parameters
        and not getattr(inner.config.get_text_config(), "alibi", False)
    )


def _agrees(model: Any) -> bool:
    """Some architectures read positions out of the mask: the shared row must give what single rows give."""
    size = int(model.config.get_text_config().vocab_size)
    prompt, first, second = ([(7 * i + j) % size for i in range(1, 6)] for j in (1, 2, 3))
    shared = _forward(model, [(prompt, [first, second])], None, shared=True)
    single = _forward(model, [(prompt, [first]), (prompt, [second])], None, shared=False)
    return all(
        abs(a.logprob - b.logprob) <= _CLOSE * a.tokens for a, b in zip(shared, single, strict=True)
    )


def _forward(
    model: Any, rows: Sequence[Row], opening: Opening | None, shared: bool
) -> list[TextScore]:
    """Scores of all continuations, in the rows' order."""
    begun = len(opening or ())
    texts, positions, segments = zip(*(_lay_out(row, begun) for row in rows), strict=True)
    longest = max(map(len, texts))
    device = model.device
    ids = torch.tensor([_padded(row, longest, 0) for row in texts], device=device)
    more: dict[str, Any] = {"use_cache": False}
    if opening is not None:
        more = {"past_key_values": opening.cache(len(rows)), "use_cache": True}
    if shared:
        places = torch.tensor([_padded(row, longest, 0) for row in positions], device=device)
        parts = torch.tensor([_padded(row, longest, 0) for row in segments], device=device)
        more |= {"position_ids": places, "attention_mask": _mask(parts, begun, model.dtype)}
    at_row, at_column, wanted, lengths = _read_at(rows, begun, device)
    with torch.inference_mode(), fast_linear(model), _head_at(model, at_row, at_column):
        logits = model(input_ids=ids, **more).logits
    if logits.shape[:2] != (1, len(at_row)):  # its head is not where transformers says
        logits = logits[at_row, at_column][None]
    logits = logits[0].float()
    own = logits.gather(-1, wanted[:, None])[:, 0]
    nats = (own - logits.logsumexp(-1)).double().tolist()
    likeliest = (logits.argmax(-1) == wanted).tolist()
    scores, start = [], 0
    for length in lengths:
        part = slice(start, start + length)
        scores.append(TextScore(sum(nats[part]), length, all(likeliest[part])))
        start += length
    return scores


def _lay_out(row: Row, begun: int) -> tuple[list[int], list[int], list[int]]:
    """(token ids, positions, segments: 0 for the prompt, then 1, 2, ... for the continuations)."""
    prompt, continuations = row
    ids, end = list(prompt[begun:]), len(prompt)
    positions, segments = list(range(begun, end)), [0] * len(ids)
    for number, tokens in enumerate(continuations, 1):
        ids += tokens[:-1]
        positions += range(end, end + len(tokens) - 1)
        segments += [number] * (len(tokens) - 1)
    return ids, positions, segments


def _padded(values: Sequence[int], length: int, fill: int) -> list[int]:
    return [*values, *[fill] * (length - len(values))]


def _mask(segments: Any, begun: int, dtype: Any) -> Any:
    """[n_rows, 1, n_tokens, begun + n_tokens]: 0 where a token may look, the lowest number elsewhere."""
    n_rows, n = segments.shape
    before = torch.ones(n, n, dtype=torch.bool, device=segments.device).tril()
    same = segments[:, :, None] == segments[:, None, :]
    allowed = before & (same | (segments[:, None, :] == 0))
    opened = torch.ones(n_rows, n, begun, dtype=torch.bool, device=segments.device)
    mask = torch.zeros(n_rows, n, begun + n, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~torch.cat([opened, allowed], -1), torch.finfo(dtype).min)[:, None]


def _read_at(rows: Sequence[Row], begun: int, device: Any) -> tuple[Any, Any, Any, list[int]]:
    """(row and column of every logit that is read, the token it is read for, tokens a continuation)."""
    at_row: list[int] = []
    at_column: list[int] = []
    wanted: list[int] = []
    lengths: list[int] = []
    for number, (prompt, continuations) in enumerate(rows):
        last = len(prompt) - begun - 1
        column = last
        for tokens in continuations:
            at_row += [number] * len(tokens)
            at_column += [last, *range(column + 1, column + len(tokens))]
            wanted += tokens
            lengths.append(len(tokens))
            column += len(tokens) - 1
    tensors = (torch.tensor(values, device=device) for values in (at_row, at_column, wanted))
    first, second, third = tensors
    return first, second, third, lengths


@contextmanager
def _head_at(model: Any, rows: Any, columns: Any) -> Iterator[None]:
    """The output embeddings see these positions only."""
    head = model.get_output_embeddings()
    if head is None:
        yield
        return

    def only_read(_: Any, given: tuple[Any, ...]) -> Any:
        hidden = given[0]
        if hidden.dim() != 3:
            return given
        return hidden[rows.to(hidden.device), columns.to(hidden.device)][None], *given[1:]

    hook = head.register_forward_pre_hook(only_read)
    try:
        yield
    finally:
        hook.remove()
