"""Requests to a faulty server: nothing lost, nothing paid twice, everything counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.limits import Budget, SpendLimit, TokenBucket
from pluralism_eval.api.settings import parse_api
from pluralism_eval.errors import PluralismError
from tests.openai_server import Faults, Offer, Scripted, Server
from tests.openai_server.scripted import hashed

RATES = {
    "429": 0.04, "429_ms": 0.03, "429_bare": 0.02, "500": 0.03, "502_html": 0.02, "503": 0.02, "timeout": 0.01,
    "closed": 0.02, "cut_body": 0.03, "cut_json": 0.03, "no_logprobs": 0.03, "no_top_logprobs": 0.02,
    "short_top_logprobs": 0.05, "refusal": 0.03, "content_filter": 0.02, "azure_filter": 0.02, "wrong_model": 0.03,
    "no_choices": 0.02, "no_usage": 0.01,
}  # fmt: skip
COUNTED_AS = {
    "rate_limited": ("429", "429_ms", "429_bare"),
    "server_errors": ("500", "502_html", "503"),
    "timeouts": ("timeout",),
    "connection_errors": ("closed",),
    "cut_bodies": ("cut_body",),
    "unreadable_bodies": ("cut_json",),
    "rejected": ("azure_filter",),
    "wrong_model": ("wrong_model",),
    "no_choices": ("no_choices",),
    "missing_logprobs": ("no_logprobs", "no_top_logprobs"),
    "short_logprobs": ("short_top_logprobs",),
    "refusals": ("refusal",),
    "content_filtered": ("content_filter", "azure_filter"),
    "missing_usage": ("no_usage",),
}


def api_of(url: str, **more: Any) -> Api:
    return Api(parse_api({"model": "model", "base_url": url, "timeout": 5.0, **more}))


def question(i: int, **body: Any) -> Call:
    said = [{"role": "user", "content": f"question {i}"}]
    return Call("chat", {"model": "model", "messages": said, "max_tokens": 4, **body})


def first_token(i: int) -> Call:
    body = question(i, logprobs=True, top_logprobs=20).body
    return Call("chat", {**body, "max_tokens": 1}, needs_first=True)


def endless(context: str) -> dict[str, float]:
    """Texts that do not end at once: a reply without a token has no log-probabilities to lose."""
    return {token: p for token, p in hashed(context).items() if token}


def test_a_thousand_calls_under_faults_lose_nothing_and_pay_nothing_twice() -> None:
    calls = [first_token(i) for i in range(1000)]
    backend = Scripted(distribution=endless)
    with Server(backend, faults=Faults(RATES, timeout=1.5)) as server:
        api = api_of(server.url, timeout=1.0, concurrency=32)
        came: Counter[str] = Counter()
        problem = api.problem

        def watched(call: Call, raw: Mapping[str, Any]) -> str:
            came[call.body["messages"][0]["content"]] += 1
            return problem(call, raw)

        api.problem = watched  # type: ignore[method-assign]
        replies = api.ask_all(calls)
        refused = [i for i, reply in enumerate(replies) if reply.choices[0].refused]
        assert all(len(reply.choices) == 1 for reply in replies)
        for name, kinds in COUNTED_AS.items():
            assert api.counts[name] == sum(server.injected[kind] for kind in kinds), name
            assert api.counts[name] > 0, name
        assert len(refused) == api.counts["refusals"] + api.counts["content_filtered"]
        assert len(api.store) == 1000 - len(refused)  # refusals are not kept
        unusable = sum(api.counts[n] for n in ("wrong_model", "no_choices", "missing_logprobs"))
        assert came.total() == api.counts["paid"] + unusable
        for bill in server.ledger.bills.values():  # each reply that was paid for came, and was used
            assert bill.billed <= max(1, came[bill.body["messages"][0]["content"]])
        assert server.ledger.peak <= 32
        before = len(server.ledger.requests)
        again = api_of(server.url, timeout=1.0, concurrency=32)
        stored = again.ask_all([call for i, call in enumerate(calls) if i not in set(refused)])
        assert len(server.ledger.requests) == before
        assert [r.choices for r in stored] == [
            r.choices for i, r in enumerate(replies) if i not in set(refused)
        ]
        assert again.counts["stored"] == 1000 - len(refused)


def test_equal_calls_are_one_and_samples_are_told_apart() -> None:
    with Server(Scripted()) as server:
        api = api_of(server.url)
        same, other = question(1), Call("chat", question(1).body, sample=1)
        replies = api.ask_all([same, same, other])
        assert replies[0] is replies[1]
        assert server.ledger.total() == 2
        assert api.counts["paid"] == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("insufficient_quota", "quota"),
        ("azure_filter", None),
    ],
)
def test_what_cannot_succeed_is_not_tried_again(fault: str, said: str | None) -> None:
    with Server(Scripted(), faults=Faults(script=[fault] * 50)) as server:
        api = api_of(server.url, concurrency=1)
        if said is None:
            assert api.ask_all([question(1)])[0].choices[0].refused == "content_filter"
        else:
            with pytest.raises(PluralismError, match=said):
                api.ask_all([question(i) for i in range(20)])
        assert len(server.ledger.requests) == 1


def test_a_wrong_key_stops_at_once_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-canary-0123456789abcdef"
    monkeypatch.setenv("MY_KEY", secret)
    with Server(Scripted(), Offer(api_key="right", shows_key="whole")) as server:
        api = api_of(server.url, api_key_variable="MY_KEY", concurrency=1)
        with pytest.raises(PluralismError, match=r"refuses the key.*MY_KEY holds another key") as e:
            api.ask_all([question(i) for i in range(50)])
        assert secret not in str(e.value)
        assert len(server.ledger.requests) <= 2  # one more may have been on its way


@pytest.mark.parametrize("batch", [False, True])
def test_a_server_that_says_our_key_is_counted_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    monkeypatch.setenv("NURSES", "canary-0123456789abcdef")  # no telling name
    backend = Scripted("you sent canary-0123456789abcdef, and canary-0123456789abcdef again")
    with Server(backend, Offer(api_key="canary-0123456789abcdef")) as server:
        more = {"batch": True, "batch_poll": 0.01} if batch else {}
        api = api_of(server.url, api_key_variable="NURSES", **more)
        (reply,) = api.ask_all([question(1, max_tokens=100)])
        assert reply.choices[0].text == "you sent ***, and *** again"
        assert api.counts["said_our_key"] == 2
        assert str(PluralismError("it is canary-0123456789abcdef")) == "it is ***"


def test_bad_requests_fail_alone_but_not_endlessly() -> None:
    with Server(Scripted()) as server:
        api = api_of(server.url, concurrency=4)
        calls = [question(i) for i in range(10)] + [question(99, top_logprobs=5)]
        with pytest.raises(PluralismError, match=r"1 requests .* failed .the others are answered"):
            api.ask_all(calls)
        assert len(api.store) == 10
        with pytest.raises(PluralismError, match="stopped after 8 failures in a row"):
            api.ask_all([question(i, top_logprobs=5) for i in range(500)])
        assert len(server.ledger.requests) < 60


def test_a_model_that_is_not_the_one_asked_for_is_an_error_that_says_what_to_set() -> None:
    offer = Offer(snapshots={"model": "cheaper"})
    with Server(Scripted(), offer) as server:
        with pytest.raises(PluralismError, match=r"'cheaper' answered 3 times.*served_as"):
            api_of(server.url).ask_all([question(1)])
        assert api_of(server.url, served_as="cheaper").ask_all([question(2)])[0].model == "cheaper"
    with Server(Scripted(), Offer(snapshots={"model": "model-2026-11-01"})) as server:
        assert api_of(server.url).ask_all([question(1)])


def test_the_spending_limit_is_never_exceeded_and_what_was_paid_is_kept() -> None:
    prices = {"price_in": 1000.0, "price_out": 2000.0}
    with Server(Scripted()) as server:
        api = api_of(server.url, spend_limit=0.5, concurrency=8, **prices)
        calls = [question(i) for i in range(100)]
        with pytest.raises(SpendLimit, match=r"spend_limit=0.5.*run again with a higher limit"):
            api.ask_all(calls)
        assert 0 < api.budget.spent <= 0.5
        paid = sum(1 for _ in api.store.items())
        assert paid == server.ledger.total()
        more = api_of(server.url, spend_limit=5.0, **prices)
        more.ask_all(calls)
        assert server.ledger.total() == 100
        assert more.counts["stored"] == paid
        used = api.counts["prompt_tokens"], api.counts["new_tokens"]
        assert api.budget.spent == pytest.approx((used[0] * 1000 + used[1] * 2000) / 1e6)


def test_a_budget_waits_for_requests_in_flight() -> None:
    budget = Budget(1.0, 1.0, 1.0)
    budget.reserve(0.9)
    budget.settle(0.9, 0.1)
    budget.reserve(0.9)
    budget.settle(0.9, 0.0)
    with pytest.raises(SpendLimit, match=r"0.1 is spent and the next request may cost 1"):
        budget.reserve(1.0)


def test_the_bucket_paces_requests_and_their_retries() -> None:
    with Server(Scripted(), faults=Faults(script=["500", None, None])) as server:
        api = api_of(server.url, requests_per_minute=600, concurrency=16)
        started = time.monotonic()
        api.ask_all([question(i) for i in range(20)])
        seconds = time.monotonic() - started
        assert len(server.ledger.requests) == 21
    assert seconds >= 11 / 10  # 10 at once, 10 a second after


def test_the_bucket_lets_big_costs_through_and_charges_them() -> None:
    bucket = TokenBucket(600)
    started = time.monotonic()
    bucket.take(15)  # more than it holds: when it is full
    bucket.take(1)
    assert 0.5 <= time.monotonic() - started < 2
    TokenBucket(None).take(1e9)


def test_settings_are_checked_together_and_keys_do_not_belong_in_them() -> None:
    with pytest.raises(PluralismError) as caught:
        parse_api(
            {
                "api_key": "sk-should-not-be-here-123", "api": "talk", "concurrency": 0, "spend_limit": 1,
                "base_url": "http://me:pass@host/v1", "timeout": "long", "modle": "x",
            }
        )  # fmt: skip
    text = str(caught.value)
    for words in (
        "keys do not belong in arguments", "api='talk'", "concurrency=0", "price_in", "base_url carries", "timeout='long'",
        "unknown argument modle", "model is missing",
    ):  # fmt: skip
        assert words in text
    assert "sk-should" not in text
    assert "pass@" not in text


def test_nothing_is_kept_where_that_is_asked_for() -> None:
    with Server(Scripted()) as server:
        for _ in range(2):
            api = api_of(server.url, cache=False)
            api.ask_all([question(1)])
        assert len(server.ledger.requests) == 2
        assert len(api.store) == 0
