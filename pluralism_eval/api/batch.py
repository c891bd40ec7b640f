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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pluralism_eval import progress
from pluralism_eval.api.bodies import Call, tokens_used, words
from pluralism_eval.api.replies import Reply, refused_reply
from pluralism_eval.api.transport import Rejected
from pluralism_eval.cache import Store

if TYPE_CHECKING:
    from pluralism_eval.api.client import Api

_MARK = "pluralism_eval"
_ROUNDS = 3
"""Times that a request which expired or failed in passing is put into a batch."""
_BYTES = 100_000_000
_ENDED = ("completed", "failed", "expired", "cancelled")
_GONE = (404, 410)
_FILE_SECONDS = 3600.0
"""In which a batch's file must arrive."""
_LARGEST_FILE = 2**30
Decided = Reply | str | None
"""A reply, why there can be none, or None: the server lost the request."""
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
        return todo.get(key) or Call(self.kind, {"model": self.model})


def answers(api: Api, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply]]:
    """(key, reply) of everything in ``todo``; as :meth:`Api.ask` otherwise."""
    from openai import OpenAIError

    from pluralism_eval.api.client import Fatal

    try:
        yield from _answers(api, todo)
    except OpenAIError as error:
        raise Fatal(
            f"the Batch API failed: {words(api.settings, error)}. What the server holds is collected by the next run"
        ) from None


def _answers(api: Api, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply]]:
    left = dict(todo)
    failed: list[str] = []
    lost_before: set[str] = set()
    for _ in range(_ROUNDS):
        if not left:
            break
        for key, found in _round(api, left):
            if found is None and key not in lost_before:
                lost_before.add(key)
                continue
            call = left.pop(key)
            if found is None:
                found = "the server lost its batch, and the one that was submitted in its place"
            if isinstance(found, str):
                failed.append(f"{call.body['model']}: {found}")
            else:
                yield key, found
    failed += ["expired or failed on the server each time"] * len(left)
    api.raise_failed(failed)


