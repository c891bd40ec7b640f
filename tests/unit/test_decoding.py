"""Texts that leave and join a batch, against transformers' own ``generate``, one prompt at a time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    DynamicCache,
    GemmaConfig,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pluralism_eval import utilisation
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import decoding
from pluralism_eval.llm import rows as under_way
from pluralism_eval.llm.decoding import Greedy, Seeded, can_decode, decode, is_plain, rows_that_fit
from pluralism_eval.llm.forward import Opening
from pluralism_eval.llm.hf import HFLLM

VOCABULARY, EOS = 48, 7
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "eos_token_id": EOS, "bos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.6,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "mistral, a window of 8": MistralConfig(**SMALL, sliding_window=8),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "gemma, tied": GemmaConfig(**SMALL, head_dim=8),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256,
        eos_token_id=EOS, bos_token_id=1, initializer_range=0.6,
    ),
}  # fmt: skip


def model_of(config: Any) -> Any:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def llama() -> Any:
    return model_of(CONFIGS["llama"])


def prompts(n: int = 23, most: int = 30) -> list[list[int]]:
    draw = random.Random(n)
    return [[draw.randrange(8, VOCABULARY) for _ in range(draw.randint(1, most))] for _ in range(n)]


def plainly(model: Any, row: Sequence[int], max_new: int, min_new: int = 0) -> list[int]:
    settings = GenerationConfig(
        max_new_tokens=max_new, min_new_tokens=min_new or None, do_sample=False, eos_token_id=EOS, pad_token_id=0
    )  # fmt: skip
    ids = torch.tensor([row])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    new: list[int] = found[0, len(row) :].tolist()
    return new


def texts_of(
    model: Any, given: Sequence[Sequence[int]], pick: Any = None, **how: Any
) -> list[list[int]]:
    how = {"max_new": 20, "eos": [EOS], "rows": 4} | how
    found = dict(decode(model, given, pick or Greedy(), **how))
    assert sorted(found) == list(range(len(given)))
    return [found[i] for i in range(len(given))]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("rows", [1, 4, 64])
def test_greedy_texts_are_those_of_generate(name: str, rows: int) -> None:
    model, given = model_of(CONFIGS[name]), prompts()
    assert can_decode(model)
    own = texts_of(model, given, rows=rows, max_new=20)
    assert own == [plainly(model, row, 20) for row in given]
    assert len({len(new) for new in own}) > 3, "some must end early, else nothing is tried"


@pytest.mark.parametrize("name", CONFIGS)
def test_what_all_prompts_begin_with_is_computed_once(name: str) -> None:
    model, begin = model_of(CONFIGS[name]), [5, 3, 9, 1] * 4
    given = [[*begin, *row] for row in prompts()]
    with utilisation.phase(f"texts that begin alike, {name}"):
        opening = Opening.of(model, given)
        assert opening is not None
        assert len(opening) >= len(begin)
        own = texts_of(model, given, opening=opening)
    assert own == [plainly(model, row, 20) for row in given]
    work = utilisation.snapshot()[f"texts that begin alike, {name}"]
    assert work.prefilled == sum(map(len, given)) - (len(given) - 1) * len(opening)
    assert work.prefilled + work.reused == sum(map(len, given)) + len(opening)


def test_a_text_has_at_least_so_many_tokens(llama: Any) -> None:
    given = prompts()
    least = min(len(plainly(llama, row, 20)) for row in given) + 3
    own = texts_of(llama, given, min_new=least)
    assert own == [plainly(llama, row, 20, least) for row in given]
    assert own != texts_of(llama, given)


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_a_sample_depends_on_its_seed_and_prompt_alone(llama: Any, top_p: float) -> None:
    given = prompts()
    seeds = list(range(100, 100 + len(given)))
    alone = [
        texts_of(llama, [row], Seeded([seed], 1.0, top_p))[0]
        for row, seed in zip(given, seeds, strict=True)
    ]
    for rows in (3, 64):
        assert texts_of(llama, given, Seeded(seeds, 1.0, top_p), rows=rows) == alone
    assert texts_of(llama, given, Seeded([s + 1 for s in seeds], 1.0, top_p)) != alone


def test_a_seed_draws_the_same_with_every_version_of_torch() -> None:
    pick = Seeded(range(8), 1.0)
    assert pick(range(8), torch.zeros(8, 1000)).tolist() == [436, 510, 680, 246, 286, 898, 495, 855]
    assert pick(range(8), torch.zeros(8, 1000)).tolist() == [863, 164, 270, 70, 709, 871, 584, 142]


def test_samples_follow_the_models_distribution(llama: Any) -> None:
    row, n = prompts()[0], 4000
    p = llama(torch.tensor([row])).logits[0, -1].div(0.8).softmax(-1)
    drawn = texts_of(llama, [row] * n, Seeded(range(n), 0.8), max_new=1, rows=500)
    shares = torch.bincount(torch.tensor([new[0] for new in drawn]), minlength=VOCABULARY) / n
    assert float((shares - p).abs().sum()) / 2 < 0.05


def test_further_ends_are_asked_for(llama: Any) -> None:
    whole = [plainly(llama, row, 20) for row in prompts()]
    stop = 11

    def ended(new: list[int]) -> bool:
        return new[-1] == stop

    cut = [list(itertools.takewhile(lambda t: t != stop, new)) for new in whole]
    own = texts_of(llama, prompts(), ended=ended)
    assert [new[:-1] if new[-1] == stop else new for new in own] == cut
    assert cut != whole


def memory_for(most: int, model: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Forward passes of more than ``most`` rows fail as on a full GPU; returns how many failed."""
    forward, failed = model.forward, []

    def limited(*args: Any, **kwargs: Any) -> Any:
        cache = kwargs["past_key_values"]
        held = kwargs["input_ids"].shape[0]
        if held > most and cache.get_seq_length() > 32:
            failed.append(held)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", limited)
    return lambda: len(failed)


