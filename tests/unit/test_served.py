"""Requests to an OpenAI-compatible server, and what counts as a proof that a name is alive."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.served import Endpoint, ServedEngine
from pluralism_eval.errors import PluralismError
from tests.openai_server import Offer, Reply, Scripted, Server, serve


def jobs(n: int, community: str = "a") -> list[Job]:
    return [Job(str(i), community, f"prompt {i}", seed=i) for i in range(n)]


def test_requests_run_side_by_side_and_carry_everything() -> None:
    seen: list[dict[str, Any]] = []
    barrier = threading.Barrier(4, timeout=20)  # breaks unless four are in flight

    def answer(body: dict[str, Any]) -> Reply:
        seen.append(body)
        barrier.wait()
        return f" about {body['prompt']} ", 3, "length" if body["seed"] == 0 else "stop", None

    with serve(["model-a"], answer) as url:
        engine = ServedEngine(url, {"a": Endpoint("model-a", "base")}, concurrency=4)
        found = {j.key: o for j, o in engine.generate(jobs(8), Sampling(7, 0.9, 1.0))}
    assert [found[str(i)].text for i in range(8)] == [f"about prompt {i}" for i in range(8)]
    assert [found[str(i)].stopped for i in range(3)] == [False, True, True]
    assert found["0"].n_tokens == 3
    assert {(b["model"], b["max_tokens"], b["top_p"], b["temperature"]) for b in seen} == {
        ("model-a", 7, 0.9, 1.0)
    }
    assert sorted(b["seed"] for b in seen) == list(range(8))


def test_a_persona_goes_through_chat() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return "|".join(f"{m['role']}: {m['content']}" for m in body["messages"]), 1, "stop", None

    with serve(["m"], answer) as url:
        engine = ServedEngine(url, {"a": Endpoint("m", "", "You are a nurse.")})
        ((_, out),) = engine.generate(jobs(1), Sampling(7))
        assert engine.prove(["a"]) == {"a": {"kind": "persona", "served": "m"}}
    assert out.text == "system: You are a nurse.|user: prompt 0"


def test_a_failed_request_is_an_error_after_the_others_came_in() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if body["prompt"] == "prompt 2":
            raise ValueError("too long")
        return "fine", 1, "stop", None

    with serve(["m"], answer) as url:
        engine = ServedEngine(url, {"a": Endpoint("m", "base")})
        found: list[str] = []
        came = (found.append(job.key) for job, _ in engine.generate(jobs(4), Sampling(7)))
        with pytest.raises(PluralismError, match=r"\(m\): BadRequestError.*too long"):
            list(came)
    assert sorted(found) == ["0", "1", "3"]


def prove(logprobs: dict[str, list[float] | None], texts: dict[str, str], name: str) -> Any:
    """Each model's answers in turn, the last one again and again."""
    calls = dict.fromkeys(logprobs, 0)

    def answer(body: dict[str, Any]) -> Reply:
        model = body["model"]
        values = logprobs[model]
        value = None if values is None else values[min(calls[model] // 3, len(values) - 1)]
        calls[model] += 1
        return texts.get(model, "the same"), 3, "stop", value

    with serve(list(logprobs), answer) as url:
        return ServedEngine(url, {"c": Endpoint(name, "base")}).prove(["c"])["c"]


def test_alive_by_text() -> None:
    proof = prove({"base": None, "m": None}, {"m": "another"}, "m")
    assert (proof["texts_that_differ"], proof["of"]) == (3, 3)


def test_alive_by_log_probability_beyond_the_noise() -> None:
    proof = prove({"base": [-1.0, -1.01], "m": [-1.2]}, {}, "m")
    assert proof["max_logprob_difference"] == pytest.approx(0.2)
    assert proof["noise"] == pytest.approx(0.01)


@pytest.mark.parametrize("m", [None, [-1.0], [-1.03]])
def test_dead(m: list[float] | None) -> None:
    """No log-probabilities and equal text; equal log-probabilities; a difference within the noise."""
    base = None if m is None else [-1.0, -1.01]
    with pytest.raises(PluralismError, match="c: 'm' answers as its base 'base' does"):
        prove({"base": base, "m": m}, {}, "m")


def test_names_that_are_not_served_and_servers_that_are_not_there() -> None:
    with pytest.raises(PluralismError, match=r"c: model 'm' is not served; .* has base"):
        prove({"base": None}, {}, "m")
    engine = ServedEngine("http://127.0.0.1:9/v1", {"c": Endpoint("m", "base")})
    engine.api.client = engine.api.client.with_options(max_retries=0)
    with pytest.raises(PluralismError, match="9/v1: APIConnectionError"):
        engine.prove(["c"])


@pytest.mark.parametrize("knows", [True, False])
def test_a_message_has_at_least_one_token_where_the_server_can_be_told_so(knows: bool) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Reply:
        if "min_tokens" in body and not knows:
            raise ValueError("Unrecognized request argument supplied: min_tokens")
        bodies.append(body)
        return body["model"], 1, "stop", None

    with serve(["m", "base"], answer) as url:
        engine = ServedEngine(url, {"a": Endpoint("m", "base")})
        engine.prove(["a"])
        list(engine.generate(jobs(2), Sampling(7)))
    assert {body.get("min_tokens") for body in bodies} == {1 if knows else None}


def test_a_community_is_proved_by_its_own_name_or_one_that_its_pool_allows() -> None:
    offer = Offer(
        models=("m", "base"), snapshots={"m": "other", "base": "other"}, extra=("min_tokens",)
    )
    with Server(Scripted(), offer) as server:
        with pytest.raises(PluralismError, match=r"'other' answered once.*served_as=other"):
            ServedEngine(server.url, {"a": Endpoint("m", "base")}).prove(["a"])
        with pytest.raises(PluralismError, match="dead community LMs"):  # read, and compared
            ServedEngine(server.url, {"a": Endpoint("m", "base")}, served_as=("other",)).prove(
                ["a"]
            )
