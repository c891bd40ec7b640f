"""Texts from a decoder-only transformers model: a row that ends leaves the batch, and the next takes its place.

transformers' own ``generate`` keeps a batch together until its longest text ends. Messages of up to 512
tokens differ so much in length that most of such a batch is padding.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pluralism_eval import ram, utilisation
from pluralism_eval.errors import PluralismError

if TYPE_CHECKING:
    from pluralism_eval.llm.forward import Opening
    from pluralism_eval.llm.rows import Rows

log = logging.getLogger(__name__)

_MOST_ROWS = {"cpu": 64, "cuda": 256}
_TOKENS_OF_A_PASS = {"cpu": 1024, "cuda": 8192}
_PLAIN = ("full_attention", "sliding_attention", "chunked_attention")
_CHANGES_LOGITS = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "bad_words_ids": None,
    "sequence_bias": None, "suppress_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "min_length": 0, "min_new_tokens": 0, "guidance_scale": 1.0,
    "exponential_decay_length_penalty": None, "watermarking_config": None, "num_beams": 1,
}  # fmt: skip
_NO_ROOM = (
    "the device's memory does not suffice for one text of {} new tokens; lower message_max_tokens "
    "or max_gen_toks, or load the model in 16 bits (dtype=bfloat16)"
)


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
        uniform = torch.empty_like(logits, dtype=torch.float64)
        for place, row in zip(uniform, rows, strict=True):
            if row not in self._generators:
                generator = torch.Generator(device=logits.device)
                self._generators[row] = generator.manual_seed(self._seeds[row])
            place.uniform_(generator=self._generators[row])
        exponential = uniform.neg_().log1p_().neg_().float()
        return (logits / self._temperature - exponential.log_()).argmax(-1)

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


def tokens_of_a_pass(device: Any) -> int:
    """Prompt tokens, padding included, of one forward pass: a bound on what it holds.

    On CPUs less: between two layers a pass should stay in the processor's cache.
    """
    return _TOKENS_OF_A_PASS.get(str(device).partition(":")[0], _TOKENS_OF_A_PASS["cpu"])


def most_rows(model: Any) -> int:
    """Rows written at once where memory holds more."""
    return _MOST_ROWS.get(model.device.type, _MOST_ROWS["cpu"])


def rows_that_fit(model: Any, tokens: int) -> int:
    """Rows of ``tokens`` (prompt and text) whose keys and values fit the device.

    On CPUs by all of the memory, not by what is free at the moment: the same on every start.
    """
    import torch

    shape = utilisation.Shape.of(model)
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        held = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
        room = 0.8 * (free + held)
    else:
        room = 0.2 * ram.total()
    row = max(1, tokens * shape.kv_bytes)
    return max(1, min(most_rows(model), int(room // row)))


def lot_of(rows: int, n_texts: int) -> int:
    """Texts to write in one go, ``rows`` at once.

    Several batches, so that rows which end make place for others; but, where there is work for it, eight lots
    at least, which the processes of a launch share out. It depends on nothing else, so that all numbers of
    processes give the same.
    """
    return min(4 * rows, max(rows, -(-n_texts // 8)))


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
    opening: Opening | None = None,
    also: Callable[[Sequence[int]], Mapping[str, Any]] = lambda numbers: {},
) -> Iterator[tuple[int, list[int]]]:
    """A continuation of every prompt, each as soon as it is there.

    A model of which :func:`can_decode` is False writes them one by one, by its own ``generate``.

    Args:
        model: a decoder-only transformers model, or a PEFT model over one.
        prompts: [n_prompts] token ids, best the longest first.
        max_new, min_new: tokens of a text, the one that ends it included.
        eos: tokens that end a text.
        rows: how many texts are written at once; halved where the device's memory does not suffice.
        ended: further texts (lists of new tokens) that are complete.
        opening: what all prompts begin with, computed already.
        also: what else a forward pass over these prompts (indices, in the batch's order) needs.

    Yields:
        (index of the prompt, new tokens; the last is one of ``eos`` if that ended the text).

    Raises:
        PluralismError: not even one row fits the device's memory.
    """
    import torch

    from pluralism_eval.llm.rows import Rows

    if not can_decode(bare(model)):
        for i, prompt in enumerate(prompts):
            also([i])
            yield i, _generated(bare(model), i, prompt, pick, max_new, min_new, eos, ended)
        return
    waiting = deque(range(len(prompts)))
    longest = max(map(len, prompts), default=0)
    rows = min(rows, len(prompts))
    under_way: Rows | None = None
    while waiting or under_way:
        try:
            if under_way is None:
                under_way = Rows(rows, longest, max_new, model.device)
            with torch.inference_mode():
                if not under_way or (waiting and len(under_way) <= rows - max(1, rows // 8)):
                    logits, begun = _admit(model, prompts, waiting, under_way, rows, opening, also)
                else:
                    logits, begun = _step(model, under_way, also), 0
                _take(under_way, begun, logits, pick, eos, min_new)
        except torch.OutOfMemoryError as error:
            rows //= 2
            if rows < 1:
                raise PluralismError(_NO_ROOM.format(max_new)) from error
            log.warning("Out of memory: going on with %d texts at once", rows)
            again = list(under_way.numbers) if under_way is not None else []
            for number in again:
                pick.restart(number)
            waiting = deque(sorted({*waiting, *again}))  # some may have been about to join
            under_way = None
            torch.cuda.empty_cache()
            continue
        done = [
            i
            for i, new in enumerate(under_way.new)
            if len(new) >= max_new or new[-1] in eos or (ended is not None and ended(new))
        ]
        for i in done:
            pick.restart(under_way.numbers[i])
            yield under_way.numbers[i], under_way.new[i]
        with torch.inference_mode():
            under_way.leave(done)


def _admit(
    model: Any,
    prompts: Sequence[Sequence[int]],
    waiting: deque[int],
    under_way: Rows,
    rows: int,
    opening: Opening | None,
    also: Callable[[Sequence[int]], Mapping[str, Any]],
) -> tuple[Any, int]:
    """Prompts from ``waiting`` join the rows under way, as many as have room in one forward pass.

    Returns:
        (their logits, the first one's place).
    """
    from transformers import DynamicCache

    from pluralism_eval.llm.forward import next_logits

    numbers: list[int] = []
    longest, room, shared = 0, tokens_of_a_pass(model.device), len(opening or ())
    for number in itertools.islice(waiting, rows - len(under_way)):
        longest = max(longest, len(prompts[number]) - shared)
        if numbers and longest * (len(numbers) + 1) > room:
            break
        numbers.append(number)
    logits, output = next_logits(
        model,
        [prompts[i] for i in numbers],
        opening,
        past_key_values=opening.cache(len(numbers), growing=True) if opening else DynamicCache(),
        use_cache=True,
        **also(numbers),
    )
    lengths = [len(prompts[i]) for i in numbers]
    utilisation.prefill(bare(model), [n - shared for n in lengths], len(numbers), shared)
    begun = len(under_way)
    under_way.join(numbers, lengths, output.past_key_values)
    for _ in numbers:
        waiting.popleft()
    return logits, begun


def _step(model: Any, under_way: Rows, also: Callable[[Sequence[int]], Mapping[str, Any]]) -> Any:
    """Logits of one more token for every row under way."""
    logits = under_way.forward(model, also(under_way.numbers))
    utilisation.decode(bare(model), under_way.lengths())
    return logits


def _take(
    under_way: Rows, begun: int, logits: Any, pick: Picker, eos: Sequence[int], min_new: int
) -> None:
    """The next token of the rows from place ``begun`` on."""
    import torch

    logits = logits.float()
    texts = under_way.new[begun:]
    if min_new and eos:
        early = [i for i, new in enumerate(texts) if len(new) < min_new]
        if early:
            places = torch.tensor(early, device=logits.device)[:, None]
            logits[places, torch.tensor(eos, device=logits.device)] = -torch.inf
    picked = pick(under_way.numbers[begun:], logits)
    for new, token in zip(texts, picked.tolist(), strict=True):
        new.append(token)


def _generated(
    model: Any,
    number: int,
    prompt: Sequence[int],
    pick: Picker,
    max_new: int,
    min_new: int,
    eos: Sequence[int],
    ended: Callable[[list[int]], bool] | None,
) -> list[int]:
    """New tokens of one prompt by transformers' ``generate``, each chosen by ``pick``; see :func:`decode`."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    def chosen(ids: Any, scores: Any) -> Any:
        token = pick([number], scores.float())
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0)

    def over(ids: Any, scores: Any) -> Any:
        found = ended is not None and ended(ids[0, len(prompt) :].tolist())
        return torch.tensor([found], device=ids.device)

    settings = GenerationConfig(
        max_new_tokens=max_new, min_new_tokens=min_new or None, do_sample=False,
        eos_token_id=list(eos) or None, pad_token_id=eos[0] if eos else 0,
    )  # fmt: skip
    ids = torch.tensor([list(prompt)], device=model.device)
    own, model.generation_config = (
        model.generation_config,
        settings,
    )  # else it fills in what is not set
    try:
        with torch.inference_mode():
            whole = model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=settings,
                logits_processor=LogitsProcessorList([chosen]), stopping_criteria=StoppingCriteriaList([over]),
            )  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise PluralismError(_NO_ROOM.format(max_new)) from error
    finally:
        model.generation_config = own
    new: list[int] = whole[0, len(prompt) :].tolist()
    pick.restart(number)
    utilisation.prefill(model, [len(prompt)], 1)
    for done in range(1, len(new)):
        utilisation.decode(model, [len(prompt) + done])
    return new


def bare(model: Any) -> Any:
    """The transformers model within a PEFT model, or ``model`` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
