"""The Batch API as a way to ask: submitted once, collected whenever it is done.

A batch is planned on disk before anything is sent, and named to the server (``metadata``) by the plan's
id. So a process may be killed between any two steps: the next one finds the plan, then the batch on the
server, and goes on from there. Nothing is submitted while a batch that asks for it is open.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pluralism_eval import progress
from pluralism_eval.api.replies import Reply, refused_reply
from pluralism_eval.cache import Store

if TYPE_CHECKING:
    from pluralism_eval.api.client import Api, Call

_MARK = "pluralism_eval"
_ROUNDS = 3
"""Times that a request which expired or failed in passing is put into a batch."""
_BYTES = 100_000_000
_ENDED = ("completed", "failed", "expired", "cancelled")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One batch, from before it is sent."""

    name: str
    keys: tuple[str, ...]
    kind: str
    model: str

    def call(self, key: str, todo: Mapping[str, Call]) -> Call:
        """The request of ``key``; of one that an earlier run wanted, what is needed to keep its answer."""
        from pluralism_eval.api.client import Call

        return todo.get(key) or Call(self.kind, {"model": self.model})


def answers(api: Api, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply]]:
    """(key, reply) of everything in ``todo``; as :meth:`Api.ask` otherwise."""
    from openai import OpenAIError

    from pluralism_eval.api.client import Fatal

    try:
        yield from _answers(api, todo)
    except OpenAIError as error:
        raise Fatal(
            f"{api.settings.base_url}: the Batch API failed: {error}. What the server holds is collected by the next run"
        ) from None


def _answers(api: Api, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply]]:
    left = dict(todo)
    failed: list[str] = []
    for _ in range(_ROUNDS):
        if not left:
            break
        for key, found in _round(api, left):
            call = left.pop(key)
            if isinstance(found, str):
                failed.append(f"{call.body['model']}: {found}")
            else:
                yield key, found
    failed += ["expired or failed on the server each time"] * len(left)
    api.raise_failed(failed)


def _round(api: Api, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply | str]]:
    """Collects open batches, submits the rest, waits; what is to be asked again is not among it."""
    book = _Book(api)
    open_plans = [plan for plan in book.open() if set(plan.keys) & set(todo)]
    asked = {key for plan in open_plans for key in plan.keys}
    fresh = [
        book.plan({k: todo[k] for k in keys})
        for keys in _chunks(api, {k: c for k, c in todo.items() if k not in asked})
    ]
    waiting = {}
    for plan in [*open_plans, *fresh]:
        waiting[plan] = book.submit(plan, todo)
    total = sum(len(plan.keys) for plan in waiting)
    with progress.bar(total, "batches", "request") as bar:
        while waiting:
            counts = 0
            for plan, name in list(waiting.items()):
                batch = api.client.batches.retrieve(name)
                counts += batch.request_counts.completed if batch.request_counts else 0
                if batch.status in _ENDED:
                    yield from book.collect(plan, batch, todo)
                    del waiting[plan]
            bar.n = max(bar.n, min(total, counts))
            bar.set_postfix_str(f"{len(waiting)} open; may be interrupted and run again")
            if waiting:
                time.sleep(api.settings.batch_poll)


def _chunks(api: Api, todo: Mapping[str, Call]) -> Iterator[list[str]]:
    """Keys of batches within the server's limits; one kind of endpoint each."""
    part: list[str] = []
    size = 0
    for key, call in sorted(todo.items(), key=lambda item: item[1].kind):
        own = len(json.dumps(call.body))
        other = bool(part) and todo[part[0]].kind != call.kind
        if other or len(part) >= api.settings.batch_size or (part and size + own > _BYTES):
            yield part
            part, size = [], 0
        part.append(key)
        size += own
    if part:
        yield part


