"""The local server answers as the API is documented to, and injects what it counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.openai_server import Faults, Offer, Refusal, Scripted, Server
from tests.openai_server.faults import BEFORE, CONTENT, FORMS, KINDS, WIRE

KEY = "sk-secret-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
ASKED = {"model": "model", "messages": HELLO, "logprobs": True, "top_logprobs": 4, "max_tokens": 2}


@contextmanager
def running(backend: Any = None, key: str = KEY, **more: Any) -> Iterator[tuple[Server, OpenAI]]:
    with (
        Server(backend or Scripted(), **more) as server,
        OpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=20) as client,
    ):
        yield server, client


def complete(client: OpenAI, prompt: Any = "Say:", **more: Any) -> Any:
    return client.completions.create(model="model", prompt=prompt, **more)


def chat(client: OpenAI, **more: Any) -> Any:
    arguments: dict[str, Any] = {"model": "model", "messages": HELLO, **more}
    return client.chat.completions.create(**arguments)


def test_models() -> None:
    with running(offer=Offer(models=("a", "org/b"))) as (_, client):
        assert [model.id for model in client.models.list()] == ["a", "org/b"]
        assert client.models.retrieve("org/b").id == "org/b"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("c")


def test_completions_with_echo() -> None:
    def distribution(text: str) -> dict[str, float]:
        return {" B": 0.5, " A": 0.25, "": 0.125}

    with running(Scripted(distribution=distribution)) as (_, client):
        reply = complete(client, "Pick: A", echo=True, max_tokens=2, logprobs=2, temperature=0)
        (choice,) = reply.choices
        assert (choice.text, choice.finish_reason) == ("Pick: A B B", "length")
        known = choice.logprobs
        assert known.tokens == ["Pick", ":", " A", " B", " B"]
        assert known.text_offset == [0, 4, 5, 7, 9]
        assert known.token_logprobs[0] is None
        assert known.top_logprobs[0] is None
        assert known.token_logprobs[2:] == pytest.approx(
            [-1.386294, -0.693147, -0.693147], abs=1e-5
        )
        assert list(known.top_logprobs[2]) == [" B", " A"]
        assert list(known.top_logprobs[1]) == [" B", " A", ":"]  # and the chosen one
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 2)
        assert reply.object == "text_completion"

        (choice,) = complete(client, "Pick: A", echo=True, max_tokens=0, logprobs=0).choices
        assert (choice.text, choice.finish_reason) == ("Pick: A", "length")
        assert len(choice.logprobs.token_logprobs) == 3
        assert choice.logprobs.top_logprobs is None

        (choice,) = complete(client, "Pick: A", max_tokens=1, logprobs=1, temperature=0).choices
        assert choice.logprobs.text_offset == [7]
        assert complete(client, "Pick: A", max_tokens=0).choices[0].text == ""


def test_prompts_samples_seeds_and_stops() -> None:
    with running() as (_, client):
        reply = complete(client, ["one", "two"], n=3, seed=1, max_tokens=5)
        assert [choice.index for choice in reply.choices] == list(range(6))
        texts = [choice.text for choice in reply.choices]
        assert len(set(texts)) > 3
        assert [
            c.text for c in complete(client, ["one", "two"], n=3, seed=1, max_tokens=5).choices
        ] == texts
        assert [
            c.text for c in complete(client, "two", n=3, seed=1, max_tokens=5).choices
        ] == texts[3:]
        assert len({complete(client, "x", max_tokens=9).choices[0].text for _ in range(3)}) == 3
        assert len({c.text for c in complete(client, "x", n=4, temperature=0).choices}) == 1
        assert reply.usage.prompt_tokens == 2
        assert reply.usage.total_tokens == 2 + reply.usage.completion_tokens
    with running(Scripted(" A dog. A cat. A cow.")) as (_, client):
        reply = complete(client, max_tokens=50, stop=["cow", " cat"], logprobs=1)
        assert (reply.choices[0].text, reply.choices[0].finish_reason) == (" A dog. A", "stop")
        assert reply.choices[0].logprobs.tokens == [" A", " dog", ".", " A"]
        assert reply.usage.completion_tokens == 5
        assert complete(client).choices[0].finish_reason == "stop"
        assert complete(client, max_tokens=9).choices[0].finish_reason == "length"


def test_parts_of_characters() -> None:
    from tests.openai_server import Answer, Ask, Choice, Token

    class Halves(Scripted):
        def answer(self, ask: Ask) -> Answer:
            first, second = "é".encode()[:1], "é".encode()[1:]
            tokens = tuple(Token(raw, -0.5, ((raw, -0.5),)) for raw in (b"a", first, second, b"b"))
            return Answer(1, (Choice("aéb", tokens, "stop", 5),), "")

    with running(Halves()) as (_, client):
        known = complete(client, "", logprobs=1).choices[0].logprobs
        assert known.tokens == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
        assert known.text_offset == [0, 1, 1, 2]
        content = chat(client, logprobs=True).choices[0].logprobs.content
        assert [token.token for token in content] == ["a", "\\xc3", "\\xa9", "b"]
        assert bytes(byte for token in content for byte in token.bytes).decode() == "aéb"


def test_chat() -> None:
    def distribution(text: str) -> dict[str, float]:
        return {f"w{i}": 0.04 - i / 1000 for i in range(22)}

    with running(Scripted("w0 w1", distribution)) as (_, client):
        reply = chat(client, logprobs=True, top_logprobs=20, n=2, max_completion_tokens=1)
        assert [choice.index for choice in reply.choices] == [0, 1]
        (token,) = reply.choices[0].logprobs.content
        assert (token.token, token.bytes) == ("w0", [119, 48])
        assert [top.token for top in token.top_logprobs] == [f"w{i}" for i in range(20)]
        assert token.logprob == token.top_logprobs[0].logprob
        message = reply.choices[0].message
        assert (message.role, message.content, message.refusal) == ("assistant", "w0", None)
        assert (reply.object, reply.choices[0].finish_reason) == ("chat.completion", "length")
        assert (reply.usage.completion_tokens, reply.usage.total_tokens) == (
            2,
            reply.usage.prompt_tokens + 2,
        )
        assert chat(client).choices[0].logprobs is None
        assert chat(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    for rare, expected in ((True, -9999.0), (False, pytest.approx(-3.9633, abs=1e-3))):
        backend = Scripted("w21", distribution)
        with running(backend, offer=Offer(rare_is_9999=rare)) as (_, client):
            assert chat(client, logprobs=True).choices[0].logprobs.content[0].logprob == expected


def test_refusals_and_snapshots() -> None:
    offer = Offer(models=("gpt",), snapshots={"gpt": "gpt-2026-01-01"})
    with running(Scripted(lambda ask, i: Refusal("No.")), offer=offer) as (_, client):
        reply = chat(client, model="gpt", logprobs=True)
        message = reply.choices[0].message
        assert (reply.model, message.content, message.refusal) == ("gpt-2026-01-01", None, "No.")
        assert reply.choices[0].logprobs.content is None
        assert len(reply.choices[0].logprobs.refusal) == 2


def schema(**changes: Any) -> dict[str, Any]:
    value = {
        "type": "object",
        "properties": {"A": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": ["é", "f"]}},
        "required": ["A", "b"],
        "additionalProperties": False,
    }  # fmt: skip
    wanted = {"name": "answer", "strict": True, "schema": value | changes}
    return {"type": "json_schema", "json_schema": wanted}


def test_strict_schemas() -> None:
    with running() as (_, client):
        found = [
            json.loads(chat(client, response_format=schema()).choices[0].message.content)
            for _ in range(4)
        ]
        for value in found:
            assert list(value) == ["A", "b"]
            assert value["A"] in range(10)
            assert value["b"] in ("é", "f")
        assert len({str(value) for value in found}) > 1
        for changes, what in (
            ({"additionalProperties": True}, "'additionalProperties' is required"),
            ({"required": ["A"]}, "Missing 'b'"),
            ({"type": "array"}, 'type: "object"'),
        ):
            with pytest.raises(openai.BadRequestError, match=what):
                chat(client, response_format=schema(**changes))
        with pytest.raises(openai.BadRequestError, match="the word 'json'"):
            chat(client, response_format={"type": "json_object"})
    with (
        running(offer=Offer(json_schema="refused")) as (_, client),
        pytest.raises(openai.BadRequestError, match="response_format"),
    ):
        chat(client, response_format=schema())


NO_LOGPROBS = Offer(logprobs="refused", echo="refused")
PLAIN_CHAT: dict[str, Any] = {"messages": HELLO}


@pytest.mark.parametrize(
    ("offer", "body", "status", "param", "code", "message"),
    [
        (Offer(), {"prompt": "x", "stream": True}, 400, "stream", "unsupported_value", "Streaming"),
        (Offer(), {"prompt": "x", "model": "y"}, 404, None, "model_not_found", "`y` does not exist"),
        (Offer(), {"prompt": "x", "max_tokens": -1}, 400, "max_tokens", "integer_below_min_value", ">= 0"),
        (Offer(), {"prompt": "x", "max_tokens": 8192}, 400, "prompt", "context_length_exceeded", "8193 tokens"),
        (Offer(), {"prompt": "x", "logprobs": 21}, 400, "logprobs", "integer_above_max_value", "<= 20"),
        (Offer(most_logprobs=5), {"prompt": "x", "logprobs": 6}, 400, "logprobs", "integer_above_max_value", "<= 5"),
        (Offer(), {"prompt": [1, 2]}, 400, "prompt", None, "no tokenizer"),
        (Offer(), {"prompt": [{}]}, 400, "prompt", "invalid_type", "token ids"),
        (Offer(), {"prompt": "x", "stop": list("abcde")}, 400, "stop", "array_above_max_length", "too long"),
        (Offer(), {"prompt": "x", "best_of": 2}, 400, "best_of", None, "not implemented"),
        (NO_LOGPROBS, {"prompt": "x", "logprobs": 0}, 400, "logprobs", "unsupported_parameter", "not supported"),
        (NO_LOGPROBS, {"prompt": "x", "echo": True}, 400, "echo", "unsupported_parameter", "not supported"),
        (Offer(echo_with_logprobs="refused"), {"prompt": "x", "echo": True, "logprobs": 1}, 400, None, None, "at the same time"),
        (Offer(endpoints=frozenset({"chat"})), {"prompt": "x"}, 404, "model", None, "chat model"),
        (Offer(endpoints=frozenset({"completions"})), PLAIN_CHAT, 404, None, None, "Invalid URL"),
        (Offer(), {"messages": []}, 400, "messages", "empty_array", "empty array"),
        (Offer(), {"messages": [{"role": "nurse", "content": ""}]}, 400, "messages[0].role", "invalid_value", "'nurse'"),
        (Offer(), {"messages": [{"role": "user"}]}, 400, "messages.[0].content", None, "got null"),
        (Offer(), {**PLAIN_CHAT, "top_logprobs": 2}, 400, "top_logprobs", None, "only allowed when 'logprobs'"),
        (Offer(), {**PLAIN_CHAT, "logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "integer_above_max_value", "<= 20"),
        (Offer(most_top_logprobs=5), {**PLAIN_CHAT, "logprobs": True, "top_logprobs": 6}, 400, "top_logprobs", "integer_above_max_value", "<= 5"),
        (Offer(), {**PLAIN_CHAT, "logprobs": 3}, 400, "logprobs", "invalid_type", "a boolean, but got an integer"),
        (NO_LOGPROBS, {**PLAIN_CHAT, "logprobs": True}, 400, "logprobs", "unsupported_parameter", "not supported"),
        (Offer(top_logprobs="refused"), {**PLAIN_CHAT, "logprobs": True, "top_logprobs": 1}, 400, "top_logprobs", "unsupported_parameter", ""),
        (Offer(), {**PLAIN_CHAT, "n": 129}, 400, "n", "integer_above_max_value", "<= 128"),
        (Offer(), {**PLAIN_CHAT, "temperature": 2.5}, 400, "temperature", "decimal_above_max_value", "<= 2"),
        (Offer(), {**PLAIN_CHAT, "temperature": "hot"}, 400, "temperature", "invalid_type", "got a string"),
        (Offer(), {**PLAIN_CHAT, "max_tokens": 0}, 400, "max_tokens", "integer_below_min_value", ">= 1"),
        (Offer(), {**PLAIN_CHAT, "max_tokens": 1, "max_completion_tokens": 1}, 400, "max_tokens", "invalid_parameter_combination", ""),
        (Offer(), {**PLAIN_CHAT, "min_p": 0.1}, 400, None, None, "Unrecognized request argument supplied: min_p"),
        (Offer(unsupported=("max_tokens",)), {**PLAIN_CHAT, "max_tokens": 1}, 400, "max_tokens", "unsupported_parameter", "max_completion_tokens"),
        (Offer(fixed={"temperature": 1}), {**PLAIN_CHAT, "temperature": 0}, 400, "temperature", "unsupported_value", "does not support 0"),
    ],
)  # fmt: skip
def test_errors_in_openais_shape(
    offer: Offer, body: dict[str, Any], status: int, param: str, code: str, message: str
) -> None:
    with running(offer=offer) as (server, client):
        path = "/chat/completions" if "messages" in body else "/completions"
        with pytest.raises(openai.APIStatusError) as caught:
            client.post(path, body={"model": "model", **body}, cast_to=object)
        assert server.ledger.total() == 0
        assert server.ledger.statuses == {status: 1}
    error = caught.value.response.json()["error"]
    assert caught.value.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert message in error["message"]


def test_what_servers_ignore() -> None:
    offer = Offer(logprobs="ignored", echo="ignored", extra=("min_p",), json_schema="ignored")
    with running(Scripted(" A"), offer=offer) as (_, client):
        (choice,) = complete(client, logprobs=2, echo=True, extra_body={"min_p": 1}).choices
        assert (choice.text, choice.logprobs) == (" A", None)
        (choice,) = chat(client, logprobs=True, top_logprobs=2, response_format=schema()).choices
        assert (choice.message.content, choice.logprobs) == (" A", None)
    with running(offer=Offer(top_logprobs="ignored")) as (_, client):
        (choice,) = chat(client, logprobs=True, top_logprobs=2).choices
        assert choice.logprobs.content[0].top_logprobs == []
        assert complete(client, logprobs=2).choices[0].logprobs.top_logprobs is None


def test_keys() -> None:
    for shows, quoted in (("masked", "sk-secre**************cdef"), ("whole", KEY)):
        offer = Offer(api_key="sk-another", shows_key=shows)  # type: ignore[arg-type]
        with running(offer=offer) as (server, client):
            with pytest.raises(openai.AuthenticationError) as caught:
                chat(client)
            assert quoted in str(caught.value)
            assert (KEY in str(caught.value)) == (shows == "whole")
            (seen,) = server.ledger.requests
            assert seen.authorized
            assert KEY not in str(seen)
            with pytest.raises(openai.AuthenticationError, match="didn't provide"):
                client.get(
                    "/models", cast_to=object, options={"headers": {"Authorization": openai.omit}}
                )
            assert not server.ledger.requests[-1].authorized
    with running(key="sk-another", offer=offer) as (_, client):
        assert chat(client).choices


def test_an_idempotency_key_is_billed_once() -> None:
    with running(faults=Faults(script={1: "cut_body"})) as (server, client):
        first = complete(client, "a", extra_headers={"Idempotency-Key": "1"})
        with pytest.raises(openai.APIConnectionError):
            complete(client, "b", extra_headers={"Idempotency-Key": "2"})
        again = complete(client, "b", extra_headers={"Idempotency-Key": "2"})
        assert complete(client, "b", extra_headers={"Idempotency-Key": "2"}) == again
        assert complete(client, "a", extra_headers={"Idempotency-Key": "1"}) == first
        bill = server.ledger.bill("/v1/completions", {"model": "model", "prompt": "b"})
        assert (bill.billed, bill.cut, bill.delivered, bill.replayed) == (1, 1, 0, 2)
        with pytest.raises(openai.BadRequestError, match="same parameters"):
            complete(client, "c", extra_headers={"Idempotency-Key": "1"})
        complete(client, "b")
        assert (bill.billed, server.ledger.total(), server.ledger.total("delivered")) == (2, 3, 2)
    with running(offer=Offer(latency=0.3)) as (_, client), ThreadPoolExecutor(2) as pool:
        tries = [
            pool.submit(complete, client, "a", extra_headers={"Idempotency-Key": "1"}) for _ in "ab"
        ]
        errors = [error for error in (each.exception() for each in tries) if error]
        assert [type(error) for error in errors] == [openai.ConflictError]


def test_the_ledger() -> None:
    with running(offer=Offer(latency=0.2)) as (server, client):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: complete(client, f"p{i % 4}", seed=i % 4), range(8)))
        ledger = server.ledger
        assert ledger.peak == 8
        assert ledger.in_flight == 0
        assert len(ledger.bills) == 4
        assert {(b.billed, b.delivered, b.cut) for b in ledger.bills.values()} == {(2, 2, 0)}
        assert ledger.statuses == {200: 8}
        assert ledger.paths() == {"POST /v1/completions": 8}
        assert "user-agent" in ledger.requests[0].headers
        assert ledger.requests[0].body["model"] == "model"


def test_a_client_that_is_killed_leaves_the_server_as_it_was() -> None:
    code = (
        "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1] + '/completions', sys.argv[2].encode(), "
        "{'Content-Type': 'application/json'}))"
    )
    body = {"model": "model", "prompt": "a"}
    with running(offer=Offer(latency=0.5)) as (server, client):
        child = subprocess.Popen([sys.executable, "-c", code, server.url, json.dumps(body)])
        while server.ledger.in_flight == 0:
            time.sleep(0.01)
        child.kill()
        child.wait()
        bill = server.ledger.bill("/v1/completions", body)
        while bill.billed == 0:
            time.sleep(0.01)
        time.sleep(0.05)
        assert (bill.billed, bill.cut, bill.delivered) == (1, 1, 0)
        assert complete(client, "a").choices
        assert (bill.billed, bill.cut, bill.delivered) == (2, 1, 1)


def test_a_crash_of_a_rule_is_not_hidden() -> None:
    def rule(ask: Any, i: int) -> str:
        raise KeyError("a bug")

    with (
        pytest.raises(KeyError, match="a bug"),
        running(Scripted(rule)) as (_, client),
        pytest.raises(openai.InternalServerError, match="a bug"),
    ):
        complete(client)


def test_a_stopped_server_answers_nobody() -> None:
    with running() as (_, client):
        with Server(Scripted()) as other:
            still = client.with_options(base_url=other.url)
            assert still.models.list().data
        with pytest.raises(openai.APIConnectionError):
            still.models.list()


STATUS = {"429": 429, "429_ms": 429, "429_bare": 429, "insufficient_quota": 429, "500": 500, "502_html": 502, "503": 503}  # fmt: skip


@pytest.mark.parametrize("kind", BEFORE)
def test_faults_before_the_answer(kind: str) -> None:
    faults = Faults(script=[kind], retry_after=0.02, timeout=0.1)
    with running(faults=faults) as (server, client):
        with pytest.raises(openai.APIError) as caught:
            chat(client)
        assert server.injected == {kind: 1}
        assert server.ledger.total() == 0
        assert chat(client).choices  # and the next request is answered
        assert server.ledger.total() == 1
    error = caught.value
    if kind in STATUS:
        assert isinstance(error, openai.APIStatusError)
        assert error.status_code == STATUS[kind]
        headers = error.response.headers
        assert (headers.get("retry-after"), headers.get("retry-after-ms")) == {
            "429": ("0.02", None), "429_ms": (None, "20"),
        }.get(kind, (None, None))  # fmt: skip
        if kind == "insufficient_quota":
            assert error.code == "insufficient_quota"
    elif kind == "azure_filter":
        assert isinstance(error, openai.BadRequestError)
        assert error.code == "content_filter"
        assert (
            error.response.json()["error"]["innererror"]["code"] == "ResponsibleAIPolicyViolation"
        )
    else:
        assert isinstance(error, openai.APIConnectionError)


@pytest.mark.parametrize("kind", WIRE)
def test_faults_on_the_wire_are_billed(kind: str) -> None:
    with running(faults=Faults(script=[kind], timeout=0.5)) as (server, client):
        if kind == "cut_json":
            reply = client.with_options(timeout=0.2).chat.completions.with_raw_response.create(
                **ASKED
            )  # type: ignore[call-overload]
            with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
                json.loads(reply.content)
        else:
            with pytest.raises(openai.APIConnectionError):
                chat(client.with_options(timeout=0.2), **ASKED)
        (bill,) = server.ledger.bills.values()
        while bill.cut == 0:
            time.sleep(0.01)
        assert (bill.billed, bill.delivered, server.injected) == (1, 0, {kind: 1})


@pytest.mark.parametrize("kind", CONTENT)
def test_faults_in_the_answer(kind: str) -> None:
    with running(faults=Faults(script=[kind])) as (server, client):
        reply = chat(client, **ASKED, n=2)
        choice = reply.choices[0] if reply.choices else None
        top = (
            choice
            and choice.logprobs
            and choice.logprobs.content
            and choice.logprobs.content[0].top_logprobs
        )
        found = {
            "no_logprobs": choice and choice.logprobs is None and not choice.message.refusal,
            "no_top_logprobs": choice and choice.logprobs and top is None,
            "short_top_logprobs": top and len(top) == 1,
            "refusal": choice and choice.message.refusal and choice.message.content is None,
            "content_filter": choice and choice.finish_reason == "content_filter",
            "wrong_model": reply.model != "model",
            "no_choices": reply.choices == [],
            "null_content": choice and choice.message.content is None and not choice.message.refusal,
            "fewer_choices": len(reply.choices) == 1,
            "no_usage": reply.usage is None,
        }  # fmt: skip
        assert [name for name, seen in found.items() if seen] == [kind]
        assert server.injected == {kind: 1}
        assert server.ledger.total("delivered") == 1
        fine = chat(client, **ASKED, n=2)
        assert len(fine.choices[1].logprobs.content[0].top_logprobs) == 4


@pytest.mark.parametrize("kind", FORMS)
def test_forms_of_other_servers(kind: str) -> None:
    with running(faults=Faults(script=[kind])) as (server, client):
        if kind in ("chat_form", "no_echo"):
            reply = complete(client, "a b", logprobs=3, max_tokens=2, echo=True).choices[0]
            found = reply.logprobs.content if kind == "chat_form" else reply.logprobs.tokens
            assert len(found) == 4 if kind == "chat_form" else len(set(found)) == 1
        else:
            choice = chat(client, **ASKED).choices[0]
            place = choice.logprobs.content[0]
            tops = place.top_logprobs or [place]
            assert {
                "null_logprobs": place.logprob is None,
                "null_tops": tops[0].logprob is None,
                "token_ids": place.token.startswith("token_id:"),
                "tops_twice": tops[0] == tops[-1],
                "parts": isinstance(choice.message.content, list),
                "thought_only": choice.message.content is None and choice.finish_reason == "length",
            }[kind]
        assert server.injected == {kind: 1}


def test_completions_meet_the_same_faults() -> None:
    kinds = ["short_top_logprobs", "no_top_logprobs", "refusal", "content_filter", "fewer_choices"]
    with running(faults=Faults(script=kinds)) as (server, client):
        replies = [complete(client, ["a", "b"], logprobs=3, max_tokens=2) for _ in kinds]
        assert len(replies[0].choices[0].logprobs.top_logprobs[0]) == 1
        assert replies[1].choices[0].logprobs.top_logprobs is None
        assert replies[3].choices[0].finish_reason == "content_filter"
        assert len(replies[4].choices) == 1
        assert "refusal" not in server.injected  # does not fit, so is not counted


def test_rates_depend_on_bodies_and_let_retries_through() -> None:
    def run(order: list[int]) -> tuple[Counter[str], dict[int, int]]:
        rates = {"429": 0.4, "500": 0.3, "closed": 0.2}
        with running(faults=Faults(rates, seed=3, retry_after=0.001)) as (server, client):
            tries: Counter[int] = Counter()
            for i in order:
                while True:
                    tries[i] += 1
                    try:
                        complete(client, f"p{i}", max_tokens=1, seed=1)
                        break
                    except openai.APIError:
                        pass
            assert server.ledger.total() == len(order)
            assert server.injected.total() == tries.total() - len(order)
            return server.injected, dict(tries)

    first, second = run(list(range(30))), run(list(range(30))[::-1])
    assert first == second
    assert max(first[1].values()) == 3  # two in a row, then it must succeed
    assert set(first[0]) == {"429", "500", "closed"}
    with pytest.raises(ValueError, match="unknown"):
        Faults({"404": 1})


def test_faults_by_rule_and_the_sdks_own_retries() -> None:
    def rule(i: int, body: Any) -> str | None:
        return "azure_filter" if "bad" in str(body) else None

    faults = Faults({"429": 0.9}, rule=rule, retry_after=0.001)
    with running(faults=faults) as (server, client):
        patient = client.with_options(max_retries=3)
        for i in range(5):
            complete(patient, f"good {i}")
            with pytest.raises(openai.BadRequestError):
                complete(patient, "bad")
        assert server.injected["azure_filter"] == 5
        assert server.injected["429"] >= 5
        assert server.ledger.statuses[429] == server.injected["429"]


def line(i: int, **changes: Any) -> dict[str, Any]:
    body = {"model": "model", "prompt": f"p{i}", "max_tokens": 2, "seed": 1}
    value = {"custom_id": f"id{i}", "method": "POST", "url": "/v1/completions", "body": body}
    return value | changes


def submit(client: OpenAI, lines: list[Any], **more: Any) -> Any:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(text.encode()), "in.jsonl", "batch")
    assert client.files.content(file.id).text == text
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", **more
    )


def rows(client: OpenAI, file_id: str | None) -> dict[str, Any]:
    """custom_id → line."""
    if file_id is None:
        return {}
    found = [json.loads(row) for row in client.files.content(file_id).text.splitlines()]
    return {row["custom_id"]: row for row in found}


def test_a_batch_from_validating_to_completed() -> None:
    with running() as (server, client):
        bad = line(2, body={"model": "model", "prompt": "p", "max_tokens": -1})
        batch = submit(client, [line(0), line(1), bad, line(3)], metadata={"run": "é"})
        seen = [batch.status]
        while batch.status != "completed":
            batch = client.batches.retrieve(batch.id)
            seen.append(batch.status)
        assert seen == ["validating", "in_progress", "finalizing", "completed"]
        assert (batch.metadata, batch.errors) == ({"run": "é"}, None)
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (4, 3, 1)
        assert batch.completed_at >= batch.in_progress_at >= batch.created_at
        ledger = server.ledger
        assert (ledger.total(), ledger.total("in_batch"), ledger.total("cut")) == (3, 3, 3)
        good = rows(client, batch.output_file_id)
        assert (ledger.total("cut"), ledger.total("delivered")) == (0, 3)
        rows(client, batch.output_file_id)
        assert ledger.total("delivered") == 3
        assert set(good) == {"id0", "id1", "id3"}
        response = good["id1"]["response"]
        assert (response["status_code"], good["id1"]["error"]) == (200, None)
        direct = complete(client, "p1", max_tokens=2, seed=1)
        assert response["body"]["choices"][0]["text"] == direct.choices[0].text
        assert batch.usage.output_tokens == sum(
            row["response"]["body"]["usage"]["completion_tokens"] for row in good.values()
        )
        wrong = rows(client, batch.error_file_id)
        assert set(wrong) == {"id2"}
        assert wrong["id2"]["response"]["status_code"] == 400
        assert wrong["id2"]["response"]["body"]["error"]["param"] == "max_tokens"
        client.files.delete(batch.output_file_id)
        with pytest.raises(openai.NotFoundError, match="No such File"):
            client.files.content(batch.output_file_id)


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        ([line(0), "{"], "invalid_json_line", 2),
        ([line(0), line(0)], "duplicate_custom_id", 2),
        ([line(0, method="GET")], "invalid_method", 1),
        ([line(0, url="/v1/chat/completions")], "url_mismatch", 1),
        ([{"custom_id": "a"}], "missing_required_parameter", 1),
        ([line(0, body={"model": "x"})], "model_not_found", 1),
        ([line(0), line(1, body={"model": "other"})], "mismatched_model", 2),
        ([], "empty_file", None),
    ],
)
def test_batches_that_fail_validation(lines: list[Any], code: str, at: int | None) -> None:
    with running(offer=Offer(models=("model", "other"))) as (server, client):
        batch = client.batches.retrieve(submit(client, lines).id)
        assert batch.status == "failed"
        (error,) = batch.errors.data  # type: ignore[union-attr,misc]
        assert (error.code, error.line) == (code, at)
        assert batch.output_file_id is None
        assert server.ledger.total() == 0


def test_batches_that_end_early_deliver_what_was_done() -> None:
    with running(pace="hand", lines_per_step=2) as (server, client):
        ids = [submit(client, [line(i) for i in range(5)]).id for _ in range(3)]
        assert client.batches.retrieve(ids[0]).status == "validating"
        server.advance(steps=2)
        assert client.batches.retrieve(ids[0]).request_counts.completed == 2  # type: ignore[union-attr]
        assert client.batches.cancel(ids[0]).status == "cancelling"
        server.batches.expire(ids[1])
        server.batches.fail(ids[2], "token_limit_exceeded", "Enqueued token limit reached.")
        server.advance()
        cancelled, expired, failed = (client.batches.retrieve(id) for id in ids)
        for batch, status, code in (
            (cancelled, "cancelled", "batch_cancelled"),
            (expired, "expired", "batch_expired"),
        ):
            assert batch.status == status
            assert set(rows(client, batch.output_file_id)) == {"id0", "id1"}
            wrong = rows(client, batch.error_file_id)
            assert set(wrong) == {"id2", "id3", "id4"}
            assert {(row["response"], row["error"]["code"]) for row in wrong.values()} == {
                (None, code)
            }
        assert (failed.status, failed.errors.data[0].code) == ("failed", "token_limit_exceeded")  # type: ignore[union-attr,index]
        with pytest.raises(openai.ConflictError, match="'expired'"):
            client.batches.cancel(ids[1])
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve("batch_none")


def test_batches_are_listed_in_pages_newest_first() -> None:
    with running(pace="hand") as (_, client):
        ids = [submit(client, [line(0)]).id for _ in range(5)]
        page = client.batches.list(limit=2)
        assert [batch.id for batch in page.data] == [ids[4], ids[3]]
        assert page.has_more
        assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]  # the SDK pages on
        assert [batch.id for batch in client.batches.list(after=ids[1]).data] == [ids[0]]
        with pytest.raises(openai.BadRequestError, match="limit"):
            client.batches.list(limit=101)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"completion_window": "1h"}, "'24h'"),
        ({"endpoint": "/v1/embeddings"}, "/v1/chat/completions"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"input_file_id": "file-none"}, "No such File"),
    ],
)
def test_batches_that_cannot_be_created(changes: dict[str, Any], what: str) -> None:
    with running() as (_, client):
        arguments = {
            "input_file_id": "x",
            "endpoint": "/v1/completions",
            "completion_window": "24h",
        }
        with pytest.raises(openai.APIStatusError, match=what):
            client.batches.create(**(arguments | changes))


def test_faults_of_batches() -> None:
    script = ["500", "timeout", "content_filter", None]
    with running(faults=Faults(script=script, on=["batch_lines"])) as (server, client):
        batch = submit(client, [line(i) for i in range(4)])
        server.advance(steps=3)
        batch = client.batches.retrieve(batch.id)
        good, wrong = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
        assert good["id2"]["response"]["body"]["choices"][0]["finish_reason"] == "content_filter"
        assert set(good) == {"id2", "id3"}
        assert wrong["id0"]["response"]["status_code"] == 500
        assert wrong["id1"]["error"]["code"] == "request_timeout"
        assert server.injected == {"500": 1, "timeout": 1, "content_filter": 1}
    kinds = ["500", "cut_body"]
    faults = Faults(rule=lambda i, body: kinds.pop() if kinds else None, on=["files", "batches"])
    with running(faults=faults) as (server, client):
        for _ in "ab":
            with pytest.raises(openai.APIError):
                client.batches.list()
        assert server.injected == {"500": 1, "cut_body": 1}


def test_a_batch_is_created_once_under_one_key() -> None:
    with running(faults=Faults(script=["cut_body"], on=["batches"])) as (server, client):
        upload = [client.files.create(file=("a", b"x"), purpose="batch", extra_headers={"Idempotency-Key": "f"}).id for _ in "ab"]  # fmt: skip
        assert upload[0] == upload[1]
        make = {
            "input_file_id": upload[0],
            "endpoint": "/v1/completions",
            "completion_window": "24h",
        }
        retrying = client.with_options(max_retries=1)
        made = retrying.batches.create(**make, extra_headers={"Idempotency-Key": "b"})  # type: ignore[arg-type]
        assert [batch.id for batch in client.batches.list()] == [made.id]
        assert server.injected == {"cut_body": 1}


def test_every_fault_is_covered_here() -> None:
    assert {*BEFORE, *WIRE, *CONTENT, *FORMS} == set(KINDS)
