"""Settings, presets, weights, and the YAML files that name prompts, communities and studies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval import plugin
from pluralism_eval.api.settings import parse_api
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.distribution import check_weights
from pluralism_eval.presets import PRESETS, get_preset
from pluralism_eval.prompts import FILES, Prompts
from pluralism_eval.settings import Settings, parse, read_config, read_weights
from pluralism_eval.study import parse_llm, read_study
from tests.fuzz import JSON, TEXTS, damaged_text, encodable, fuzz, mutated, ours

ARGUMENTS: dict[str, Any] = {
    "llm": "embedded", "llm_args": {"a": 1}, "communities": "embedded", "mode": "auto", "preset": "paper+nli_premise=explanation",
    "weights": [0.5, 0.5], "message_max_tokens": 40, "message_temperature": 1.0, "seed": 1, "readout": "options", "orders": 2,
    "templates": 1, "batch_tokens": 8192, "attribute": "x", "prompts": "p.yaml", "pretrained": "m",
}  # fmt: skip
POOL = [
    {"name": "a", "description": "of a", "base": "embedded", "adapter": "embedded/news_left"},
    {"name": "b", "description": "of b", "engine": "served", "base_url": "http://h/v1", "model": "m", "base": "m"},
    {"name": "c", "description": "of c", "engine": "prompted", "persona": "You are c.", "base": "embedded"},
]  # fmt: skip
STUDY = {
    "llms": [{"name": "x/y", "llm": "hf", "llm_args": {"pretrained": "m"}, "chat": True, "parameters": 7e9}], "methods": ["vanilla"],
    "tasks": ["vk"], "limit": 4, "settings": {"communities": "embedded"}, "gen_kwargs": {}, "pools": ["embedded"], "data": "sample",
}  # fmt: skip


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(encodable(text).encode())
    return path


def dumped(value: Any) -> str:
    try:
        return str(yaml.safe_dump(value, allow_unicode=True))
    except (yaml.YAMLError, RecursionError):
        return str(value)


def texts_of(value: Any) -> Any:
    """YAML of mutations of ``value``, and of its damaged text."""
    return st.one_of(mutated(value).map(dumped), damaged_text(dumped(value)), TEXTS)


@given(st.one_of(mutated(ARGUMENTS), mutated(ARGUMENTS, 8)))
@fuzz(60)
def test_model_args_are_settings_or_one_error(given_: Any) -> None:
    arguments = given_ if isinstance(given_, dict) else {"llm_args": given_}
    with ours():
        found = parse("modular_pluralism", arguments)
        assert isinstance(found, Settings)
        assert isinstance(found.seed, int)
        assert found.message_temperature is None or 0 <= found.message_temperature <= 100
        for name in ("readout_samples", "templates", "message_samples"):
            assert getattr(found, name) >= 1
        assert found.batch_tokens is None or found.batch_tokens >= 1
        get_preset(found.preset)
        names = ["a", "b"]
        with ours():
            check_weights(read_weights(found.weights, names))


@given(st.one_of(TEXTS, damaged_text("a=1;b=[1, 2];c={x: y}"), damaged_text('{"a": 1, "b": [1]}')))
@fuzz(60)
def test_llm_args_as_text(text: str) -> None:
    with ours():
        assert isinstance(parse("vanilla", {"llm": "dummy", "llm_args": text}).llm_args, dict)
    with ours():
        assert parse_llm(text).llm
    with ours():
        assert parse_llm(f"hf:pretrained=m;{text}").llm == "hf"


@given(texts_of({k: v for k, v in ARGUMENTS.items() if k != "pretrained"}))
@fuzz(100)
def test_a_settings_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), "settings.yaml", text)
    with ours():
        parse("vanilla", {"config": str(path)})
    problems: list[str] = []
    assert isinstance(read_config(str(path), problems), dict)


@given(
    st.one_of(
        TEXTS,
        damaged_text("paper+nli_premise=explanation+top_tokens=5"),
        st.tuples(
            st.sampled_from(["paper", "reference"]),
            st.lists(
                st.tuples(st.sampled_from(sorted(vars(PRESETS["paper"]))), st.one_of(TEXTS, JSON.map(str))),
                max_size=3,
            ),
        ).map(lambda p: "+".join([p[0], *(f"{k}={v}" for k, v in p[1])])),
    )
)  # fmt: skip
@fuzz(100)
def test_a_preset(name: str) -> None:
    with ours():
        found = get_preset(name)
        assert found.name == name
        assert 0 <= found.message_top_p <= 1
        assert 0 <= found.llm_temperature <= 100
        assert found.choice_max_tokens >= 1
        assert found.moralchoice_orders >= 1
        assert found.ties in ("drawn", "first")


@given(st.one_of(JSON, mutated([0.5, 0.5]), mutated({"a": 0.5, "b": 0.5}), TEXTS))
@fuzz(100)
def test_weights(value: Any) -> None:
    with ours():
        weights = read_weights(value, ["a", "b"])
        assert len(weights) == 2
        check_weights(weights)
    with ours():
        check_weights(read_weights(json.dumps(value), ["a", "b"]))


@given(mutated({
    "model": "m", "base_url": "http://h/v1", "api": "chat", "concurrency": 4, "timeout": 3.0, "max_retries": 2, "requests_per_minute": 5,
    "price_in": 0.1, "price_out": 0.2, "spend_limit": 1.0, "omit": ["seed"], "extra": {}, "served_as": "n", "top_logprobs": 20, "cache": True,
}, 5))  # fmt: skip
@fuzz(60)
def test_arguments_of_a_server(given_: Any) -> None:
    if isinstance(given_, dict):
        with ours():
            found = parse_api(given_)
            assert found.concurrency > 0
            assert found.timeout > 0
            assert all(
                getattr(found, n) is None or getattr(found, n) >= 0
                for n in ("price_in", "price_out", "spend_limit", "max_retries")
            )


OVERRIDES = {
    name: yaml.safe_load((plugin.wrapper_folder() / "prompts" / f"{name}.yaml").read_text())
    for name in FILES
}


@given(st.one_of(
    texts_of({name: OVERRIDES[name] for name in ("prompting", "modular_pluralism")}),
    st.dictionaries(st.just("respond"), st.one_of(TEXTS, damaged_text("{% for p in passages %}{{ p }}{% endfor %}{{ query }}")),
                    min_size=1).map(lambda own: dumped({"modular_pluralism": own})),
))  # fmt: skip
@fuzz(20, costs=4)
def test_an_override_of_prompts(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), "prompts.yaml", text)
    with ours():
        prompts = Prompts(str(path))
        assert prompts.variants("modular_pluralism") >= 1
        for method, entries in prompts.texts.items():
            for name in entries:
                with ours():
                    said = prompts.render(method, name, query="Q", passages=["p"], description="d")
                    assert isinstance(said, str)


@given(st.one_of(texts_of(POOL), mutated(POOL, 6).map(dumped)))
@fuzz(100)
def test_a_pool_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), "pool.yaml", text)
    with ours():
        pool = load_pool(str(path))
        assert pool
        assert len({c.name for c in pool}) == len(pool)
        assert all(c.name and c.description.strip() for c in pool)


@given(st.one_of(TEXTS, damaged_text("perspective-reddit_center+asia_culture+embedded/news_left")))
@fuzz(12, costs=4)
def test_a_pool_expression(text: str) -> None:
    with ours():
        assert load_pool(text)


@given(st.one_of(texts_of(STUDY), mutated(STUDY, 5).map(dumped)))
@fuzz(100)
def test_a_study_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), "study.yaml", text)
    with ours():
        llms, rest = read_study(path)
        assert isinstance(rest, dict)
        for llm in llms:
            assert isinstance(llm.name, str)
            assert isinstance(llm.llm, str)
            assert isinstance(llm.chat, bool)
            assert isinstance(llm.llm_args, dict)
            assert llm.parameters is None or llm.parameters > 0
