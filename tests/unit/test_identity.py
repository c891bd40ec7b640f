"""A key holds everything that a text depends on, and nothing else."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from model_wrappers.vanilla import Vanilla
from pluralism_eval.chat_date import rendering_on
from pluralism_eval.communities import adapters, bases
from pluralism_eval.communities.adapter_config import config_sha256, is_usual
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.communities.prompted import PromptedEngine
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import load as load_module
from pluralism_eval.llm.load import load_llm
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Query
from pluralism_eval.settings import Settings, parse

LORA = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM").to_dict()  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"base_model_name_or_path": "/elsewhere"}, {"inference_mode": False}, {"peft_version": "0.1"}, {"revision": "v1"},
        {"lora_dropout": 0.3}, {"auto_mapping": {"a": "b"}}, {"target_modules": ["v_proj", "q_proj"]},
        {"lora_alpha": 16.0}, {"init_lora_weights": "gaussian"}, {"rank_pattern": None}, {"bias": "none"},
    ],
)  # fmt: skip
def test_a_field_that_no_text_depends_on_changes_no_key(change: dict[str, Any]) -> None:
    assert config_sha256(LORA | change) == config_sha256(LORA)
    shorter = {k: v for k, v in LORA.items() if k not in ("use_dora", "alpha_pattern", "bias")}
    assert config_sha256(shorter | change) == config_sha256(LORA)


@pytest.mark.parametrize(
    "change",
    [
        {"lora_alpha": 64}, {"lora_alpha": math.nan}, {"lora_alpha": 16.5}, {"use_rslora": True}, {"r": 8}, {"use_dora": True},
        {"alpha_pattern": {"q_proj": 32}}, {"fan_in_fan_out": True}, {"layers_to_transform": [0]}, {"bias": "all"},
        {"target_modules": ["q_proj"]}, {"init_lora_weights": "pissa"}, {"a_field_of_tomorrow": 1}, {"layer_replication": [[0, 2]]},
    ],
)  # fmt: skip
def test_a_field_that_texts_depend_on_changes_the_key(change: dict[str, Any]) -> None:
    assert config_sha256(LORA | change) != config_sha256(LORA)


def test_the_order_of_patterns_counts_since_the_first_that_fits_is_taken() -> None:
    one, other = {"q_proj": 1, ".*proj": 2}, {".*proj": 2, "q_proj": 1}
    assert config_sha256(LORA | {"alpha_pattern": one}) != config_sha256(LORA | {"alpha_pattern": other})  # fmt: skip


def test_what_this_package_trains_is_usual() -> None:
    own = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]).to_dict()
    shipped = (
        Path(adapters.__file__).parent / "embedded" / "adapters" / "news_left" / adapters.CONFIG
    )
    assert is_usual(own)
    assert is_usual(json.loads(shipped.read_text()))
    assert not is_usual(own | {"lora_alpha": 64})


# ---------------------------------------------------------------------- a base and an adapter on disk

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer of letters in ``base``, a LoRA of it in ``adapter``."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models")
    letters = {c: i for i, c in enumerate(["</s>", *map(chr, range(32, 127)), "\n"])}
    inner = Tokenizer(models.WordLevel(letters, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(letters), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.4, max_position_embeddings=2048, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")  # fmt: skip
    peft = get_peft_model(model, lora)
    peft.peft_config["default"].base_model_name_or_path = str(folder / "base")
    peft.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``made`` with a cache of its own."""
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "cache"))
    place = Path(shutil.copytree(made, tmp_path / "models"))
    edit(place / "adapter" / adapters.CONFIG, base_model_name_or_path=str(place / "base"))
    return place


