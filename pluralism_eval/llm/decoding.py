"""Texts from a decoder-only transformers model: a row that ends leaves the batch, and the next takes its place.

transformers' own ``generate`` keeps a batch together until its longest text ends. Messages of up to 512
tokens differ so much in length that most of such a batch is padding.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pluralism_eval import utilisation
from pluralism_eval.errors import PluralismError

log = logging.getLogger(__name__)

PREFILL_TOKENS = 8192
"""Prompt tokens, padding included, of one forward pass."""
MOST_ROWS = {"cpu": 64, "cuda": 256}
LOT = 64
"""Texts of one LLM that the processes of a launch share out."""
_PLAIN = ("full_attention", "sliding_attention", "chunked_attention")
_CHANGES_LOGITS = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "bad_words_ids": None,
    "sequence_bias": None, "suppress_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "min_length": 0, "min_new_tokens": 0, "guidance_scale": 1.0,
    "exponential_decay_length_penalty": None, "watermarking_config": None, "num_beams": 1,
}  # fmt: skip


class Picker(Protocol):
    """Chooses the next token of rows."""

    def __call__(self, rows: Sequence[int], logits: Any) -> Any:
        """[n_rows] token ids from ``logits`` [n_rows, vocabulary] (float32) of these ``rows`` (indices)."""

    def restart(self, row: int) -> None:
        """The row begins again: nothing of it was used."""


class Greedy:
    """The likeliest token."""

    def __call__(self, rows: Sequence[int], logits: Any) -> Any:
        return logits.argmax(-1)

    def restart(self, row: int) -> None:
        return None


class Seeded:
    """Exact sampling by the Gumbel-max trick: argmax(logits / T + Gumbel noise).

    Every row has its own generator, so that a text does not depend on what else is in the batch, on the
    batch size or on the rank (up to floating-point ties).
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        """
        Args:
            seeds: [n_rows].
            temperature: above 0.
            top_p: only the likeliest tokens that together have this probability, in (0, 1].
        """
        self._seeds, self._temperature, self._top_p = seeds, temperature, top_p
        self._generators: dict[int, Any] = {}

    def __call__(self, rows: Sequence[int], logits: Any) -> Any:
        import torch

        if self._top_p < 1:
            from transformers import TopPLogitsWarper

            logits = TopPLogitsWarper(self._top_p)(None, logits)
        noise = torch.empty_like(logits)
        for place, row in zip(noise, rows, strict=True):
            if row not in self._generators:
                generator = torch.Generator(device=logits.device)
                self._generators[row] = generator.manual_seed(self._seeds[row])
            place.exponential_(generator=self._generators[row])
        return (logits / self._temperature - noise.log_()).argmax(-1)

    def restart(self, row: int) -> None:
        self._generators.pop(row, None)


def can_decode(model: Any) -> bool:
    """True where :func:`decode` gives what ``generate`` would: all that a layer keeps of a token are its keys and values."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ()
    return (
        all(kind in _PLAIN for kind in kinds)
        and not getattr(model, "_is_stateful", False)
        and not config.is_encoder_decoder
    )


def is_plain(generation_config: Any) -> bool:
    """True where nothing in a model's own generation settings changes greedy decoding."""
    return all(
        getattr(generation_config, name, None) in (None, neutral)
        for name, neutral in _CHANGES_LOGITS.items()
    )


