"""``llm=openai``: the embedded model behind a server gives what it gives in process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.distribution import normalise
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.llm.openai_api import OpenAILLM
from pluralism_eval.messages import task_queries
from pluralism_eval.metrics.bounds import distance_bounds
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.settings import parse
from pluralism_eval.uncertainty import lower
from tests.embedded_backend import Embedded
from tests.openai_server import Offer, Server

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def llm() -> Any:
    return load_llm(parse("vanilla", {}), batch_size=1)


@pytest.fixture(scope="module")
def server(llm: Any) -> Iterator[Server]:
    with Server(Embedded(llm), Offer(models=("smol",))) as running:
        yield running


def client(server: Server, **more: Any) -> OpenAILLM:
    args = {"model": "smol", "base_url": server.url, "max_length": 2048, "concurrency": 2, **more}
    found = load_llm(parse("vanilla", {"llm": "openai", "llm_args": args}))
    assert isinstance(found, OpenAILLM)
    return found


@pytest.fixture(scope="module")
def questions() -> list[tuple[str, tuple[str, ...]]]:
    """(prompt, letters) of real docs with two to many options."""
    tasks = ["pluralism_distributional_moralchoice", "pluralism_distributional_globalopinionqa"]
    settings = parse("vanilla", {"orders": 1})
    found = task_queries(tasks, settings, {"data": "sample"}, 2)
    return [(query.text, query.options) for query in found]


def test_equal_generations(server: Server, llm: Any) -> None:
    prompts = ["The village meets to decide about", "Q: What is a fair wage?\nA:"]
    settings = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    assert client(server, api="completions").generate(prompts, settings) == llm.generate(
        prompts, settings
    )
    turns = [{"role": "user", "content": "Should towns close their centre to cars?"}]
    chat = client(server)
    assert chat.generate([chat.render(turns)], settings) == llm.generate(
        [llm.render(turns)], settings
    )


def test_echo_gives_the_distribution_and_top_logprobs_bounds_that_contain_it(
    server: Server, llm: Any, questions: list[tuple[str, tuple[str, ...]]]
) -> None:
    prompts, letters = [p for p, _ in questions], [o for _, o in questions]
    truth = [normalise(s.logprobs) for s in llm.option_logprobs(prompts, letters)]
    api = client(server, api="completions")
    assert api.resolve("options") == "echo"
    for scores, (distribution, mass) in zip(
        api.option_logprobs(prompts, letters), truth, strict=True
    ):
        read, own = normalise(scores.logprobs)
        assert read == pytest.approx(distribution, abs=1e-4)
        assert own == pytest.approx(mass, abs=1e-4)
    for top in (20, 1):
        few = client(server, api="completions", top_logprobs=top)
        found = few.option_logprobs(prompts, letters, readout="top_logprobs")
        hidden = 0
        for scores, (distribution, mass), options in zip(found, truth, letters, strict=True):
            least = lower(scores)
            assert 0 < scores.unseen <= 1
            assert all(low <= p + 1e-4 for low, p in zip(least, distribution, strict=True))
            assert sum(map(math.exp, scores.logprobs)) <= mass + 1e-4
            gold = [1 / len(options)] * len(options)
            low, high = distance_bounds(least, gold)
            assert low - 1e-4 <= js_distance(distribution, gold) <= high + 1e-4
            hidden += any(value == -math.inf for value in scores.logprobs)
        assert hidden > 0 or top > 1  # with one token some option must be out of sight


def test_what_a_server_gives_decides_the_readout(llm: Any) -> None:
    cases = [
        ({"api": "completions"}, Offer(models=("smol",)), "echo"),
        ({"api": "completions"}, Offer(models=("smol",), echo="refused", most_logprobs=5), "top_logprobs"),
        ({"api": "completions"}, Offer(models=("smol",), echo="ignored"), "top_logprobs"),
        ({}, Offer(models=("smol",)), "top_logprobs"),
        ({}, Offer(models=("smol",), top_logprobs="refused", logprobs="refused"), "sampled"),
        ({}, Offer(models=("smol",), top_logprobs="ignored", logprobs="ignored"), "sampled"),
    ]  # fmt: skip
    for args, offer, readout in cases:
        with Server(Embedded(llm), offer) as own:
            api = client(own, **args)
            assert api.resolve("options") == readout, (args, offer)
            if readout == "sampled":
                with pytest.raises(PluralismError, match="gives no top_logprobs"):
                    api.resolve("top_logprobs")
    assert api.resolve("verbalised") == "verbalised"


def run(
    method: str,
    tasks: list[str],
    manager: Any,
    limit: int,
    args: dict[str, Any],
    chat: bool = False,
) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    found: dict[str, Any] = simple_evaluate(
        model=method, model_args=args, tasks=tasks, task_manager=manager, limit=limit,
        gen_kwargs={"max_gen_toks": 12}, apply_chat_template=chat, bootstrap_iters=0,
    )  # fmt: skip
    return found


def test_a_run_over_echo_equals_the_run_in_process(
    server: Server, llm: Any, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    common = {
        "messages": str(tmp_path),
        "message_max_tokens": 4,
        "communities": "embedded/news_left",
    }
    args = {"model": "smol", "base_url": server.url, "api": "completions", "max_length": 8192}
    remote = {"llm": "openai", "llm_args": args}
    task = "pluralism_distributional_globalopinionqa"
    found = [
        run("modular_pluralism", [task], task_manager(data="sample"), 2, common | which)
        for which in ({"readout": "options", "chat": False}, remote)
    ]
    local, served = [f["results"][task] for f in found]
    assert served["jsd,none"] == pytest.approx(local["jsd,none"], abs=1e-4)
    assert found[1]["config"]["pluralism"]["readout_used"] == "echo"
    samples = [f["samples"][task] for f in found]
    for a, b in zip(*samples, strict=True):
        assert [r[0][0] for r in a["resps"]] == pytest.approx(
            [r[0][0] for r in b["resps"]], abs=1e-3
        )


@pytest.mark.parametrize("gives", ["top_logprobs", "nothing"])
def test_chat_only_models_run_every_task(
    llm: Any, task_manager: Callable[..., Any], tmp_path: Path, gives: str
) -> None:
    """Every task of the glob, by a method with communities that are served by chat as well; without
    log-probabilities options are sampled, of a steerable and of a distributional task."""
    from pluralism_eval import plugin

    sampled = ["pluralism_steerable_vk", "pluralism_distributional_globalopinionqa"]
    tasks = list(plugin.TASKS) if gives == "top_logprobs" else sampled
    allowed = {} if gives == "top_logprobs" else {"logprobs": "refused", "top_logprobs": "refused"}
    offer = Offer(models=("smol",), endpoints=frozenset({"chat"}), **allowed)  # type: ignore[arg-type]
    with Server(Embedded(llm), offer) as own:
        pool = tmp_path / "pool.yaml"
        pool.write_text(
            json.dumps(
                [
                    {"name": "nurses", "description": "nurses", "engine": "prompted", "base_url": own.url,
                     "model": "smol", "persona": "You are a nurse."}
                ]
            )
        )  # fmt: skip
        judge = f"openai:model=smol;base_url={own.url}"
        manager = task_manager(data="sample", nli="embedded", judge=judge, baseline=None)
        found = run(
            "modular_pluralism", tasks, manager, 1,
            {
                "llm": "openai", "llm_args": {"model": "smol", "base_url": own.url, "max_length": 8192},
                "communities": str(pool), "messages": str(tmp_path / "m"), "message_max_tokens": 6,
                "readout_samples": 4, "transcript": str(tmp_path / "t.jsonl"),
            },
            chat=True,
        )  # fmt: skip
        paths = own.ledger.paths()
    assert set(found["results"]) == set(tasks)
    assert set(paths) <= {"POST /v1/chat/completions", "GET /v1/models"}
    ours = found["config"]["pluralism"]
    expected = "top_logprobs" if gives == "top_logprobs" else "sampled"
    assert ours["readout_used"] == expected
    assert ours["api"]["llm"]["paid"] > 0
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert {e["readout"] for e in lines} - {"generation"} == {expected}
    score = found["results"]["pluralism_distributional_globalopinionqa"]
    if gives == "top_logprobs":
        assert score["jsd_lower,none"] <= score["jsd,none"] <= score["jsd_upper,none"]
        assert score["hidden_probability,none"] > 0
        assert score["jsd_sampling_error,none"] == 0
    else:
        assert score["jsd_lower,none"] == score["jsd_upper,none"] == score["jsd,none"]