def edit(file: Path, **change: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def pool_of(place: Path, **given: Any) -> CommunityPool:
    entries = [
        {"name": "own", "description": "d", "base": str(place / "base"), "adapter": str(place / "adapter")},
        {"name": "nurse", "description": "d", "engine": "prompted", "base": str(place / "base"), "persona": "A nurse."},
    ]  # fmt: skip
    (place / "pool.yaml").write_text(yaml.safe_dump(entries))
    settings = {
        "communities": str(place / "pool.yaml"), "messages": str(place / "store"), "message_max_tokens": 6,
        "llm": "hf", "pretrained": str(place / "base"), **given,
    }  # fmt: skip
    return make_pool(parse("modular_pluralism", settings), Prompts(None))


QUERY = Query("k", "t", "0", "What now?", (), "", "overton", "generation")


def keys(pool: CommunityPool) -> list[str]:
    return [pool._key(c, "p", 0).own for c in pool.communities]


def retokenise(file: Path) -> None:
    file.write_text(file.read_text().replace('"Z"', '"Ä"'))


CHANGES: dict[str, tuple[Callable[[Path], Any], list[bool]]] = {
    "nothing": (lambda p: None, [False, False]),
    "alpha": (lambda p: edit(p / "adapter" / adapters.CONFIG, lora_alpha=64), [True, False]),
    "adapter's path": (lambda p: edit(p / "adapter" / adapters.CONFIG, peft_version="9"), [False, False]),
    "rope": (lambda p: edit(p / "base" / "config.json", rms_norm_eps=0.1), [True, True]),
    "who wrote it": (lambda p: edit(p / "base" / "config.json", transformers_version="9", _name_or_path="x"), [False, False]),
    "generation": (lambda p: edit(p / "base" / "generation_config.json", eos_token_id=5), [True, True]),
    "tokenizer": (lambda p: retokenise(p / "base" / "tokenizer.json"), [True, True]),
    "template": (lambda p: (p / "base" / "chat_template.jinja").write_text("x" + TEMPLATE), [True, True]),
    "readme": (lambda p: (p / "base" / "README.md").write_text("new"), [False, False]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_keys_follow_what_lies_on_disk(place: Path, kind: str) -> None:
    before = pool_of(place)
    old, named = keys(before), [before._key(c, "p", 0).named for c in before.communities]
    proof = before._proof_key(before.communities[0])
    changing, changed = CHANGES[kind]
    changing(place)
    after = pool_of(place)
    assert [a != b for a, b in zip(old, keys(after), strict=True)] == changed
    assert [after._key(c, "p", 0).named for c in after.communities] == named
    assert (proof != after._proof_key(after.communities[0])) is changed[0]


@pytest.mark.parametrize(
    ("args", "same"),
    [
        ({}, True), ({"dtype": "float32"}, True), ({"dtype": "bfloat16"}, False), ({"dtype": "torch.float16"}, False),
        ({"load_in_8bit": True}, False), ({"load_in_4bit": False, "max_length": 512}, True),
        ({"pretrained": "org/other", "dtype": "bfloat16"}, True), ({"dtype": "bfloat16", "peft": "x"}, True),
    ],
)  # fmt: skip
def test_keys_follow_the_number_format_of_a_base_that_is_the_llm_too(
    place: Path, args: dict[str, Any], same: bool
) -> None:
    """A base beside another LLM is loaded by itself, in the engine's own format."""
    assert (keys(pool_of(place, **args)) == keys(pool_of(place))) is same


def test_other_configuration_same_weights_asks_anew_and_proves_anew(place: Path) -> None:
    def write() -> list[tuple[str, bool]]:
        pool = pool_of(place)
        pool.check([QUERY])
        return [(m.text, m.reused) for m in pool.messages([QUERY])[0]]

    first = write()
    assert write() == [(text, True) for text, _ in first]
    edit(place / "adapter" / adapters.CONFIG, lora_alpha=64)
    (own, reused), nurse = write()
    assert (reused, nurse[1]) == (False, True)
    assert own != first[0][0]
    edit(place / "adapter" / adapters.CONFIG, lora_alpha=16)
    assert write() == [(text, True) for text, _ in first]
    edit(place / "adapter" / adapters.CONFIG, lora_alpha=math.nan)
    with pytest.raises(PluralismError, match="own"):
        write()


def test_messages_of_earlier_versions(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Imported ones are taken; those that a model wrote under a key without its configuration are not, which is said."""
    pool = pool_of(place)
    prompt = pool.prompt(QUERY)
    row = {
        "community": "x",
        "prompt": prompt,
        "text": "of old",
        "n_tokens": 1,
        "stopped": True,
        "attempts": 1,
    }
    named = [pool._key(c, prompt, 0).named for c in pool.communities]
    pool._source.store.put({named[0]: row, named[1]: {**row, "imported": True}})
    assert [name for name, _ in pool.missing([(QUERY, 0), (QUERY, 1)])] == ["own"]
    with caplog.at_level(logging.WARNING):
        own, nurse = pool.messages([QUERY])[0]
    assert (own.reused, nurse.text) == (False, "of old")
    assert "1 stored messages are of a version whose keys did not hold" in caplog.text


def test_keys_of_the_embedded_communities_are_those_of_earlier_versions() -> None:
    """Their base is told by the hash of one file, their configuration is as trained: old messages stay readable."""
    settings = parse("modular_pluralism", {"communities": "embedded/news_left"})
    pool = make_pool(settings, Prompts(None))
    (community,) = pool.communities
    assert pool._key(community, "p", 0).own == pool._key(community, "p", 0).named
    other = parse("modular_pluralism", {"communities": "embedded/news_left", "llm_args": "dtype=bfloat16"})  # fmt: skip
    pool = make_pool(other, Prompts(None))
    assert pool._key(community, "p", 0).own != pool._key(community, "p", 0).named


def test_other_bases_do_not_unpack_the_embedded_model(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pluralism_eval.llm.embedded.locate", lambda: pytest.fail("unpacked"))
    assert bases.number_format(Settings(), str(place / "base")) == {}


def test_a_hub_base_is_told_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "c0ffee" * 6 + "c0de"
    for name, text in {f"snapshots/{commit}/x": "", "refs/main": commit}.items():
        file = tmp_path / "models--org--of-test" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    (tmp_path / "models--org--of-test" / "snapshots" / commit / "config.json").write_text("{}")
    assert bases.base_identity("org/of-test") == f"org/of-test@{commit}"
    assert bases.base_identity("org/of-test", commit) == f"org/of-test@{commit}"
    assert bases.named_base("org/of-test") == "org/of-test"
    assert bases.base_identity("org/nowhere") == "org/nowhere@main"
    assert (bases.pinned("org/of-test", "main"), bases.pinned("org/of-test", commit)) == (False, True)  # fmt: skip


# ---------------------------------------------------------------------- the date in chat templates

TIMED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "Today: {{ date_string }}. "
) + TEMPLATE
TURNS: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def timed(place: Path) -> Path:
    """``place`` with a template that shows the date."""
    (place / "base" / "chat_template.jinja").write_text(TIMED)
    return place


def test_every_way_to_render_shows_the_date_of_the_settings(timed: Path) -> None:
    base = str(timed / "base")
    given: dict[str, Any] = {"llm": "hf", "pretrained": base}
    assert (
        load_llm(parse("vanilla", given)).render(TURNS).startswith("Today: 26 Jul 2024. <user>hi")
    )
    llm = load_llm(parse("vanilla", given | {"chat_date": "2020-02-29"}))
    assert llm.render(TURNS).startswith("Today: 29 Feb 2020. ")
    own = {**given, "llm_args": {"chat_template_args": {"date_string": "never"}}}
    assert load_llm(parse("vanilla", own)).render(TURNS).startswith("Today: never. ")
    server = {
        "model": "m",
        "base_url": "http://127.0.0.1:9/v1",
        "api": "completions",
        "tokenizer": base,
    }
    asked = load_llm(
        parse("vanilla", {"llm": "openai", "llm_args": server, "chat_date": "2020-02-29"})
    )
    assert asked.render(TURNS).startswith("Today: 29 Feb 2020. ")
    engine = PromptedEngine(base, {"nurse": "A nurse."}, llm, chat_date="2020-02-29")
    shown = engine._local.tokenizer.decode(engine._local.tokens("hi", True, "A nurse.")).replace(
        " ", ""
    )
    assert shown.startswith("Today:29Feb2020.<system>Anurse.")


def test_outside_the_clock_goes_on_and_threads_do_not_meet() -> None:
    from transformers.utils import chat_template_utils

    def year() -> int:
        return int(chat_template_utils.datetime.now().year)  # type: ignore[attr-defined]

    with rendering_on("2001-02-03"), ThreadPoolExecutor(1) as threads:
        assert (year(), threads.submit(year).result()) == (2001, datetime.now().year)
    assert year() == datetime.now().year


def test_the_date_is_in_keys_where_a_template_shows_it(timed: Path) -> None:
    def differ() -> tuple[list[bool], bool]:
        one, other = ({"chat_date": day} for day in ("2024-07-26", "2024-07-27"))
        llms = [
            load_llm(parse("vanilla", {"llm": "hf", "pretrained": str(timed / "base"), **d}))
            for d in (one, other)
        ]
        pools = keys(pool_of(timed, **one)), keys(pool_of(timed, **other))
        return [a != b for a, b in zip(*pools, strict=True)], llms[0].identity != llms[1].identity

    assert differ() == ([True, True], True)
    (timed / "base" / "chat_template.jinja").write_text(TEMPLATE)
    assert differ() == ([False, False], False)


@pytest.mark.parametrize("value", ["yesterday", "26 Jul 2024", "2024-02-30", 7, ""])
def test_a_date_that_is_none(value: Any) -> None:
    with pytest.raises(PluralismError, match="must be a date such as 2024-07-26"):
        parse("vanilla", {"chat_date": value})


def test_the_fingerprint_of_a_run_follows_its_llm_and_its_date(place: Path) -> None:
    """The answers of --use_cache are kept under it."""

    def fingerprint(**more: Any) -> tuple[str, str]:
        model = Vanilla(llm="hf", pretrained=str(place / "base"), **more)
        return model.fingerprint(), model.tokenizer_name

    first = fingerprint()
    assert fingerprint() == first
    assert all(a != b for a, b in zip(fingerprint(chat_date="2020-01-01"), first, strict=True))
    load_module._alive.clear()
    weights = place / "base" / "model.safetensors"
    state = load_file(weights)
    state["model.norm.weight"] *= 2
    save_file(state, weights, metadata={"format": "pt"})
    assert all(a != b for a, b in zip(fingerprint(), first, strict=True))
