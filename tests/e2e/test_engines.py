"""Engines on the real model: a secret base is found, engines mix in one pool. That served equals lora:
``test_serving.py``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.messages import task_queries
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Query
from pluralism_eval.settings import parse
from tests.openai_server import Reply, serve

pytestmark = pytest.mark.model
SECRET = "news_of_nobody"


@pytest.fixture(scope="module")
def llm() -> Any:
    return load_llm(parse("vanilla", {}), batch_size=1)


@pytest.fixture(scope="module")
def server(llm: Any) -> Iterator[str]:
    """Six communities under their names, the base, and a seventh name that is the base in secret."""
    members = adapters.resolve_all(load_pool("embedded"))
    engine, lock = LoraEngine("embedded", members, llm), threading.Lock()

    def answer(body: dict[str, Any]) -> Reply:
        assert body.get("temperature", 0) == 0
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        sampling, name = Sampling(body["max_tokens"], temperature=0), body["model"]
        with lock:
            if name in members:
                ((_, out),) = engine.generate([Job("k", name, prompt, 0, chat)], sampling)
            else:
                local = engine._local
                ((_, out),) = local.sample(local.model, [local.tokens(prompt, chat)], [0], sampling)
        return out.text, out.n_tokens, "stop" if out.stopped else "length", None

    with serve([*members, SECRET, "base"], answer) as url:
        yield url


def pool_of(tmp_path: Path, entries: list[Any]) -> CommunityPool:
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(entries))
    given = {
        "communities": str(file),
        "messages": str(tmp_path / "messages"),
        "message_max_tokens": 20,
        "message_temperature": 0,
    }
    return make_pool(parse("modular_pluralism", given), Prompts(None))


def served(url: str, name: str) -> dict[str, str]:
    return {"name": name, "description": "d", "engine": "served", "base_url": url, "model": name, "base": "base"}  # fmt: skip


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    settings = parse("modular_pluralism", {"orders": 1})
    return task_queries(["pluralism_distributional_moralchoice"], settings, {"data": "sample"}, 1)


def test_a_name_that_secretly_answers_as_the_base_is_found(
    server: str, llm: Any, queries: list[Query], tmp_path: Path
) -> None:
    pool = pool_of(tmp_path, [served(server, name) for name in ("news_left", SECRET)])
    with pytest.raises(PluralismError, match=f"{SECRET}: .* answers as its base 'base'") as caught:
        pool.check(queries, llm)
    assert str(caught.value).count("answers as its base") == 1


def test_a_zeroed_adapter_is_found_alive_or_dead_by_its_logits(llm: Any, tmp_path: Path) -> None:
    """Beyond the file check: weights that pass it and do nothing once they are loaded."""
    members = adapters.resolve_all(load_pool("embedded/news_left"))

    def engine() -> LoraEngine:
        return LoraEngine("embedded", members, llm)

    assert engine().prove(["news_left"])["news_left"]["max_abs_difference"] > 0.1
    zeroed = engine()
    for _, stack in zeroed._mixed._layers:
        stack.b.zero_()
    with pytest.raises(PluralismError, match="news_left: its logits equal the base model's"):
        zeroed.prove(["news_left"])
    assert engine().prove(["news_left"])["news_left"]["max_abs_difference"] > 0.1


def test_engines_mix_in_one_pool(
    server: str, llm: Any, queries: list[Query], tmp_path: Path
) -> None:
    entries = [
        "embedded/news_left",
        served(server, "news_right"),
        {"name": "nurses", "description": "d", "engine": "prompted", "base": "embedded",
         "persona": "You are a nurse. Speak of patients."},
        {"name": "pilots", "description": "d", "engine": "prompted", "base": "embedded",
         "persona": "You are an airline pilot. Speak of flying."},
    ]  # fmt: skip
    pool = pool_of(tmp_path, entries)
    pool.check(queries, llm)
    (first,) = pool.messages(queries, llm)
    assert [m.community for m in first] == ["news_left", "news_right", "nurses", "pilots"]
    assert len({m.text for m in first[:3]}) == 3  # greedy personas may say the same
    assert not any(m.reused for m in first)
    again = pool_of(tmp_path, entries)
    again.check(queries, llm)
    (second,) = again.messages(queries, llm)
    assert [(m.text, m.reused) for m in second] == [(m.text, True) for m in first]
    assert json.dumps(again.proofs()).count("not needed") == 4