class _Book:
    """What is known of batches: rows that are only added, so that no step can half happen."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.store = Store(api.store.path, "batches")

    def open(self) -> list[Plan]:
        """Plans for this server that were not collected."""
        rows = self.store.items()
        return [
            Plan(key.removeprefix("plan:"), tuple(row["keys"]), row["kind"], row["model"])
            for key, row in rows.items()
            if key.startswith("plan:")
            and row["base_url"] == self.api.settings.base_url
            and f"done:{key.removeprefix('plan:')}" not in rows
        ]

    def plan(self, calls: Mapping[str, Call]) -> Plan:
        first = next(iter(calls.values()))
        plan = Plan(uuid.uuid4().hex, tuple(calls), first.kind, str(first.body["model"]))
        row = {"keys": list(calls), "kind": plan.kind, "model": plan.model}
        row["base_url"] = self.api.settings.base_url
        self.store.put({f"plan:{plan.name}": row})
        return plan

    def submit(self, plan: Plan, todo: Mapping[str, Call]) -> str:
        """The batch's id on the server, where it is sought before it is made."""
        key = f"batch:{plan.name}"
        known = self.store.get([key])
        if known:
            return str(known[key]["id"])
        name = self._on_server(plan) or self._create(plan, todo)
        self.store.put({key: {"id": name}})
        self.api.counts.add("batches")
        return name

    def _on_server(self, plan: Plan) -> str | None:
        for batch in self.api.client.batches.list(limit=100):
            if (batch.metadata or {}).get(_MARK) == plan.name:
                return str(batch.id)
        return None

    def _create(self, plan: Plan, todo: Mapping[str, Call]) -> str:
        from pluralism_eval.api.client import PATHS

        client = self.api.client
        calls = {key: todo[key] for key in plan.keys if key in todo}
        path = PATHS[next(iter(calls.values())).kind]
        lines = [
            {"custom_id": key, "method": "POST", "url": f"/v1{path}", "body": call.body}
            for key, call in calls.items()
        ]
        cost = sum(self._cost(call) for call in calls.values())
        self.api.budget.reserve(cost)
        try:
            text = "".join(json.dumps(line) + "\n" for line in lines).encode()
            file = client.files.create(file=("requests.jsonl", text), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id,
                endpoint=f"/v1{path}",
                completion_window="24h",
                metadata={_MARK: plan.name},
            )
        except BaseException:
            self.api.budget.settle(cost, 0.0)
            raise
        self.api.budget.settle(cost, cost)  # corrected when it is collected
        log.warning("batch %s: %d requests are with the server", batch.id, len(lines))
        return str(batch.id)

    def _cost(self, call: Call) -> float:
        return self.api.budget.cost(call.prompt_tokens(), call.new_tokens)

    def collect(
        self, plan: Plan, batch: Any, todo: Mapping[str, Call]
    ) -> list[tuple[str, Reply | str]]:
        """Stores what an ended batch answered, marks it done, and returns what it decided."""
        rows = [
            row
            for name in (batch.output_file_id, batch.error_file_id)
            if name
            for row in _lines(self.api.without_key(self.api.client.files.content(name).text))
        ]
        found: list[tuple[str, Reply | str]] = []
        for row in rows:
            key = str(row["custom_id"])
            decided = self._decide(key, plan.call(key, todo), row)
            if key in todo and decided is not None:
                found.append((key, decided))
        self.store.put({f"done:{plan.name}": {"status": batch.status, "rows": len(rows)}})
        if batch.status == "failed" and not rows:
            reasons = [str(e.message) for e in (batch.errors.data if batch.errors else None) or []]
            why = "; ".join(reasons[:3]) or "no reason given"
            return [(k, f"the server refused the batch: {why}") for k in plan.keys if k in todo]
        return found

    def _decide(self, key: str, call: Call, row: Mapping[str, Any]) -> Reply | str | None:
        """A reply, why there can be none, or None: to be asked again."""
        response = row.get("response") or {}
        status, body = int(response.get("status_code") or 0), response.get("body") or {}
        if status == 200:
            problem = self.api.problem(call, body)
            if problem:
                self.api.counts.add(problem)
                return None
            reply = self.api.keep(key, call, body)
            real = self.api.budget.cost(reply.prompt_tokens, reply.new_tokens)
            self.api.budget.settle(0.0, real - self._cost(call) if self.api.budget.known else 0.0)
            return reply
        error = body.get("error") or row.get("error") or {}
        self.api.budget.settle(0.0, -self._cost(call))
        if error.get("code") in ("content_filter", "content_policy_violation"):
            self.api.counts.add("content_filtered")
            return refused_reply(str(call.body["model"]), "content_filter")
        if 400 <= status < 500 and status not in (408, 409, 429):
            self.api.counts.add("rejected")
            return f"{status}: {error.get('message', 'rejected')}"
        self.api.counts.add("rate_limited" if status == 429 else "server_errors")
        return None


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]
