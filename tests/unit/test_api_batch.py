"""The Batch API as a mode: killed between any two steps and run again, nothing is lost or paid twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.settings import parse_api
from pluralism_eval.errors import PluralismError
from tests.conftest import ROOT
from tests.openai_server import Faults, Offer, Scripted, Server

N = 6
STEPS = ("planned", "uploaded", "created", "noted", "looked", "fetched", "half_kept", "all_kept")
"""After which a process is killed, in the order in which they come."""

SCRIPT = """
import os, sys
from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.settings import parse_api
from pluralism_eval.cache import Store
from tests.unit.test_api_batch import N, calls

url, step = sys.argv[1:]
api = Api(parse_api({"model": "model", "base_url": url, "batch": True, "batch_poll": 0.01}))

def dies(at, owner, name, when=lambda *a, **k: True):
    whole = getattr(owner, name)
    def wrapped(*args, **named):
        found = whole(*args, **named)
        if at == step and when(*args, **named):
            os._exit(9)
        return found
    setattr(owner, name, wrapped)

def writes(prefix):
    return lambda self, values: any(key.startswith(prefix) for key in values)

kept = []
dies("planned", Store, "put", writes("plan:"))
dies("noted", Store, "put", writes("batch:"))
dies("uploaded", api.client.files, "create")
dies("created", api.client.batches, "create")
dies("looked", api.client.batches, "retrieve")
dies("fetched", api.client.files, "content")
dies("half_kept", api, "keep", lambda *a: kept.append(1) or len(kept) == N // 2)
dies("all_kept", api, "keep", lambda *a: len(kept) == N or kept.append(1) or len(kept) == N)
replies = api.ask_all(calls())
print(len(replies), api.counts["batches"], [r.choices[0].text for r in replies])
"""


def calls(n: int = N, **body: Any) -> list[Call]:
    return [
        Call(
            "chat",
            {"model": "model", "messages": [{"role": "user", "content": f"q{i}"}], "max_tokens": 3,
             "temperature": 0, **body},
        )
        for i in range(n)
    ]  # fmt: skip


def run(url: str, step: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, url, step],
        env={**os.environ, "PLURALISM_EVAL_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_killed_after_every_step_one_batch_is_paid_once(tmp_path: Path) -> None:
    """Eight deaths in a row, each a step further, then a run to the end."""
    with Server(Scripted()) as server:
        for step in STEPS:
            died = run(server.url, step, tmp_path)
            assert died.returncode == 9, (step, died.stderr[-2000:])
        done = run(server.url, "none", tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.startswith(f"{N} 0 "), done.stdout
        assert server.ledger.paths()["POST /v1/batches"] == 1
        assert server.ledger.total() == N
        before = len(server.ledger.requests)
        again = run(server.url, "none", tmp_path)
        assert again.stdout == done.stdout
        assert len(server.ledger.requests) == before


def batch_api(url: str, **more: Any) -> Api:
    return Api(parse_api({"model": "model", "base_url": url, "batch": True, "batch_poll": 0.01, **more}))  # fmt: skip


def test_answers_are_those_of_single_requests_and_batches_are_cut_to_size(tmp_path: Path) -> None:
    with Server(Scripted()) as server:
        single = Api(parse_api({"model": "model", "base_url": server.url, "cache": False}))
        plain = single.ask_all(calls(7))
        api = batch_api(server.url, batch_size=3)
        assert [r.choices for r in api.ask_all(calls(7))] == [r.choices for r in plain]
        assert api.counts["batches"] == 3


def test_lines_that_failed_in_passing_are_asked_again_and_refusals_labelled() -> None:
    faults = Faults(
        {"500": 0.2, "429": 0.1, "wrong_model": 0.1, "azure_filter": 0.1, "refusal": 0.1},
        on=("batch_lines",),
        max_in_a_row=1,
    )
    with Server(Scripted(), faults=faults) as server:
        api = batch_api(server.url)
        replies = api.ask_all(calls(60))
        assert len(replies) == 60
        refused = sum(bool(r.choices[0].refused) for r in replies)
        assert refused == api.counts["refusals"] + api.counts["content_filtered"] > 0
        assert api.counts["server_errors"] + api.counts["rate_limited"] == (
            server.injected["500"] + server.injected["429"]
        )
        assert api.counts["wrong_model"] == server.injected["wrong_model"] > 0
        assert 2 <= api.counts["batches"] <= 3
        assert len(api.store) == 60 - refused


def test_an_expired_batch_keeps_what_it_answered() -> None:
    with Server(Scripted(), pace="hand", lines_per_step=2) as server:
        api = batch_api(server.url)
        looked: list[str] = []
        retrieve = api.client.batches.retrieve

        def moving(name: str) -> Any:
            looked.append(name)
            if len(looked) == 4 and len(set(looked)) == 1:
                server.batches.expire(name)
            else:
                server.advance(name)
            return retrieve(name)

        api.client.batches.retrieve = moving
        replies = api.ask_all(calls(10))
        assert [r.choices[0].text for r in replies]
        assert api.counts["batches"] == 2
        assert server.ledger.total() == 10


def test_a_batch_that_the_server_refuses_is_an_error_that_says_why() -> None:
    with Server(Scripted(), pace="hand") as server:
        api = batch_api(server.url)
        retrieve = api.client.batches.retrieve

        def failing(name: str) -> Any:
            server.batches.fail(name, "token_limit_exceeded", "Enqueued token limit reached")
            return retrieve(name)

        api.client.batches.retrieve = failing
        with pytest.raises(PluralismError, match="refused the batch: Enqueued token limit"):
            api.ask_all(calls(3))
    without = Server(Scripted(), Offer(endpoints=frozenset({"chat"})))
    with without as server, pytest.raises(PluralismError, match="the Batch API failed"):
        batch_api(server.url).ask_all(calls(3))


def test_the_spending_limit_holds_for_batches() -> None:
    with Server(Scripted()) as server:
        api = batch_api(server.url, spend_limit=0.00001, price_in=1000.0, price_out=1000.0)
        with pytest.raises(PluralismError, match="spend_limit"):
            api.ask_all(calls(3))
        assert server.ledger.total() == 0
        api = batch_api(server.url, spend_limit=10.0, price_in=1000.0, price_out=1000.0)
        api.ask_all(calls(3))
        used = api.counts["prompt_tokens"] + api.counts["new_tokens"]
        assert api.budget.spent == pytest.approx(used / 1000)