def test_out_of_memory_halves_the_batch_and_changes_no_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, given = model_of(CONFIGS["llama"]), prompts()
    seeds = list(range(len(given)))
    before = texts_of(model, given, Seeded(seeds, 1.0), max_new=40)
    failures = memory_for(3, model, monkeypatch)
    assert texts_of(model, given, Seeded(seeds, 1.0), max_new=40, rows=8) == before
    assert failures() > 0
    assert "going on with 4 texts at once" in caplog.text
    memory_for(0, model, monkeypatch)
    with pytest.raises(PluralismError, match="not suffice for one text"):
        texts_of(model, given, max_new=40, rows=8)


@pytest.mark.parametrize("late", [False, True])
def test_out_of_memory_while_rows_join_loses_and_repeats_none(
    llama: Any, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    join = under_way.Rows.join

    def limited(self: Any, *given: Any) -> None:
        if late:
            join(self, *given)
        if len(self) + (0 if late else len(given[0])) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if not late:
            join(self, *given)

    monkeypatch.setattr(under_way.Rows, "join", limited)
    given = prompts()
    found = list(decode(llama, given, Greedy(), max_new=20, eos=[EOS], rows=12))
    assert sorted(number for number, _ in found) == list(range(len(given)))
    assert all(new == plainly(llama, given[number], 20) for number, new in found)


def test_rows_leave_the_batch_and_others_take_their_place(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step holds more rows than allowed, and fewer steps are taken than with batches that stay together."""
    given, sizes = prompts(64), []
    step = decoding._step

    def counted(model: Any, rows: Any, *rest: Any) -> Any:
        sizes.append(len(rows))
        return step(model, rows, *rest)

    monkeypatch.setattr(decoding, "_step", counted)
    pick = Seeded(range(64), 3.0)  # ends come at any length
    lengths = [len(new) for new in texts_of(llama, given, pick, rows=8, max_new=60)]
    assert max(sizes) == 8
    together = sum(max(lengths[i : i + 8]) - 1 for i in range(0, 64, 8))
    assert len(sizes) < 0.8 * together
    assert sum(sizes) == sum(lengths) - 64


@pytest.mark.parametrize("spare", [1, 5, 64])
def test_columns_are_used_again(llama: Any, monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    """Many more steps than a text has, in memory that begins with no numbers."""
    monkeypatch.setattr(under_way, "_SPARE", spare)
    moves, move = [], under_way.Rows._to_the_front
    monkeypatch.setattr(under_way.Rows, "_to_the_front", lambda self: (moves.append(1), move(self)))
    buffer = under_way.Rows._buffer
    monkeypatch.setattr(
        under_way.Rows, "_buffer", lambda self, like: buffer(self, like).fill_(torch.nan)
    )
    given = prompts(40)
    assert texts_of(llama, given, rows=3) == [plainly(llama, row, 20) for row in given]
    assert len(moves) > (0 if spare == 64 else 3)


@pytest.mark.parametrize("name", ["llama", "mistral, a window of 8"])
@pytest.mark.parametrize("order", ["the shortest first", "any", "one long at the end"])
def test_no_text_depends_on_what_memory_held(
    name: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that join are longer than those under way: columns that none has written are uncovered."""
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *how, **more: empty(self, *how, **more).fill_(torch.nan)
    )  # fmt: skip
    given = prompts(12)
    if order == "the shortest first":
        given.sort(key=len)
    elif order == "one long at the end":
        given = [row[:4] for row in given[1:]] + [given[0] * 3]
    model = model_of(CONFIGS[name])
    texts = {rows: texts_of(model, given, Seeded(range(12), 2.0), rows=rows, max_new=8) for rows in (1, 2, 5)}  # fmt: skip
    assert texts[1] == texts[2] == texts[5]


def test_rows_that_hold_no_numbers_leave_none_behind(llama: Any) -> None:
    """Where a row of a broken adapter was, another comes: what stands before its own tokens is a number all the same."""
    model, longest, end = llama, 9, 9
    rows = under_way.Rows(3, longest, 4, "cpu")
    lengths = [9, 5, 2]
    caches = []
    for length, value in zip(lengths, [torch.nan, 1.0, 2.0], strict=True):
        cache = DynamicCache()
        for layer in range(2):
            cache.update(torch.full((1, 2, length, 8), value), torch.full((1, 2, length, 8), value), layer)  # fmt: skip
        caches.append(cache)
    for number, (length, cache) in enumerate(zip(lengths, caches, strict=True)):
        rows.join([number], [length], cache)
    rows.leave([0])
    rows.new = [[5] for _ in rows.new]
    assert rows.end == end
    assert rows.forward(model, {}).isfinite().all()


def test_what_is_counted_is_what_was_computed(llama: Any) -> None:
    before, given = utilisation.snapshot(), prompts()
    with utilisation.phase("texts"):
        own = texts_of(llama, given)
    (work,) = utilisation.since(before).values()
    assert work.prefilled == sum(map(len, given))
    assert work.decoded == sum(map(len, own)) - len(given)
    shape = utilisation.Shape.of(llama)
    assert shape.body + 2 * shape.head == llama.num_parameters()
    steps = sum(
        2 * (shape.body + shape.head) + 4 * shape.attention * (len(row) + k)
        for row, new in zip(given, own, strict=True)
        for k in range(1, len(new))
    )
    assert work.flops[1] == pytest.approx(steps)
    described = utilisation.describe({"texts": work})["texts"]
    assert described["floor_seconds"] < described["seconds"]
    assert "tokens/s" in utilisation.lines({"texts": described})[0]


def test_what_generate_alone_can_do_is_left_to_it() -> None:
    mamba = model_of(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4)
    )
    assert not can_decode(mamba)
    assert is_plain(GenerationConfig(eos_token_id=EOS, temperature=0.6, top_p=0.9))
    assert not is_plain(GenerationConfig(repetition_penalty=1.1))
    assert not is_plain(GenerationConfig(suppress_tokens=[3]))


def test_rows_follow_from_memory(llama: Any) -> None:
    assert rows_that_fit(llama, 100) == decoding.most_rows(llama)
    assert rows_that_fit(llama, 10**12) == 1


@pytest.mark.parametrize("add_bos_token", [None, True, False])
def test_prompts_are_encoded_at_once_as_lm_eval_encodes_each(add_bos_token: bool | None) -> None:
    """Also where a chat template has put the token that begins a text."""
    words = Tokenizer(WordLevel({"<s>": 0, "<unk>": 1, "a": 2, "b": 3}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="<unk>")
    inner = SimpleNamespace(tokenizer=tokenizer, add_bos_token=add_bos_token, prefix_token_id=0)
    prompts = ["a b", "<s>b", "b b b a", "<s>", "a b", "c"]
    found = HFLLM(inner, "tiny").encode(prompts)
    assert found == [HFLM.tok_encode(inner, prompt) for prompt in prompts]
    added = int(add_bos_token is not False)
    assert [row.count(0) for row in found] == [added, 1, added, 1, added, added]