def _round(api: Api, todo: Mapping[str, Call]) -> Iterator[tuple[str, Decided]]:
    """Collects open batches, submits the rest, waits; what is to be asked again is not among it, or None."""
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
                batch = book.look(name)
                if batch is not None and batch.request_counts:
                    counts += batch.request_counts.completed
                if batch is None or batch.status in _ENDED:
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
        self._charged: dict[str, float] = {}
        """Key → the estimate that the budget holds for it: requests that this process submitted."""

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
        with self.api.exchange():
            for batch in self.api.client.batches.list(limit=100):
                if (batch.metadata or {}).get(_MARK) == plan.name:
                    return str(batch.id)
        return None

    def look(self, name: str) -> Any:
        """The batch of this id; None if the server knows it no more."""
        with self.api.exchange(), _or_gone(f"batch {name}") as found:
            found.append(self.api.client.batches.retrieve(name))
        return found[0] if found else None

    def _create(self, plan: Plan, todo: Mapping[str, Call]) -> str:
        from pluralism_eval.api.client import PATHS

        client = self.api.client
        calls = {key: todo[key] for key in plan.keys if key in todo}
        path = PATHS[next(iter(calls.values())).kind]
        lines = [
            {"custom_id": key, "method": "POST", "url": f"/v1{path}", "body": call.body}
            for key, call in calls.items()
        ]
        costs = {key: self._cost(call) for key, call in calls.items()}
        cost = sum(costs.values())
        self.api.budget.reserve(cost)
        try:
            text = "".join(json.dumps(line) + "\n" for line in lines).encode()
            with self.api.exchange(seconds=_FILE_SECONDS):
                file = client.files.create(file=("requests.jsonl", text), purpose="batch")
            with self.api.exchange():
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
        self._charged |= costs
        log.warning("batch %s: %d requests are with the server", batch.id, len(lines))
        return str(batch.id)

    def _cost(self, call: Call) -> float:
        return self.api.budget.cost(call.prompt_tokens(), call.new_tokens)

    def _correct(self, key: str, real: float) -> None:
        """Puts what a request cost in the place of its estimate, if this process charged one."""
        self.api.budget.settle(0.0, real - self._charged.pop(key, 0.0))

    def collect(
        self, plan: Plan, batch: Any, todo: Mapping[str, Call]
    ) -> Iterator[tuple[str, Decided]]:
        """Stores what an ended batch answered, marks it done, and gives what it decided.

        Args:
            batch: None: the server lost it.
        """
        rows, lost = ([], True) if batch is None else self._rows(plan, batch)
        seen: set[str] = set()
        found: list[tuple[str, Decided]] = []
        for row in rows:
            key = str(row.get("custom_id"))
            if key not in plan.keys or key in seen:  # never asked for, or answered already
                continue
            seen.add(key)
            decided = self._decide(key, plan.call(key, todo), row)
            if decided is not None:
                found.append((key, decided))
        absent = [key for key in plan.keys if key not in seen]
        for key in absent:
            self._correct(key, 0.0)
        status = "lost" if batch is None else batch.status
        self.store.put({f"done:{plan.name}": {"status": status, "rows": len(rows)}})
        if lost:
            self.api.counts.add("lost_batches")
            log.warning(
                "%s lost a batch or its file: %d requests are submitted again",
                self.api.settings.base_url,
                len(absent),
            )
            found += [(key, None) for key in absent]
        elif status == "failed" and not rows:
            reasons = [str(e.message) for e in (batch.errors.data if batch.errors else None) or []]
            why = "; ".join(reasons[:3]) or "no reason given"
            found += [(key, f"the server refused the batch: {why}") for key in absent]
        yield from ((key, decided) for key, decided in found if key in todo)

    def _rows(self, plan: Plan, batch: Any) -> tuple[list[dict[str, Any]], bool]:
        """(lines of both files, whether a file is gone)."""
        rows: list[dict[str, Any]] = []
        lost = False
        most = min(_LARGEST_FILE, (len(plan.keys) + 1) * 2**20)
        for name in (batch.output_file_id, batch.error_file_id):
            if not name:
                continue
            with (
                self.api.exchange(max_bytes=most, seconds=_FILE_SECONDS),
                _or_gone(f"file {name} of batch {batch.id}") as found,
            ):
                found.append(self.api.client.files.content(name).text)
            lost = lost or not found
            rows += self._lines(self.api.without_key("".join(found)))
        return rows, lost

    def _lines(self, text: str) -> list[dict[str, Any]]:
        """JSON lines; one that cannot be read is counted, and its request is asked again."""
        rows = []
        for line in filter(str.strip, text.split("\n")):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                self.api.counts.add("unreadable_bodies")
        return rows

    def _decide(self, key: str, call: Call, row: Mapping[str, Any]) -> Reply | str | None:
        """A reply, why there can be none, or None: to be asked again."""
        response = _mapping(row.get("response"))
        body = _mapping(response.get("body"))
        status = response.get("status_code")
        status = status if isinstance(status, int) else 0
        if status == 200:
            used = tokens_used(body.get("usage"), call)
            self._correct(
                key,
                self.api.budget.cost(*used) if used else self._charged.get(key, self._cost(call)),
            )
            problem = self.api.problem(call, body)
            if problem:
                self.api.counts.add(problem)
                return None
            return self.api.keep(key, call, body)
        error = _mapping(body.get("error") or row.get("error"))
        self._correct(key, 0.0)
        if error.get("code") in ("content_filter", "content_policy_violation"):
            self.api.counts.add("content_filtered")
            return refused_reply(str(call.body["model"]), "content_filter")
        if 400 <= status < 500 and status not in (408, 409, 429):
            self.api.counts.add("rejected")
            return self._refused(key, call, status, str(error.get("message", "rejected")))
        self.api.counts.add("rate_limited" if status == 429 else "server_errors")
        return None

    def _refused(self, key: str, call: Call, status: int, why: str) -> Reply | str:
        """Why the server refuses this request; its reply after all if only ``n`` was refused."""
        said = f"{status}: {why}"
        if call.n > 1 and status in (400, 422):
            try:
                return self.api.one_by_one(key, call, Rejected(said))
            except Rejected as error:
                return str(error)
        return said


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@contextmanager
def _or_gone(what: str) -> Iterator[list[Any]]:
    """A list to put what was fetched into; it stays empty, with a line, if the server has it no more."""
    from openai import APIStatusError

    found: list[Any] = []
    try:
        yield found
    except APIStatusError as error:
        if error.status_code not in _GONE:
            raise
        log.warning("%s: %s", what, str(error)[:200])
