"""One server, many requests: each answered once, paid once, kept at once; whatever goes wrong counted.

Retries, Retry-After, timeouts and connections are the openai SDK's. What it cannot know stands here:
which replies are usable, what is stored already, and how much may be spent.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pluralism_eval import progress
from pluralism_eval.api.counts import Counts
from pluralism_eval.api.limits import Budget, SpendLimit, TokenBucket
from pluralism_eval.api.replies import Reply, read_reply, refused_reply
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.secrets import redact, remember

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_ASKED = 3
"""Times that a reply which cannot be used is asked for again, the first included."""
_FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
_HOPELESS = ("insufficient_quota", "billing_hard_limit_reached", "access_terminated")
_SHOWN = 10
_SHORTEST_KEY = 8  # a shorter one may be an ordinary word


class Fatal(PluralismError):
    """No further request can succeed: a wrong key, no such model, no money."""


class Rejected(PluralismError):
    """This request failed for good; others may succeed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    kind: str
    """``chat`` or ``completions``."""
    body: Mapping[str, Any]
    sample: int = 0
    """Tells equal requests apart that want different samples."""
    needs_first: bool = False
    """The likeliest first tokens are what is wanted."""
    shows: Callable[[Reply], bool] | None = field(default=None, compare=False)
    """Whether a reply holds what is wanted; one that does not is asked for again, and never kept."""

    def lacks(self, reply: Reply) -> bool:
        """True for a reply that says nothing of what was asked for."""
        if any(choice.refused for choice in reply.choices):
            return False
        if self.needs_first and any(choice.first is None for choice in reply.choices):
            return True
        return self.shows is not None and not self.shows(reply)

    @property
    def wants_text(self) -> bool:
        return not (self.needs_first or self.body.get("echo"))

    def is_useless(self, reply: Reply) -> bool:
        """True for a reply that is not worth keeping: the next run asks again."""
        silent = all(c.missing or (not c.text and c.finish == "length") for c in reply.choices)
        return self.lacks(reply) or (self.wants_text and silent)

    @property
    def n(self) -> int:
        return int(self.body.get("n") or 1)

    @property
    def new_tokens(self) -> int:
        """The most that may be generated."""
        limit = self.body.get("max_tokens", self.body.get("max_completion_tokens"))
        return self.n * int(limit or 0)

    def prompt_tokens(self) -> int:
        """An estimate on the high side: two characters a token."""
        texts = self.body.get("messages") or [{"content": self.body.get("prompt")}]
        return sum(len(str(turn["content"])) for turn in texts) // 2 + 8


