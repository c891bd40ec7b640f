"""Sizes, time, memory and money by hand; the paper's grid and its overhead; bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.planning import cost, scale
from pluralism_eval.planning.counting import Counter, capped, counter_of, filler
from pluralism_eval.planning.describe import describe
from pluralism_eval.planning.lengths import ASSUMED, Text, assumptions, told
from pluralism_eval.planning.models import Card, card_of, nominal
from pluralism_eval.planning.rows import LLM, MESSAGES, Plan, Planned, rows_of_a_batch
from pluralism_eval.planning.work import Work
from pluralism_eval.plugin import AUTOMATIC
from pluralism_eval.settings import parse
from pluralism_eval.usage import Usage

DEVICE = cost.Device("mine", tflops=100, bandwidth=1000, memory=80)
CARD = Card("x-7b", 7e9, "given", layers=32, kv=1024, width=2.0)


def row(kind: str = LLM, work: Work | None = None, **values: object) -> Planned:
    own = work or Work(Usage(10, 1000, 100), generated=10, limit=20, longest=120)
    given = {"model": CARD, "what": "w", "task": AUTOMATIC[0], "docs": 10, "work": own, "most": own}
    return Planned(kind=kind, **(given | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-3.1-405B-Instruct", 405e9),
        ("x/Foo-0.5b", 0.5e9),
        ("SmolLM2-135M-Instruct", 135e6),
        ("mistralai/Mixtral-8x7B", None),
        ("gpt-4o", None),
        ("x/7bit-model", None),
    ],
)
def test_sizes_that_names_state(name: str, size: float | None) -> None:
    assert nominal(name) == size


def test_what_is_known_of_a_model_without_it() -> None:
    llama = card_of("meta-llama/Llama-2-13b-chat-hf")
    assert (llama.parameters, llama.window, llama.source) == (13.016e9, 4096, "models.yaml")
    assert llama.cache_bytes == (2 * 40 * 5120 * 2, True)
    assert card_of("x/Foo-13b").source == "its name"
    assert card_of("x/Foo-13b", parameters=2e9).parameters == 2e9
    assert card_of("gpt-4o").parameters is None
    assert "--parameters" in card_of("gpt-4o").source
    eight = card_of("meta-llama/Llama-2-7b-hf", {"load_in_8bit": True, "max_length": 1024})
    assert (eight.weight_bytes, eight.window) == (6.738e9, 1024)
    shared = card_of("tals/albert-xlarge-vitaminc-mnli")
    assert shared.computed == 1.21e9 > 10 * (shared.parameters or math.inf)
    bytes_of_13b, exact = card_of("x/Foo-13b").cache_bytes or (0, True)
    assert bytes_of_13b == pytest.approx(2 * 40 * 5120 * 2, rel=0.03)  # as LLaMA2-13B, ungrouped
    assert not exact


def test_the_embedded_model_is_read_from_its_config() -> None:
    card = card_of("embedded")
    assert card.parameters == 134_515_008
    assert (card.layers, card.kv, card.window, card.width) == (30, 192, 8192, 4.0)
    assert counter_of("embedded").how == "its tokenizer"


def test_the_table_of_gpus() -> None:
    for device in cost.gpus().values():
        assert 50 < device.tflops < 5000
        assert 100 < (device.bandwidth or 0) < 10_000
        assert 16 <= (device.memory or 0) <= 300
    assert [device.name for device in cost.devices("H100, l40s")] == ["h100", "l40s"]
    with pytest.raises(PluralismError, match=r"'h1000' is not in the table. Allowed: .*h100.*--tflops"):  # fmt: skip
        cost.devices("h1000")


def test_time_by_hand() -> None:
    reached = cost.Reached(flops=0.5, bandwidth=0.5)
    scored = row(work=Work(Usage(10, 1000, 0)))
    found = cost.seconds(scored, scored.work, DEVICE, 2, reached)
    assert found == cost.Time(2 * 7e9 * 1000 / (2 * 100e12 * 0.5), 0)
    # one batch of 10 texts of 10 tokens; the longest is taken to have 10 * (1 + 1/2 + ... + 1/10) > 20: 20 steps
    written = row(batch=10)
    found = cost.seconds(written, written.work, DEVICE, 1, reached)
    assert found is not None
    context, kept = 1000 / 10 + 10 / 2, 2 * 32 * 1024 * 2
    assert found.decoding == pytest.approx(20 * (14e9 + 10 * context * kept) / (1e12 * 0.5))
    no_bandwidth = replace(DEVICE, bandwidth=None)
    found = cost.seconds(written, written.work, no_bandwidth, 1, reached)
    assert found is not None
    assert found.decoding == pytest.approx(2 * 7e9 * 20 * 10 / 50e12)
    assert cost.seconds(row(model=card_of("gpt-4o")), scored.work, DEVICE, 1, reached) is None


def test_steps_of_batches() -> None:
    work = Work(Usage(8, 80, 80), generated=8, limit=1000)
    assert cost.decode_steps(work, 1, static=True) == (80, 1)
    assert cost.decode_steps(work, 2, static=True) == (4 * 10 * 1.5, 2)
    assert cost.decode_steps(work, 2, static=False) == (40, 2)
    assert cost.decode_steps(Work(Usage(8, 80, 0)), 2, static=True) == (0, 1)
    assert rows_of_a_batch(None, "embedded", False) == 8
    assert rows_of_a_batch("16", "hf", False) == 16
    assert rows_of_a_batch("auto", "hf", False) == rows_of_a_batch(None, "vllm", True) == 64


def test_memory_and_how_many_devices_hold_it() -> None:
    need = cost.memory([row(batch=4)], adapters=1e9)
    assert need is not None
    assert need.total == 14e9 + 1e9 + 4 * 120 * 2 * 32 * 1024 * 2
    assert cost.memory([row(model=card_of("gpt-4o"))]) is None
    assert cost.devices_needed(72e9, DEVICE) == 1
    assert cost.devices_needed(73e9, DEVICE) == 2
    assert cost.devices_needed(300e9, DEVICE) == 8
    assert cost.devices_needed(1.0, replace(DEVICE, memory=None)) is None


def test_money_is_of_those_that_are_paid() -> None:
    prices = cost.Prices(2, 10, discount=0.5)
    rows = [row(), row(local=False, most=Work(Usage(10, 1000, 200)))]
    assert cost.money(Plan(rows), prices) == (
        pytest.approx((1000 * 2 + 100 * 10) / 2e6),
        pytest.approx((1000 * 2 + 200 * 10) / 2e6),
    )
    everything = cost.money(Plan(rows[:1]), prices)  # nobody is paid: what an API would cost
    assert everything[0] == pytest.approx((1000 * 2 + 100 * 10) / 2e6)


def test_the_papers_own_overhead() -> None:
    """Appendix A, "Computational Costs": (6 * 7) / 405 = 10.4 %, and 7 / 405 = 1.7 %."""
    llm = card_of("meta-llama/Llama-3.1-405B")
    pool = load_pool("perspective")
    base = card_of(pool[0].base)
    work = Work(Usage(1, 100, 0))
    plan = Plan(
        [
            row(model=llm, method="modular_pluralism", llm="big", work=work),
            row(MESSAGES, model=base, what="messages of perspective", work=work, needed=Work(Usage(6, 600, 0))),
        ],
        members={"perspective": pool},
        pools={"big": "perspective"},
    )  # fmt: skip
    found = cost.overhead(plan, "big")
    assert found is not None
    assert f"{found.nominal:.1%}" == "10.4%"
    assert f"{found.one:.1%}" == "1.7%"
    # the same with equal tokens for all, as the paper supposes, and the checkpoints' exact sizes
    assert found.flops == pytest.approx(6 * 7.242e9 / 405.85e9)
    assert cost.overhead(replace(plan, rows=plan.rows[1:]), "big") is None


def test_the_papers_grid() -> None:
    docs = scale.paper_docs()
    assert set(docs) == set(AUTOMATIC)
    assert docs["pluralism_overton_nli"] == 3132
    assert docs["pluralism_steerable_vk"] == 21840
    assert docs["pluralism_steerable_opinionqa"] == 22378
    assert docs["pluralism_distributional_moralchoice"] == 1367
    assert docs["pluralism_distributional_globalopinionqa"] == 28763
    llms = scale.paper_llms()
    assert len(llms) == 12
    assert {each.llm.name.split("/")[0] for each in llms} == {
        "llama2-13b", "chatgpt", "llama2-7b", "llama2-70b", "llama3-8b", "gemma-7b",
    }  # fmt: skip
    for each in llms:
        assert each.share == (0.2 if "70b" in each.llm.name else 1)
        assert describe(parse("vanilla", {"llm": each.llm.llm, "llm_args": each.llm.llm_args}))
        assert each.llm.chat == (each.llm.name.endswith("/aligned"))


@given(st.integers(1, 10**7), st.dictionaries(st.text(min_size=1), st.integers(1, 1000), min_size=1))  # fmt: skip
def test_docs_are_divided_without_a_rest(total: int, planned: dict[str, int]) -> None:
    found = scale.divided(total, planned)
    assert sum(found.values()) == total
    whole = sum(planned.values())
    assert all(abs(found[task] - total * n / whole) < 1 for task, n in planned.items())


def test_scaling_on_paper() -> None:
    assert scale.read_scale("paper") is None
    assert scale.read_scale("1,000_000") == 10**6
    for bad in ("0", "-3", "many", "1e6", ""):
        with pytest.raises(PluralismError, match="--scale"):
            scale.read_scale(bad)
    every, left = Work(Usage(60, 600, 120), 60), Work(Usage(6, 60, 12), 6)
    messages = row(MESSAGES, work=left, most=left, needed=every, needed_most=every, stored=54)
    plan = Plan([row(llm="a"), row(llm="b"), messages], notes=("n",))
    found = scale.scaled(plan, {AUTOMATIC[0]: 1000}, {"b": 0.2}, "on paper")
    assert [r.work.usage.calls for r in found.rows] == [1000, 200, 6000]  # nothing is stored there
    assert [r.docs for r in found.rows] == [1000, 200, 1000]
    assert [r.stored for r in found.rows] == [0, 0, 0]
    assert found.notes == ("on paper", "n")
    with pytest.raises(PluralismError, match="is not in the paper"):
        scale.scaled(plan, {}, {}, "")


@given(st.floats(1, 5000))
def test_filler_has_about_the_length(characters: float) -> None:
    text = filler(characters)
    assert text == text.strip() != ""
    assert characters - 15 <= len(text) <= characters + 2
    count = Counter(None)
    assert count(capped(text, 50, count)) <= 50 or " " not in capped(text, 50, count)


def test_lengths_say_where_they_are_from() -> None:
    uses = frozenset({"message", "response", "reply"})
    assert all("assumed" in line for line in assumptions(ASSUMED, uses))
    assert assumptions(ASSUMED, frozenset()) == []
    own = ASSUMED.with_messages({"a": Text(10, 40), "b": Text(30, 160)}, "those of 2 stored ones")
    assert own.message == Text(20, 100)
    assert assumptions(own, frozenset({"message"})) == ["those of 2 stored ones"]
    given = told(50, 100)
    assert given.sentences == pytest.approx(5.5 * 100 / 186)
    assert given.with_messages({"a": Text(1, 1)}, "stored").message.tokens == 50
    assert ASSUMED.message.within(86) == Text(86, 417)
    assert ASSUMED.message.within(512) is ASSUMED.message


def test_an_llm_that_cannot_be() -> None:
    with pytest.raises(PluralismError, match=r"llm='nobody' is no LLM. Allowed: embedded, openai, .*hf"):  # fmt: skip
        describe(parse("vanilla", {"llm": "nobody"}))
    with pytest.raises(PluralismError, match="is no LLM"):
        describe(parse("vanilla", {"llm": "moe"}))
