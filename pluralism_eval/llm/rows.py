"""Texts under way in one batch: the keys and values of their tokens, in memory that is written in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from pluralism_eval.llm.linear import fast_linear

_SPARE = 64
"""Columns beyond those that the longest text needs: as many steps lie at least between two moves to the front."""


class Rows:
    """Rows of one length at their right ends: the last token of each stands in the same column of a buffer a layer.

    A row that leaves gives its place to the last one, a row that joins comes after the last. Nothing else is
    moved until the columns run out; then all rows go back to the first ones.
    """

    def __init__(self, most: int, longest: int, max_new: int, device: Any) -> None:
        """
        Args:
            most: rows.
            longest: tokens of the longest prompt that may join.
            max_new: tokens of a text.
        """
        self.numbers: list[int] = []
        """Which prompts they are."""
        self.new: list[list[int]] = []
        """Their texts so far; the last token of each has no keys and values yet."""
        self._first: list[int] = []
        """Column of the first token."""
        self._most, self._longest, self._device = most, longest, device
        self._columns = longest + max_new + _SPARE
        self.end = longest
        """The column that is written next."""
        self._layers: list[_Layer] = []

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def start(self) -> int:
        """The first column that a row uses."""
        return min(self._first)

    def lengths(self) -> list[int]:
        """Tokens of each row that have keys and values."""
        return [self.end - first for first in self._first]

    def join(self, numbers: Sequence[int], lengths: Sequence[int], cache: Cache) -> None:
        """Rows whose prompts are in ``cache``, padded on the right."""
        if not self._layers:
            self._layers = [_Layer(self, self._buffer(like.keys), self._buffer(like.values)) for like in cache.layers]  # fmt: skip
        begun = len(self)
        uncovered = self.start if begun else self.end
        self.numbers += numbers
        self.new += [[] for _ in numbers]
        self._first += [self.end - length for length in lengths]
        for mine, theirs in zip(self._layers, cache.layers, strict=True):
            for own, given in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
                # what is masked must be a number all the same: also where a longer row uncovers columns of the others
                own[:begun, :, self.start : uncovered] = 0
                own[begun : len(self), :, self.start : self.end] = 0
                for place, row, length in zip(range(begun, len(self)), given, lengths, strict=True):
                    own[place, :, self.end - length : self.end] = row[:, :length]

    def leave(self, places: Sequence[int]) -> None:
        """These rows are done."""
        columns = slice(self.start, self.end) if self else slice(0)
        for place in sorted(places, reverse=True):
            last = len(self) - 1
            if place != last:  # with its zeros, over what the other held before them
                for layer in self._layers:
                    layer.keys[place, :, columns] = layer.keys[last, :, columns]
                    layer.values[place, :, columns] = layer.values[last, :, columns]
            for each in (self.numbers, self.new, self._first):
                _take_out(each, place)

    def forward(self, model: Any, more: Mapping[str, Any]) -> Any:
        """[n_rows, vocabulary] logits after each row's last token."""
        if self.end == self._columns:
            self._to_the_front()
        first = torch.tensor(self._first, device=self._device)[:, None]
        columns = torch.arange(self.start, self.end + 1, device=self._device)
        with fast_linear(model):
            output = model(
                input_ids=torch.tensor([[new[-1]] for new in self.new], device=self._device),
                attention_mask=(columns >= first).long(),
                position_ids=self.end - first,
                past_key_values=Cache(layers=list(self._layers)),
                use_cache=True,
                logits_to_keep=1,
                **more,
            )
        self.end += 1
        return output.logits[:, -1]

    def _buffer(self, like: Any) -> Any:
        return like.new_empty(self._most, like.shape[1], self._columns, like.shape[3])

    def _to_the_front(self) -> None:
        start, end = self.start, self.end
        self.end = max(end - start, self._longest)
        by = end - self.end
        n = len(self)
        for layer in self._layers:
            for buffer in (layer.keys, layer.values):
                buffer[:n, :, start - by : self.end] = buffer[:n, :, start:end].clone()
        self._first = [first - by for first in self._first]


class _Layer(DynamicLayer):
    """The cache of one layer, as transformers asks for it."""

    def __init__(self, rows: Rows, keys: Any, values: Any) -> None:
        super().__init__()
        self._rows, self.keys, self.values = rows, keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        n, start, end = len(self._rows), self._rows.start, self._rows.end
        self.keys[:n, :, end : end + 1] = key_states
        self.values[:n, :, end : end + 1] = value_states
        return self.keys[:n, :, start : end + 1], self.values[:n, :, start : end + 1]

    def get_seq_length(self, *_: Any) -> int:
        return self._rows.end - self._rows.start


def _take_out(values: list[Any], place: int) -> None:
    """The last value comes to ``place``."""
    values[place] = values[-1]
    values.pop()
