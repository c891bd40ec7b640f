"""lm-eval's ``HFLM`` in a launch of several processes: its own batches, each computed by one of them.

The batches are formed here as ``HFLM`` forms them, and handed to it one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from pluralism_eval import progress, ranks

T = TypeVar("T")


def join(inner: Any) -> None:
    """Make ``inner``, an ``HFLM`` that knows of no other process, part of its launch."""
    ranks.join(inner.accelerator.process_index, inner.accelerator.num_processes)
    # a world of one: what is gathered is gathered here, and nothing needs padding
    inner._rank, inner._world_size = inner.accelerator.process_index, 1
    inner.generate_until = partial(_generate_until, inner, inner.generate_until)
    inner._loglikelihood_tokens = partial(_loglikelihood_tokens, inner, inner._loglikelihood_tokens)


def _generate_until(
    inner: Any, alone: Callable[..., list[str]], requests: list[Any], disable_tqdm: bool = False
) -> list[str]:
    if not ranks.shared():
        return alone(requests, disable_tqdm=disable_tqdm)
    if any(request.args[1].get("do_sample") for request in requests):
        # one stream of random numbers, as in a single process
        return ranks.by_turns([requests], alone)[0]
    with fixed_size(inner) as size:
        batches = generation_batches(inner, requests, size)
        return _in_order(batches, lambda batch: alone([requests[i] for i in batch], True), "texts")


def _loglikelihood_tokens(
    inner: Any,
    alone: Callable[..., list[tuple[float, bool]]],
    requests: list[Any],
    disable_tqdm: bool = False,
    override_bs: int | None = None,
) -> list[tuple[float, bool]]:
    if not ranks.shared():
        return alone(requests, disable_tqdm, override_bs)
    rows = _by_context(inner, requests)
    with fixed_size(inner, [requests[row[0]] for row in rows], override_bs) as size:
        batches = [
            [i for row in rows[start : start + size] for i in sorted(row)]
            for start in range(0, len(rows), size)
        ]
        return _in_order(batches, lambda batch: alone([requests[i] for i in batch], True), "scores")


def _in_order(
    batches: Sequence[list[int]], work: Callable[[list[int]], list[T]], what: str
) -> list[T]:
    """What ``work`` makes of ``batches`` of indices, by index."""
    with progress.bar(len(batches), what, "batch", not ranks.is_first()) as bar:

        def seen(batch: list[int]) -> list[T]:
            part = work(batch)
            bar.update(1)
            return part

        parts = ranks.by_turns(batches, seen)
        bar.update(len(batches) - bar.n)
    found: dict[int, T] = {}
    for batch, part in zip(batches, parts, strict=True):
        found |= dict(zip(batch, part, strict=True))
    return [found[i] for i in range(len(found))]


def equal_settings(requests: Sequence[Any]) -> list[list[int]]:
    """Indices of ``requests`` by their generation settings."""
    groups: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(repr(sorted(request.args[1].items())), []).append(i)
    return list(groups.values())


def generation_batches(inner: Any, requests: Sequence[Any], size: int) -> list[list[int]]:
    """Indices of ``requests`` as ``HFLM.generate_until`` batches them: equal settings, longest first."""
    tokens = {text: len(inner.tok_encode(text)) for text in {r.args[0]: None for r in requests}}
    batches = []
    for group in equal_settings(requests):
        group.sort(key=lambda i: (-tokens[requests[i].args[0]], requests[i].args[0]))
        batches += [group[start : start + size] for start in range(0, len(group), size)]
    return batches


def _by_context(inner: Any, requests: Sequence[Any]) -> list[list[int]]:
    """Indices of tokenised ``requests`` that ``HFLM`` scores in one row, in its order; the row's own first."""
    groups: dict[Any, list[int]] = {}
    one_row = inner.backend == "causal" and inner.logits_cache
    for i, (_, context, continuation) in enumerate(requests):
        groups.setdefault(tuple(context + continuation[:-1]) if one_row else i, []).append(i)
    rows = []
    for group in groups.values():
        own = max(group, key=lambda i: len(requests[i][2]))
        rows.append([own, *(i for i in group if i != own)])

    def key(row: list[int]) -> tuple[int, tuple[int, ...]]:
        tokens = requests[row[0]][1] + requests[row[0]][2]
        return -len(tokens), tuple(tokens)

    return sorted(rows, key=key)


@contextmanager
def fixed_size(
    inner: Any, requests: list[Any] | None = None, override: int | None = None
) -> Iterator[int]:
    """Rows of a batch; with ``auto``, what fits in every process, tried out once instead of in every call."""
    asked = inner.batch_size
    if asked == "auto":
        detected = override or inner._detect_batch_size(requests)
        inner.batch_size_per_gpu = min(ranks.everyones(detected))
    try:
        yield int(inner.batch_size)
    finally:
        inner.batch_size_per_gpu = asked
