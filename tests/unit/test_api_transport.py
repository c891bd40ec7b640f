"""Attempts on the wire: limited in bytes, seconds and money, and sent to no other host."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.api.batch import _Book
from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.settings import parse_api
from pluralism_eval.errors import PluralismError
from tests.openai_server import Faults, Offer, Scripted, Server
from tests.openai_server.wire import (
    DRIPS,
    blanks,
    bomb,
    foreign_packing,
    raw_server,
    redirecting,
    with_status,
)
from tests.unit.test_api import api_of, question
from tests.unit.test_api_batch import batch_api, calls

PRICES = {"price_in": 1000.0, "price_out": 2000.0}


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (blanks, "larger than 33,554,432 bytes"),
        (bomb, "larger than 33,554,432 bytes"),
        (with_status(500, blanks), "larger than 33,554,432 bytes"),
        (foreign_packing, "packed as 'gzip, gzip'"),
    ],
)
def test_a_reply_of_any_size_is_one_error_soon_and_small(behaviour: Any, said: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with raw_server(behaviour) as (url, came):
        api = api_of(url, price_in=1.0, price_out=1.0)
        started = time.monotonic()
        with pytest.raises(PluralismError, match=said):
            api.ask_all([question(1)])
        assert time.monotonic() - started < 5
        assert len(came) == api.counts["over_limit"] == 1  # not asked again: it would be the same
        assert api.budget.spent > 0  # it was answered
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


@pytest.mark.parametrize("where", DRIPS)
def test_a_reply_that_drips_is_one_error_soon(where: str) -> None:
    with raw_server(DRIPS[where]) as (url, came):
        api = api_of(url, timeout=0.5)
        started = time.monotonic()
        with pytest.raises(PluralismError, match=r"timeout=0.5 seconds; raise timeout"):
            api.ask_all([question(1)])
        assert time.monotonic() - started < 3
        assert len(came) == 1


def test_no_redirect_leaves_the_host_and_one_within_it_is_followed() -> None:
    with Server(Scripted()) as server:
        here = server.url.removesuffix("/v1")
        for target in (here, here.replace("127.0.0.1", "localhost")):
            with raw_server(redirecting(lambda path, target=target: target + path)) as (url, came):  # type: ignore[misc]
                with pytest.raises(
                    PluralismError, match=r"redirects to .*not followed.*set base_url"
                ):
                    api_of(url).ask_all([question(1)])
                with pytest.raises(PluralismError, match=r"redirects to .*not followed"):
                    batch_api(url).ask_all(calls(1))
                assert api_of(url).models() is None
        assert server.ledger.requests == []  # another port is another host

    def within(path: str, write: Any, closing: Any) -> None:
        if path.startswith("/v1"):
            redirecting(lambda path: path.replace("/v1", "/v2"), 308)(path, write, closing)
        else:
            body = b'{"model": "model", "choices": [{"message": {"content": "moved"}}]}'
            write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    with raw_server(within) as (url, came):
        (reply,) = api_of(url).ask_all([question(1)])
        assert (reply.choices[0].text, len(came)) == ("moved", 2)


@pytest.mark.parametrize("fault", ["cut_json", "cut_body", "late", "no_usage"])
def test_the_limit_counts_every_request_that_was_answered(fault: str) -> None:
    most = Api(parse_api({"model": "model", **PRICES})).budget.cost(question(1).prompt_tokens(), 4)
    with Server(
        Scripted(), Offer(idempotency=False), Faults(script=[fault] * 50, timeout=0.5)
    ) as server:
        api = api_of(server.url, spend_limit=3.5 * most, concurrency=1, timeout=0.3, **PRICES)
        with pytest.raises(PluralismError, match="spend_limit="):
            api.ask_all([question(i) for i in range(9)])
        assert server.ledger.total() == 3
        assert api.budget.spent == pytest.approx(3 * most)


def test_what_no_server_answered_costs_nothing() -> None:
    with Server(Scripted(), faults=Faults(script=["500", "429", "closed", None])) as server:
        api = api_of(server.url, spend_limit=1.0, **PRICES)
        api.ask_all([question(1)])
        used = api.counts["prompt_tokens"] * 1000 + api.counts["new_tokens"] * 2000
        assert api.budget.spent == pytest.approx(used / 1e6)


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ("m", True), ("m-2024-08-06", True), ("m-20240806", True), ("m-mini", False), ("m-mini-2024-08-06", False),
        ("m-2024-13-06", False), ("m-0613", False), ("M", False), ("m:free", False), ("org/m", False), ("", False),
    ],
)  # fmt: skip
def test_a_reply_is_ours_by_its_name_or_what_the_message_says_is_set(said: str, ours: bool) -> None:
    offer = Offer(models=("m",), snapshots={"m": said})
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "max_tokens": 2}
    call = Call("chat", body)
    with Server(Scripted(), offer) as server:
        if ours:
            assert api_of(server.url).ask_all([call])[0].model == said
            return
        with pytest.raises(PluralismError, match="add served_as=") as caught:
            api_of(server.url).ask_all([call])
        given = str(caught.value).partition("served_as=")[2].split()[0]
        assert given == (said or "unnamed")
        assert api_of(server.url, served_as=given).ask_all([call])[0].model == said
        strict = api_of(server.url)  # kept under the laxer rule: another model's words
        with pytest.raises(PluralismError, match="add served_as="):
            strict.ask_all([call])


@pytest.mark.parametrize("batch", [False, True])
def test_where_n_is_refused_choices_are_asked_one_by_one(batch: bool, tmp_path: Path) -> None:
    call = Call("chat", {**question(1).body, "n": 3, "seed": 7, "temperature": 1.0})
    with Server(Scripted(), Offer(most_n=1)) as server:
        api = (batch_api if batch else api_of)(server.url)
        (reply,) = api.ask_all([call])
        single = [
            Call("chat", {**question(1).body, "seed": 7 + i, "temperature": 1.0}) for i in range(3)
        ]
        alone = api_of(server.url, cache=False).ask_all(single)
        assert [c.text for c in reply.choices] == [r.choices[0].text for r in alone]
        assert reply.new_tokens == sum(r.new_tokens for r in alone)
        assert api.counts["asked_one_by_one"] == 3
        before = len(server.ledger.requests)
        assert api_of(server.url).ask_all([call])[0].choices == reply.choices
        assert len(server.ledger.requests) == before
        with pytest.raises(PluralismError, match="top_logprobs"):  # what is wrong alone stays wrong
            api.ask_all([Call("chat", {**call.body, "top_logprobs": 5})])


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize("what", ["batch", "file", "both times"])
def test_a_batch_that_the_server_lost_is_submitted_again_once(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(Scripted()) as server:
        api = batch_api(server.url, spend_limit=10.0, **PRICES)
        retrieve, lost = api.client.batches.retrieve, []

        def losing(name: str) -> Any:
            if not lost or what == "both times":
                if what != "file":
                    lost.append(server.batches.held.pop(name, None))
                found = retrieve(name)
                if found.output_file_id:
                    lost.append(server.files.held.pop(found.output_file_id))
                return found
            return retrieve(name)

        api.client.batches.retrieve = losing
        if what == "both times":
            with pytest.raises(
                PluralismError, match=r"lost its batch, and the one .* in its place"
            ):
                api.ask_all(calls(3))
            assert api.budget.spent == pytest.approx(0.0)
        else:
            assert len(api.ask_all(calls(3))) == 3
            used = api.counts["prompt_tokens"] * 1000 + api.counts["new_tokens"] * 2000
            assert api.budget.spent == pytest.approx(used / 1e6)
        assert api.counts["batches"] == 2
        assert "3 requests are submitted again" in caplog.text


def test_rows_in_neither_file_give_their_estimate_back_and_foreign_ones_are_not_read() -> None:
    with Server(Scripted()) as server:
        api = batch_api(server.url, spend_limit=10.0, **PRICES)
        content = api.client.files.content

        def damaged(name: str) -> Any:
            class File:
                text = "not JSON\n[]\n" + content(name).text.split("\n")[0] * (
                    len(server.batches.held) < 2
                )
                text += '\n{"custom_id": "no request of ours", "response": {"status_code": 200, "body": {}}}\n'

            return File if len(server.batches.held) == 1 else content(name)

        api.client.files.content = damaged
        assert len(api.ask_all(calls(4))) == 4
        assert api.counts["unreadable_bodies"] == 2
        used = api.counts["prompt_tokens"] * 1000 + api.counts["new_tokens"] * 2000
        assert api.budget.spent == pytest.approx(used / 1e6)
        assert len(api.store) == 4


def test_a_batch_of_an_earlier_process_costs_what_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Scripted()) as server:
        first = batch_api(server.url, **PRICES)
        book = _Book(first)
        todo = {first.key(call): call for call in calls(3)}
        book.submit(book.plan(todo), todo)
        api = batch_api(server.url, **PRICES)
        api.ask_all(calls(3))
        used = api.counts["prompt_tokens"] * 1000 + api.counts["new_tokens"] * 2000
        assert api.counts["batches"] == 0
        assert api.budget.spent == pytest.approx(used / 1e6)
