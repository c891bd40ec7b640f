"""Requests to an OpenAI-compatible server, and what counts as a proof that a name is alive."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.served import Endpoint, ServedEngine
from pluralism_eval.communities.spread import Said, compare
from pluralism_eval.errors import PluralismError
from tests.openai_server import Offer, Reply, Scripted, Server, serve


def jobs(n: int, community: str = "a", chat: bool = False) -> list[Job]:
    return [Job(str(i), community, f"prompt {i}", i, chat) for i in range(n)]


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
        ((_, out),) = engine.generate(jobs(1, chat=True), Sampling(7))
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


def prove(answers: Callable[[str, int], tuple[str, float | None]]) -> Any:
    """``answers`` of "base" and "m" to their 1st, 2nd, ... request for a canary."""
    calls: Counter[tuple[str, str]] = Counter()

    def answer(body: dict[str, Any]) -> Reply:
        calls[body["model"], body["prompt"]] += 1
        text, value = answers(body["model"], calls[body["model"], body["prompt"]])
        return text, 3, "stop", value

    with serve(["base", "m"], answer) as url:
        return ServedEngine(url, {"c": Endpoint("m", "base")}).prove(["c"])["c"]


def test_alive_by_text() -> None:
    proof = prove(lambda model, n: (model, None))
    assert (proof["texts_that_differ"], proof["of"], proof["unsteady"]) == (3, 3, 0)


def test_alive_by_log_probability_beyond_the_noise() -> None:
    proof = prove(lambda model, n: ("same", -1.2 if model == "m" else -1 - 0.01 * (n == 2)))
    assert proof["max_logprob_difference"] == pytest.approx(0.19)
    assert proof["noise"] == pytest.approx(0.01)


def replicas(texts: Sequence[str]) -> Callable[[str, int], tuple[str, float | None]]:
    """One model on several copies that answer by turns, whoever asks."""
    turn = itertools.count()
    return lambda model, n: (texts[next(turn) % len(texts)], None)


def random_texts(seed: int) -> Callable[[str, int], tuple[str, float | None]]:
    """A server that samples in spite of temperature 0."""
    draw = random.Random(seed)
    return lambda model, n: (str(draw.random()), -draw.random())


def jitter(seed: int) -> Callable[[str, int], tuple[str, float | None]]:
    draw = random.Random(seed)
    return lambda model, n: ("same", draw.gauss(-1, 0.02))


DEAD: dict[str, Callable[[], Callable[[str, int], tuple[str, float | None]]]] = {
    "equal text, no log-probabilities": lambda: lambda model, n: ("same", None),
    "equal log-probabilities": lambda: lambda model, n: ("same", -1.0),
    "within the noise": lambda: lambda model, n: ("same", -1.03 if model == "m" else -1 - n / 100),
    "the name's own noise": lambda: lambda model, n: ("same", -1.1 - n / 10 if model == "m" else -1.0),
    "the first answer differs": lambda: lambda model, n: ("cold" if (n, model) == (1, "m") else "same", None),
    "a drift": lambda: lambda model, n: (f"round {n}", -float(n)),
    "two copies": lambda: replicas("ab"),
    "three copies": lambda: replicas("abc"),
    "empty": lambda: lambda model, n: ("", None),
    **{f"random texts {i}": partial(random_texts, i) for i in range(4)},
    **{f"jitter {i}": partial(jitter, i) for i in range(4)},
}  # fmt: skip


@pytest.mark.parametrize("kind", DEAD)
def test_dead(kind: str) -> None:
    with pytest.raises(PluralismError, match="c: 'm' answers as its base 'base' does"):
        prove(DEAD[kind]())


def test_chance_proves_nothing_alive() -> None:
    """One model behind both names that gives one of two texts, with any probability."""
    draw = random.Random(1)

    def said(share: float) -> list[list[Said]]:
        return [[Said("a" if draw.random() < share else "b", None) for _ in range(3)] for _ in range(3)]  # fmt: skip

    for share in (0.03, 0.1, 0.3, 0.5):
        alive = sum(compare(said(share), said(share)).alive for _ in range(2000))
        assert alive / 2000 < 0.01


def test_alive_on_a_server_that_is_a_little_unsteady() -> None:
    same = [Said("base", -1.0)] * 3
    own = [[Said("own", -1.0)] * 3] * 2 + [[Said("x", None), Said("y", None), Said("x", None)]]
    assert compare(own, [same] * 3).alive
    assert not compare([own[0], own[2], own[2]], [same] * 3).alive


def test_names_that_are_not_served_and_servers_that_are_not_there() -> None:
    with serve(["base"], lambda body: ("", 1, "stop", None)) as url:
        engine = ServedEngine(url, {"c": Endpoint("m", "base")})
        with pytest.raises(PluralismError, match=r"c: model 'm' is not served; .* has base"):
            engine.prove(["c"])
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
        with pytest.raises(PluralismError, match=r"'other' answered 3 times.*served_as=other"):
            ServedEngine(server.url, {"a": Endpoint("m", "base")}).prove(["a"])
        with pytest.raises(PluralismError, match="dead community LMs"):  # read, and compared
            ServedEngine(server.url, {"a": Endpoint("m", "base")}, served_as=("other",)).prove(
                ["a"]
            )