class Api:
    """A server under one set of limits."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.counts = Counts()
        self.budget = Budget(settings.price_in, settings.price_out, settings.spend_limit)
        self._requests = TokenBucket(settings.requests_per_minute)
        self._tokens = TokenBucket(settings.tokens_per_minute)
        self.store = Store(cache_root() / "api.sqlite", "replies")
        self._failing = 0
        self._over: PluralismError | None = None
        """Why no further request is sent."""

    @cached_property
    def client(self) -> Any:
        """The SDK's client; every attempt passes the limit and the counts."""
        from openai import DefaultHttpxClient, OpenAI

        api, s = self, self.settings

        class Counting(DefaultHttpxClient):  # type: ignore[misc,unused-ignore]
            def send(self, request: Any, **options: Any) -> Any:
                api._requests.take()
                api.counts.add("requests")
                try:
                    response = super().send(request, **options)
                except Exception as error:
                    api.counts.add(_transport_fault(error))
                    raise
                if response.status_code >= 400:
                    api.counts.add(_status_fault(response.status_code))
                if response.status_code == 429 and any(w in response.text for w in _HOPELESS):
                    response.headers["x-should-retry"] = "false"  # no waiting brings money back
                return response

        remember(self._key)
        return OpenAI(
            base_url=s.base_url, api_key=self._key or "none", max_retries=s.max_retries, timeout=s.timeout,
            http_client=Counting(),
        )  # fmt: skip

    @property
    def _key(self) -> str:
        return os.environ.get(self.settings.api_key_variable, "")

    def without_key(self, text: str) -> str:
        """A server's words, in which it does not say our key: they are stored and published."""
        said = text.count(self._key) if len(self._key) >= _SHORTEST_KEY else 0
        self.counts.add("said_our_key", said)
        return text.replace(self._key, "***") if said else text

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
            return [model.id for model in self.client.models.list().data]
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise Fatal(self._words(error)) from None
            return None
        except OpenAIError as error:
            raise Fatal(self._words(error)) from None
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
        """Key → stored reply, for those that hold what their call asks for."""
        found: dict[str, Reply] = {}
        names = {key: key for key in calls} if self.settings.cache else {}
        while names:
            rows = self.store.get(list(names.values()))
            useless = {}
            for key, name in names.items():
                if name in rows:
                    reply = _readable(rows[name], calls[key])
                    if reply is None or calls[key].is_useless(reply):
                        useless[key] = _next_name(name)
                    else:
                        found[key] = reply.as_stored()
            names = {k: name for k, name in useless.items() if name}
        return found

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
        raw = self._post(call, uuid.uuid4().hex)
        if raw is None or not raw.get("choices"):
            raise Rejected(f"{self.settings.base_url}: no answer to a canary prompt")
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
        raw: Mapping[str, Any] | None = None
        problem = ""
        for attempt in range(_ASKED):
            raw = self._post(call, f"{key}-{attempt}")
            if raw is None:
                self.counts.add("content_filtered")
                return refused_reply(str(call.body["model"]), "content_filter")
            problem = self.problem(call, raw)
            if not problem:
                break
            self.counts.add(problem)
        assert raw is not None
        if problem in ("wrong_model", "no_choices"):
            raise Rejected(self._unusable(problem, call, raw))
        return self.keep(key, call, raw)

    def problem(self, call: Call, raw: Mapping[str, Any]) -> str:
        """Why a reply cannot be used, by the name of its count; empty if it can."""
        if not self._is_ours(str(raw.get("model") or ""), str(call.body["model"])):
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
        reserved = self.budget.cost(call.prompt_tokens(), call.new_tokens)
        cost = 0.0
        self.budget.reserve(reserved)
        self._tokens.take(estimate)
        try:
            for _ in range(self.settings.max_retries + 1):
                try:
                    raw = self._create(call, idempotency_key)
                except ValueError:  # the SDK leaves JSON that breaks off to us
                    self.counts.add("unreadable_bodies")
                    continue
                used = raw.get("usage")
                sent, new = _tokens_used(used)
                cost = self.budget.cost(sent, new) if used else reserved
                self._tokens.correct(estimate, (sent + new) if used else estimate)
                return raw
            raise Rejected("the server's replies cannot be read as JSON")
        except APIStatusError as error:
            if _code(error) in _FILTERED:
                return None
            hopeless = error.status_code in (401, 403, 404) or _code(error) in _HOPELESS
            raise (Fatal if hopeless else Rejected)(self._words(error, call)) from None
        except APIConnectionError as error:
            raise Rejected(self._words(error, call)) from None
        except OpenAIError as error:
            raise Fatal(self._words(error, call)) from None
        finally:
            self.budget.settle(reserved, cost)

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

    def _is_ours(self, said: str, asked: str) -> bool:
        """Is ``said`` the model that was asked for, by a longer or shorter name?"""
        names = (asked, *self.settings.served_as)
        same = any(said == n or said.startswith(f"{n}-") or n.endswith(f"/{said}") for n in names)
        return same or said.endswith(f"/{asked}")

    def _unusable(self, problem: str, call: Call, raw: Mapping[str, Any]) -> str:
        if problem == "no_choices":
            try:
                read_reply(raw, bool(call.body.get("echo")))
            except PluralismError as error:
                return f"{call.body['model']}: {_ASKED} replies could not be read: {error}"
            return f"{call.body['model']}: {_ASKED} replies held no choice"
        return (
            f"asked for model {call.body['model']!r}, {raw.get('model')!r} answered {_ASKED} times; "
            "if that is the same one, set served_as to that name"
        )

    def _words(self, error: Exception, call: Call | None = None) -> str:
        """An SDK error in one line, with what to do about the common ones."""
        s = self.settings
        where = f"{s.base_url} ({call.body['model']})" if call else s.base_url
        reason = redact(str(error).splitlines()[0][:300] if str(error) else type(error).__name__)
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            there = "holds another key" if os.environ.get(s.api_key_variable) else "is not set"
            return f"{where} refuses the key: {reason}. The variable {s.api_key_variable} {there}"
        if status == 404:
            return f"{where}: {reason}. Check model and api={s.api} (completions or chat)"
        return f"{where}: {type(error).__name__}: {reason}"


def _readable(raw: Mapping[str, Any], call: Call) -> Reply | None:
    try:
        return read_reply(raw, bool(call.body.get("echo")))
    except PluralismError:
        return None


def _next_name(name: str) -> str:
    """The key of what replaces the useless reply under ``name``; empty: there is no second replacement."""
    return "" if name.endswith("+") else f"{name}+"


def _tokens_used(usage: Any) -> tuple[int, int]:
    """(prompt, new) tokens as the server says; 0 where it says nothing sensible."""
    counts = [
        usage.get(f"{kind}_tokens") if isinstance(usage, Mapping) else 0
        for kind in ("prompt", "completion")
    ]
    sent, new = (count if isinstance(count, int) and 0 <= count < 10**9 else 0 for count in counts)
    return sent, new


def _transport_fault(error: Exception) -> str:
    if "Timeout" in type(error).__name__:
        return "timeouts"
    return "cut_bodies" if "complete message body" in str(error) else "connection_errors"


def _status_fault(status: int) -> str:
    if status == 429:
        return "rate_limited"
    return "server_errors" if status >= 500 else "rejected"


def _code(error: Any) -> str:
    """The ``code`` of an error body."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error", body)
    return str(inner.get("code") or inner.get("type") or "") if isinstance(inner, Mapping) else ""
