"""What a secret is, how text is cleaned of it, and what the guard of a process covers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pluralism_eval import secrets
from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.settings import parse_api
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.secrets import (
    is_secret_name,
    redact,
    remember,
    secret_in_url,
    secrets_in,
    without_secrets,
)
from pluralism_eval.settings import parse
from tests.e2e.test_secrets import CANARIES, VARIABLES
from tests.openai_server import Scripted, Server


def test_what_is_a_secret() -> None:
    named = {*VARIABLES} - {"NURSES"}
    for name in (
        *named,
        "api_key",
        "apiKey",
        "token",
        "headers",
        "Authorization",
        "X-Auth-Token",
        "client_secret",
        "Cookie",
    ):
        assert is_secret_name(name), name
    for name in ("max_tokens", "message_max_tokens", "tokenizer", "keyword", "api_key_variable", "eos_token", "think_end_token",
                 "monkey", "PWD", "OLDPWD", "pad_token_id", "author"):  # fmt: skip
        assert not is_secret_name(name), name
    assert secret_in_url("https://me:pw@host/v1")
    assert secret_in_url("https://host/v1?api-key=1")
    assert secret_in_url("http://[me:pw@host")
    assert not secret_in_url("https://host:8000/v1?version=2")


def test_arguments_and_errors_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-very-secret-value")
    assert without_secrets({"a": {"api_key": "x"}, "b": ["token=abc;model=m"], "max_tokens": 5}) == {
        "a": {"api_key": "***"}, "b": ["token=***;model=m"], "max_tokens": 5,
    }  # fmt: skip
    assert redact("at http://me:pw@host/v1 with sk-0123456789abcdefghij") == (
        "at http://***@host/v1 with ***"
    )
    assert str(PluralismError("it said a-very-secret-value")) == "it said ***"


HIDDEN = {
    "judge='gpt:api_key=hunter-22'": "judge='gpt:api_key=***'",
    "{'llm_args': {'token': 'hunter-22', 'headers': {'X': 'hunter-22'}}, 'n': 5}": "{'llm_args': {'token': '***', 'headers': ***}, 'n': 5}",
    r'{"a": "{\"api_key\": \"hunter-22 b\"}"}': r'{"a": "{\"api_key\": ***}"}',
    "a=b&api_key=hunter-22&c=d": "a=b&api_key=***&c=d",
    "Authorization: Basic aHVudGVyLTIy": "Authorization: Basic ***",
    "'authorization': 'Bearer hunter-22'": "'authorization': '***'",
    "password='it\\'s hunter-22' x": "password='***' x",
    "line 1: api_key: hunter-22: x": "line 1: api_key: *** x",
    "x-api-key: hunter-22": "x-api-key: ***",
    "http://user:hunter@22@host/v1": "http://***@host/v1",
    "hf_" + "hunterhunterhunter": "***",
}  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN)
def test_secrets_in_text_are_hidden_by_how_they_stand(text: str) -> None:
    assert redact(text) == HIDDEN[text]
    assert "hunter" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "api_key: keys do not belong in arguments",
        "eos_token='</s>', think_end_token=</think>",
        "token=None, token=True",
        "hf_hub_download_something_long",
        "KeyError: 'key': 'value'",
        "doc 3 key='news'",
        "api_key_variable: MY_VARIABLE_1",
        "https://host/v1?mail=a@b",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=300), st.text(max_size=300))
@example("", "token=\\'" * 40)
def test_a_known_value_is_hidden_in_any_text(before: str, after: str) -> None:
    value = "canary-0f3a/9+7c=="
    secrets._told.add(value)
    try:
        for text in (value, json.dumps(value)):
            assert value not in redact(f"{before}{text}{after}")
    finally:
        secrets._told.discard(value)


@pytest.mark.parametrize(
    "unit", ["a", "a-", "a='b' {x: y} ", "token=\\'", "token={", "token: ", 'token="', "http://", "bearer ", "eyJ", "\\"]
)  # fmt: skip
def test_the_time_for_hostile_text_grows_with_its_length(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    start = time.process_time()
    redact(text)
    assert time.process_time() - start < 5


def test_what_was_told_is_hidden_under_any_name() -> None:
    remember("short")  # may be an ordinary word
    remember("canary-of-the-nurses")
    try:
        assert redact("canary-of-the-nurses, short") == "***, short"
        assert redact("http://h/?q=canary-of-the-nurses") == "http://h/?q=***"
    finally:
        secrets._told.clear()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"token": "x"}, ["token"]),
        ({"token": True, "use_auth_token": None, "api_key": ""}, []),
        ({"model": "m", "header": {"X-Org": "x"}}, ["header"]),
        ({"a": {"b": {"client_secret": "x"}}}, ["a.b.client_secret"]),
        ({"base_url": "http://u:p@h"}, ["base_url"]),
        ({"think_end_token": "</think>", "tokenizer": "t", "eos_token": "</s>", "max_tokens": 3}, []),
    ],
)  # fmt: skip
def test_keys_among_arguments_are_found(args: Any, named: list[str]) -> None:
    assert list(secrets_in(args)) == named


def test_no_settings_hold_a_key() -> None:
    with pytest.raises(PluralismError, match="api_key: keys do not belong") as caught:
        parse("vanilla", {"llm": "scripted", "llm_args": {"api_key": "hunter-22"}})
    assert "hunter" not in str(caught.value)


def test_a_pool_cannot_hold_a_password(tmp_path: Any) -> None:
    entry = {"name": "a", "description": "b", "engine": "served", "model": "m", "base": "b"}
    file = tmp_path / "pool.yaml"
    file.write_text(json.dumps([{**entry, "base_url": "http://user:hunter-22@host/v1"}]))
    with pytest.raises(PluralismError, match="base_url carries a user, password or key") as caught:
        load_pool(str(file))
    assert "hunter" not in str(caught.value)


PROCESS = """
import logging, os, sys, threading, warnings
from pluralism_eval.secrets import guard
guard(); guard()
logging.basicConfig(level=logging.DEBUG)
every = [os.environ[name] for name in os.environ["NAMES"].split()]
log = logging.getLogger("some.library")
log.debug("sent %s and %r", every[0], every)
log.info({"headers": every})
log.warning("plain %d", 5)
log.error("wrong arguments %d", every[3])
warnings.warn(f"warned of {every}")
try:
    raise ValueError(f"inner {every}")
