"""One server, many requests: each answered once, paid once, kept at once; whatever goes wrong counted.

Retries, Retry-After, timeouts and connections are the openai SDK's. What it cannot know stands here:
which replies are usable, what is stored already, and how much may be spent.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from threading import local
from typing import Any

from pluralism_eval import progress
from pluralism_eval.api.bodies import (
    Call,
    answered_by,
    error_code,
    joined,
    same_model,
    tokens_used,
    unusable,
    words,
)
from pluralism_eval.api.counts import Counts
from pluralism_eval.api.limits import Budget, SpendLimit, TokenBucket
from pluralism_eval.api.replies import Reply, read_reply, refused_reply
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.api.transport import HOPELESS, MAX_REPLY, Exchange, Rejected, Stop, http_client
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.secrets import remember

__all__ = ["PATHS", "Api", "Call", "Fatal", "Rejected"]
PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_ASKED = 3
"""Times that a reply which cannot be used is asked for again, the first included."""
_FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
_SHOWN = 10
_SHORTEST_KEY = 8  # a shorter one may be an ordinary word


log = logging.getLogger(__name__)


class Fatal(PluralismError):
    """No further request can succeed: a wrong key, no such model, no money."""


class Api:
    """A server under one set of limits."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.counts = Counts()
        self.budget = Budget(settings.price_in, settings.price_out, settings.spend_limit)
        self.requests = TokenBucket(settings.requests_per_minute)
        self._tokens = TokenBucket(settings.tokens_per_minute)
        self.store = Store(cache_root() / "api.sqlite", "replies")
        self._local = local()
        self._failing = 0
        self._n_refused = False
        self._over: PluralismError | None = None
        """Why no further request is sent."""

    @cached_property
    def client(self) -> Any:
        """The SDK's client; every attempt passes the limits and the counts."""
        from openai import OpenAI

        s = self.settings
        remember(self._key)
        return OpenAI(
            base_url=s.base_url, api_key=self._key or "none", max_retries=s.max_retries, timeout=s.timeout,
            default_headers=self._extra_headers, http_client=http_client(self),
        )  # fmt: skip

    @contextmanager
    def exchange(
        self, cost: float = 0.0, max_bytes: int = MAX_REPLY, seconds: float | None = None
    ) -> Iterator[Exchange]:
        """Around each use of :attr:`client`: what one attempt may take at most.

        Raises:
            PluralismError: it went beyond.
        """
        s = self.settings
        made = Exchange(s.base_url, self.budget, seconds or s.timeout, cost, max_bytes)
        self._local.exchange = made
        try:
            yield made
        except Stop as stop:
            raise stop.error from None
        finally:
            self._local.exchange = None
            made.end()

    def current_exchange(self) -> Exchange:
        """That of this thread."""
        s = self.settings
        found = getattr(self._local, "exchange", None)
        return found or Exchange(s.base_url, self.budget, s.timeout)

    @property
    def _key(self) -> str:
        return os.environ.get(self.settings.api_key_variable, "")

    @cached_property
    def _extra_headers(self) -> dict[str, str]:
        """Header → the value of its environment variable. Raises PluralismError: one that is not set."""
        named = self.settings.extra_headers_from_env
        missing = [
            f"header {header}: the environment variable {variable} is not set"
            for header, variable in named.items()
            if not os.environ.get(str(variable))
        ]
        raise_all("extra_headers_from_env", missing)
        found = {header: os.environ[str(variable)] for header, variable in named.items()}
        for value in found.values():
            remember(value)
        return found

    def without_key(self, text: str) -> str:
        """A server's words, in which it does not say our keys: they are stored and published."""
        for key in {self._key, *self._extra_headers.values()}:
            said = text.count(key) if len(key) >= _SHORTEST_KEY else 0
            self.counts.add("said_our_key", said)
            text = text.replace(key, "***") if said else text
        return text

    def report(self) -> dict[str, Any]:
        """Counts of everything that happened to requests, and the money spent where prices are known."""
        spent = {"spent": self.budget.spent} if self.budget.known else {}
        return {"base_url": self.settings.base_url, **self.counts.as_dict(), **spent}

    def key(self, call: Call) -> str:
        """Everything that an answer depends on."""
        return digest([self.settings.base_url, call.kind, call.body, call.sample])

    def models(self) -> list[str] | None:
        """Names served; None where the server has no list.

        Raises:
            PluralismError: no connection, or the key is refused.
        """
        from openai import APIStatusError, OpenAIError

        try:
            with self.exchange():
                return [model.id for model in self.client.models.list().data]
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise Fatal(words(self.settings, error)) from None
            return None
        except OpenAIError as error:
            raise Fatal(words(self.settings, error)) from None
        except (ValueError, AttributeError):
            return None

    # ------------------------------------------------------------------ many requests

    def ask(self, calls: Sequence[Call], what: str = "requests") -> Iterator[tuple[int, Reply]]:
        """(index in ``calls``, its reply), stored ones first, the others as they come.

        Equal calls are one. What was answered is stored before anything else happens to it.

        Raises:
            PluralismError: after all that could be answered was: what failed, and why.
        """
        places: dict[str, list[int]] = {}
        for i, call in enumerate(calls):
            places.setdefault(self.key(call), []).append(i)
        known = self.kept({key: calls[own[0]] for key, own in places.items()})
        self.counts.add("stored", len(known))
        for key, reply in known.items():
            for i in places[key]:
                yield i, reply
        todo = {key: calls[own[0]] for key, own in places.items() if key not in known}
        if not todo:
            return
        hidden = None if len(todo) > 1 else True
        with progress.bar(len(todo), what, "request", hidden) as bar:
            for key, reply in self._answers(todo):
                bar.update(1)
                if self.budget.known:
                    bar.set_postfix_str(f"spent {self.budget.spent:.4g}")
                for i in places[key]:
                    yield i, reply

    def kept(self, calls: Mapping[str, Call]) -> dict[str, Reply]:
        """Key → stored reply, for those that hold what their call asks for, from the model that it asks.

        Earlier versions kept others as well.
        """
        found: dict[str, Reply] = {}
        names = {key: key for key in calls} if self.settings.cache else {}
        while names:
            rows = self.store.get(list(names.values()))
            useless = {}
            for key, name in names.items():
                if name in rows:
                    reply = self._worth_keeping(rows[name], calls[key])
                    if reply is None:
                        useless[key] = _next_name(name)
                    else:
                        found[key] = reply.as_stored()
            names = {k: name for k, name in useless.items() if name}
        return found

    def _worth_keeping(self, raw: Mapping[str, Any], call: Call) -> Reply | None:
        if not same_model(answered_by(raw), str(call.body["model"]), self.settings.served_as):
            self.counts.add("wrong_model")
            return None
        try:
            reply = read_reply(raw, bool(call.body.get("echo")))
        except PluralismError:
            return None
        return None if call.is_useless(reply) else reply

    def ask_all(self, calls: Sequence[Call], what: str = "requests") -> list[Reply]:
        """[n_calls] replies, in order. Raises as :meth:`ask`."""
        found = dict(self.ask(calls, what))
        return [found[i] for i in range(len(calls))]

    def _answers(self, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply]]:
        if self.settings.batch:
            from pluralism_eval.api.batch import answers

            yield from answers(self, todo)
            return
        failed: list[str] = []
        self._over = None
        with ThreadPoolExecutor(self.settings.concurrency) as threads:
            running = {threads.submit(self.answer, k, call): k for k, call in todo.items()}
            try:
                for future in as_completed(running):
                    try:
                        reply = future.result()
                    except (Fatal, SpendLimit):
                        raise
                    except PluralismError as error:
                        failed.append(str(error))
                        self._give_up(failed)
                        continue
                    self._failing = 0
                    yield running[future], reply
            finally:  # those in flight end, and are stored
                threads.shutdown(wait=True, cancel_futures=True)
        self.raise_failed(failed)

    def _give_up(self, failed: Sequence[str]) -> None:
        """Stops when nothing succeeds any more."""
        self._failing += 1
        if self._failing >= max(2 * self.settings.concurrency, 3):
            self.raise_failed([*failed, f"stopped after {self._failing} failures in a row"])

    def raise_failed(self, failed: Sequence[str]) -> None:
        """Raises PluralismError if there are any; equal ones are listed once."""
        distinct = list(dict.fromkeys(failed))
        more = [f"and {len(distinct) - _SHOWN} more"] if len(distinct) > _SHOWN else []
        raise_all(
            f"{len(failed)} requests to {self.settings.base_url} failed (the others are answered and kept)",
            [*distinct[:_SHOWN], *more],
        )

    def fresh(self, call: Call) -> Reply:
        """The server's answer of now, whatever is stored; it is not stored. For proofs of life.

        Raises:
            PluralismError: it failed for good.
        """
        raw: Mapping[str, Any] = {}
        for _ in range(_ASKED):
            raw = self._post(call, uuid.uuid4().hex) or {}
            if not raw.get("choices"):
                raise Rejected(f"{self.settings.base_url}: no answer to a canary prompt")
            if self.problem(call, raw) != "wrong_model":
                break
            self.counts.add("wrong_model")
        else:
            raise Rejected(unusable(_ASKED, "wrong_model", call, raw))
        reply = read_reply(raw, bool(call.body.get("echo")))
        self.counts.of_reply(reply, call.n, text=False)
        return reply

    # ------------------------------------------------------------------ one request

    def answer(self, key: str, call: Call) -> Reply:
        """A usable reply, stored. Raises Fatal, Rejected or PluralismError."""
        if self._over:
            raise self._over
        try:
            return self._usable(key, call)
        except (Fatal, SpendLimit) as error:
            self._over = error
            raise

    def _usable(self, key: str, call: Call) -> Reply:
        if self._n_refused and call.n > 1:
            return self.one_by_one(key, call)
        try:
            raw = self._tried(key, call)
        except Rejected as error:
            if call.n > 1 and error.status in (400, 422):
                return self.one_by_one(key, call, error)
            raise
        return self._filtered(call) if raw is None else self.keep(key, call, raw)

    def _filtered(self, call: Call) -> Reply:
        self.counts.add("content_filtered")
        return refused_reply(str(call.body["model"]), "content_filter")

    def _tried(self, key: str, call: Call) -> Mapping[str, Any] | None:
        """A reply that can be used; None if the server's filter rejected the prompt."""
        raw: Mapping[str, Any] | None = None
        problem = ""
        for attempt in range(_ASKED):
            raw = self._post(call, f"{key}-{attempt}")
            problem = self.problem(call, raw) if raw is not None else ""
            if not problem:
                break
            self.counts.add(problem)
        if raw is not None and problem in ("wrong_model", "no_choices"):
            raise Rejected(unusable(_ASKED, problem, call, raw))
        return raw

    def one_by_one(self, key: str, call: Call, refusal: Rejected | None = None) -> Reply:
        """The ``n`` choices of ``call`` by ``n`` requests, stored as one reply: the server refuses ``n``.

        Raises:
            Rejected: ``refusal``, if the server refuses a single choice as well.
        """
        body = {name: value for name, value in call.body.items() if name != "n"}
        found: list[Mapping[str, Any]] = []
        for i in range(call.n):
            seed = {"seed": int(body["seed"]) + i} if "seed" in body else {}
            try:
                raw = self._tried(f"{key}-{i}", replace(call, body={**body, **seed}))
            except Rejected:
                if refusal is not None and not found and not self._n_refused:
                    raise refusal from None
                raise
            if raw is None:
                return self._filtered(call)
            found.append(raw)
        if not self._n_refused:
            self._n_refused = True
            log.warning("%s refuses n: choices are asked one by one", self.settings.base_url)
        self.counts.add("asked_one_by_one", call.n)
        return self.keep(key, call, joined(found))

    def problem(self, call: Call, raw: Mapping[str, Any]) -> str:
        """Why a reply cannot be used, by the name of its count; empty if it can."""
        if not same_model(answered_by(raw), str(call.body["model"]), self.settings.served_as):
            return "wrong_model"
        try:
            reply = read_reply(raw, bool(call.body.get("echo")))
        except PluralismError:  # no form that we know
            return "no_choices"
        if not reply.choices:
            return "no_choices"
        return "missing_logprobs" if call.lacks(reply) else ""

    def keep(self, key: str, call: Call, raw: Mapping[str, Any]) -> Reply:
        """Stores a reply, unless all of it is a refusal or useless, and counts what is odd about it."""
        reply = read_reply(raw, bool(call.body.get("echo")))
        refused = all(choice.refused for choice in reply.choices)
        if self.settings.cache and not refused and not call.is_useless(reply):
            # earlier versions kept useless replies, and a store replaces nothing
            taken = self.store.known([key])
            self.store.put({(_next_name(key) if taken else key): raw})
        self.counts.of_reply(reply, call.n, text=call.wants_text)
        if call.needs_first:
            wanted = int(call.body.get("top_logprobs") or call.body.get("logprobs") or 0)
            short = any(c.first and len(c.first) < wanted for c in reply.choices)
            self.counts.add("short_logprobs", int(short))
        return reply

    def _post(self, call: Call, idempotency_key: str) -> Mapping[str, Any] | None:
        """The server's JSON; None if its filter rejected the prompt."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        estimate = call.prompt_tokens() + call.new_tokens
        most = self.budget.cost(call.prompt_tokens(), call.new_tokens)
        _ = self.client  # its own errors are no server's
        self._tokens.take(estimate)
        try:
            for _ in range(self.settings.max_retries + 1):
                with self.exchange(most) as exchange:
                    try:
                        raw = self._create(call, idempotency_key)
                    except (
                        ValueError,
                        RecursionError,
                    ):  # the SDK leaves JSON that breaks off to us
                        self.counts.add("unreadable_bodies")
                        continue
                    used = tokens_used(raw.get("usage"), call)
                    if used is not None:
                        exchange.end(self.budget.cost(*used))
                        self._tokens.correct(estimate, sum(used))
                    return raw
            raise Rejected(f"{self.settings.base_url}: its replies cannot be read as JSON")
        except APIStatusError as error:
            if error_code(error) in _FILTERED:
                return None
            hopeless = error.status_code in (401, 403, 404) or error_code(error) in HOPELESS
            if hopeless or 300 <= error.status_code < 400:
                raise Fatal(words(self.settings, error, call)) from None
            rejected = Rejected(words(self.settings, error, call))
            rejected.status = error.status_code
            raise rejected from None
        except APIConnectionError as error:
            raise Rejected(words(self.settings, error, call)) from None
        except OpenAIError as error:
            raise Fatal(words(self.settings, error, call)) from None

    def _create(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        client = self.client
        create = client.chat.completions if call.kind == "chat" else client.completions
        needed: dict[str, Any] = {"messages": []} if call.kind == "chat" else {"prompt": ""}
        raw = create.with_raw_response.create(
            **needed,
            model=call.body["model"],
            extra_body=dict(call.body),
            extra_headers={"Idempotency-Key": idempotency_key},
        )
        loaded = json.loads(self.without_key(raw.http_response.content.decode()))
        if not isinstance(loaded, dict):
            raise ValueError("no JSON object")
        return loaded


def _next_name(name: str) -> str:
    """The key of what replaces the useless reply under ``name``; empty: there is no second replacement."""
    return "" if name.endswith("+") else f"{name}+"