def rows_that_fit(model: Any, tokens: int) -> int:
    """Rows of ``tokens`` (prompt and text) whose keys and values fit the device.

    On CPUs by all of the memory, not by what is free at the moment: the same on every start.
    """
    import psutil  # comes with accelerate
    import torch

    shape = utilisation.Shape.of(model)
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        held = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
        room, most = 0.8 * (free + held), MOST_ROWS["cuda"]
    else:
        room, most = 0.2 * psutil.virtual_memory().total, MOST_ROWS["cpu"]
    row = 2 * tokens * shape.kv_bytes  # twice: joined batches are copied
    return max(1, min(most, int(room // row)))


@dataclass
class _Rows:
    """Rows under way, left-padded to one length."""

    numbers: list[int]
    """Which prompts they are."""
    cache: Any
    mask: Any
    """[n_rows, length] 1 for tokens; the token that was picked last is not yet in it."""
    last: Any
    """[n_rows] tokens that go in next."""
    new: list[list[int]] = field(default_factory=list)

    def lengths(self) -> list[int]:
        found: list[int] = self.mask.sum(-1).tolist()
        return found

    def keep(self, places: Sequence[int]) -> None:
        """Only these rows, and only the columns that one of them uses."""
        import torch

        chosen = torch.tensor(places, device=self.mask.device)
        mask = self.mask[chosen]
        start = int(mask.any(0).int().argmax())
        for layer in self.cache.layers:
            layer.keys = layer.keys[chosen, :, start:]
            layer.values = layer.values[chosen, :, start:]
        self.mask, self.last = mask[:, start:], self.last[chosen]
        self.numbers = [self.numbers[i] for i in places]
        self.new = [self.new[i] for i in places]

    def join(self, other: _Rows) -> None:
        """Take in ``other``'s rows."""
        import torch
        from torch.nn.functional import pad

        length = max(self.mask.shape[1], other.mask.shape[1])

        def both(
            a: Any, b: Any
        ) -> Any:  # the columns are the last dimension but one, of masks the last
            last = (0,) if a.dim() == 2 else (0, 0, 0)
            widened = [
                pad(x, (*last[:-1], length - x.shape[-2 if x.dim() > 2 else -1], 0)) for x in (a, b)
            ]
            return torch.cat(widened)

        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys, mine.values = both(mine.keys, theirs.keys), both(mine.values, theirs.values)
        self.mask = both(self.mask, other.mask)
        self.last = torch.cat([self.last, other.last])
        self.numbers += other.numbers
        self.new += other.new


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    pick: Picker,
    *,
    max_new: int,
    eos: Sequence[int],
    rows: int,
    min_new: int = 0,
    ended: Callable[[list[int]], bool] | None = None,
    adapters: Sequence[str] | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """A continuation of every prompt, each as soon as it is there.

    Args:
        model: a decoder-only transformers model, or a PEFT model over one.
        prompts: [n_prompts] token ids, best the longest first.
        max_new, min_new: tokens of a text, the one that ends it included.
        eos: tokens that end a text.
        rows: how many texts are written at once; halved where the device's memory does not suffice.
        ended: further texts (lists of new tokens) that are complete.
        adapters: [n_prompts] names, for a PEFT model.

    Yields:
        (index of the prompt, new tokens; the last is one of ``eos`` if that ended the text).

    Raises:
        PluralismError: not even one row fits the device's memory.
    """
    import torch

    waiting = deque(range(len(prompts)))
    under_way: _Rows | None = None
    while waiting or under_way:
        try:
            with torch.inference_mode():
                if under_way is None or (
                    waiting and len(under_way.numbers) <= rows - max(1, rows // 8)
                ):
                    under_way = _admit(
                        model, prompts, waiting, under_way, rows, pick, eos, min_new, adapters
                    )
                else:
                    _step(model, under_way, pick, eos, min_new, adapters)
        except torch.OutOfMemoryError as error:
            rows //= 2
            if rows < 1:
                raise PluralismError(
                    f"the device's memory does not suffice for one text of {max_new} new tokens; lower message_max_tokens "
                    "or max_gen_toks, or load the model in 16 bits (dtype=bfloat16)"
                ) from error
            log.warning("Out of memory: going on with %d texts at once", rows)
            for number in reversed(under_way.numbers if under_way else []):
                pick.restart(number)
                waiting.appendleft(number)
            under_way = None
            torch.cuda.empty_cache()
            continue
        done = [
            i
            for i, new in enumerate(under_way.new)
            if len(new) >= max_new or new[-1] in eos or (ended is not None and ended(new))
        ]
        if not done:
            continue
        for i in done:
            pick.restart(under_way.numbers[i])
            yield under_way.numbers[i], under_way.new[i]
        if len(done) == len(under_way.numbers):
            under_way = None
        else:
            under_way.keep([i for i in range(len(under_way.numbers)) if i not in set(done)])


def _admit(
    model: Any,
    prompts: Sequence[Sequence[int]],
    waiting: deque[int],
    under_way: _Rows | None,
    rows: int,
    pick: Picker,
    eos: Sequence[int],
    min_new: int,
    adapters: Sequence[str] | None,
) -> _Rows:
    """Prompts from ``waiting`` join the rows under way, as many as have room in one forward pass."""
    import torch
    from transformers import DynamicCache

    free = rows - (len(under_way.numbers) if under_way else 0)
    numbers: list[int] = []
    longest = 0
    while waiting and len(numbers) < free:
        longest = max(longest, len(prompts[waiting[0]]))
        if numbers and longest * (len(numbers) + 1) > PREFILL_TOKENS:
            break
        numbers.append(waiting.popleft())
    longest = max(len(prompts[i]) for i in numbers)
    try:
        ids = torch.tensor(
            [[0] * (longest - len(prompts[i])) + list(prompts[i]) for i in numbers],
            device=model.device,
        )
        mask = torch.tensor(
            [[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in numbers],
            device=model.device,
        )
        more = {} if adapters is None else {"adapter_names": [adapters[i] for i in numbers]}
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
            **more,
        )
        logits = output.logits[:, -1].float()
        utilisation.prefill(_bare(model), [len(prompts[i]) for i in numbers], len(numbers))
        fresh = _Rows(numbers, output.past_key_values, mask, None, [[] for _ in numbers])
        _take(fresh, logits, pick, eos, min_new)
        if under_way is None:
            return fresh
        under_way.join(fresh)
    except torch.OutOfMemoryError:
        for number in reversed(numbers):
            pick.restart(number)
            waiting.appendleft(number)
        raise
    return under_way


def _step(
    model: Any,
    rows: _Rows,
    pick: Picker,
    eos: Sequence[int],
    min_new: int,
    adapters: Sequence[str] | None,
) -> None:
    """One more token for every row under way."""
    import torch

    mask = torch.nn.functional.pad(rows.mask, (0, 1), value=1)
    more = {} if adapters is None else {"adapter_names": [adapters[i] for i in rows.numbers]}
    output = model(
        input_ids=rows.last[:, None],
        attention_mask=mask,
        position_ids=mask.sum(-1, keepdim=True) - 1,
        past_key_values=rows.cache,
        use_cache=True,
        logits_to_keep=1,
        **more,
    )
    rows.mask = mask
    utilisation.decode(_bare(model), rows.lengths())
    _take(rows, output.logits[:, -1].float(), pick, eos, min_new)


def _take(rows: _Rows, logits: Any, pick: Picker, eos: Sequence[int], min_new: int) -> None:
    import torch

    if min_new:
        early = [i for i, new in enumerate(rows.new) if len(new) < min_new]
        if early:
            logits[
                torch.tensor(early, device=logits.device)[:, None],
                torch.tensor(eos, device=logits.device),
            ] = -torch.inf
    rows.last = pick(rows.numbers, logits)
    for new, token in zip(rows.new, rows.last.tolist(), strict=True):
        new.append(token)


def _bare(model: Any) -> Any:
    """The transformers model within a PEFT model, or ``model`` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