except ValueError:
    log.exception("caught")
thread = threading.Thread(target=lambda: 1 / 0 if len(every) < 3 else [][every[1]])
thread.start(); thread.join()
def crash():
    try:
        raise OSError(f"cause {every}")
    except OSError as error:
        raise KeyError(every[2]) from error
thread = threading.Thread(target=crash)
thread.start(); thread.join()
crash()
"""


def test_logs_warnings_and_tracebacks_of_a_crashing_process_hold_no_secret() -> None:
    named = {name: value for name, value in CANARIES.items() if name != "NURSES"}
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **named, "NAMES": " ".join(named)},
    )  # fmt: skip
    assert done.returncode == 1
    for part in ("sent ***", "plain 5", "Arguments: ('***',)", "warned of ['***'", "inner ['***'", "cause ['***'",
                 "KeyError: '***'", "in crash", "list indices must be integers"):  # fmt: skip
        assert part in done.stderr, part
    assert [name for name, value in named.items() if value in done.stdout + done.stderr] == []


IN_EXTRA: tuple[dict[str, Any], ...] = (
    {"extra_headers": {"X-Org": "hunter-22"}},
    {"extra_headers": ["X-Org: hunter-22"]},
    {"metadata": {"list": [{"apiKey": "hunter-22"}]}},
    {"user": "sk-hunterhunterhunter22"},
    {"extra_query": {"subscription-key": "hunter-22"}},
)


@pytest.mark.parametrize("extra", IN_EXTRA)
def test_keys_in_extra_are_refused_and_lm_evals_log_hides_them(extra: dict[str, Any]) -> None:
    args = {"llm": "openai", "llm_args": {"model": "m", "extra": extra}}
    with pytest.raises(PluralismError, match=r"extra\..*extra_headers_from_env") as caught:
        parse("vanilla", args)
    logged = f"Initializing vanilla model, with arguments: {args}"
    for text in (str(caught.value), redact(logged), redact(json.dumps(json.dumps(args)))):
        assert "hunter" not in text


def test_what_is_no_key_in_extra_is_taken() -> None:
    extra = {
        "prompt_cache_key": "run-1",
        "reasoning_effort": "low",
        "logit_bias": {"5": 1},
        "stop_token_ids": [1],
    }
    args = {"model": "m", "extra": extra, "extra_headers_from_env": {"X-Api-Key": "TEAM_KEY"}}
    assert parse("vanilla", {"llm": "openai", "llm_args": args}).llm_args == args


QUERIES = ("api-key=hunter-22", "a=b&sig=hunter-22", "api%2Dkey=hunter-22", "t=hunterHunter22hunterHunter22", "code=hunter-22")  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("sign", ["?", "#", "/?x=1&"])
def test_keys_in_the_query_of_an_address_are_refused_and_hidden(query: str, sign: str) -> None:
    url = f"https://host/v1{sign}{query}"
    for llm, args in (
        ("openai", {"model": "m", "base_url": url}),
        ("local-completions", {"base_url": url}),
    ):
        with pytest.raises(PluralismError) as caught:
            parse("vanilla", {"llm": llm, "llm_args": args})
        logged = f"with arguments: {{'llm_args': {args}}}, {json.dumps(args)}, base_url={url}"
        assert "hunter" not in str(caught.value) + redact(logged) + json.dumps(
            without_secrets(args)
        )
    harmless = "https://host/v1/x?api-version=2024-10-21-preview&page=2"
    assert redact(harmless) == harmless


def test_headers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Scripted("you sent hunter-22-of-the-team")
    with Server(said) as server:
        args = {
            "model": "model",
            "base_url": server.url,
            "extra_headers_from_env": {"X-Team": "NURSES"},
        }
        call = Call("chat", {"model": "model", "messages": [{"role": "user", "content": "?"}], "max_tokens": 99})  # fmt: skip
        with pytest.raises(
            PluralismError, match="X-Team: the environment variable NURSES is not set"
        ):
            Api(parse_api(args)).ask_all([call])
        monkeypatch.setenv("NURSES", "hunter-22-of-the-team")
        (reply,) = Api(parse_api(args)).ask_all([call])
        assert server.ledger.requests[-1].headers["x-team"] == "hunter-22-of-the-team"
        assert reply.choices[0].text == "you sent ***"
        assert redact("it is hunter-22-of-the-team") == "it is ***"
    with pytest.raises(PluralismError, match="must name an environment variable") as caught:
        parse_api({**args, "extra_headers_from_env": {"X-Team": "sk-hunterhunterhunter22"}})
    assert "hunterhunter" not in str(caught.value)
