"""What was sent and said: one JSON line a doc, and the rates of everything irregular in it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval import ranks
from pluralism_eval.cache import cache_root
from pluralism_eval.distribution import ABOVE_0, modes, read
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import saving
from pluralism_eval.schema import Answer, Query, fields_of
from pluralism_eval.variants import FACTORS, spreads


class Transcript:
    """Appends to ``path`` while the run goes on, so that an interrupted run leaves what it did."""

    def __init__(self, method: str, path: str | None) -> None:
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
        self.path = Path(path) if path else output_folder() / f"transcript_{method}_{stamp}.jsonl"
        if not ranks.is_first():
            return
        with saving(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("", encoding="utf-8")

    def write(self, answered: Iterable[tuple[Query, Answer]]) -> None:
        """One line for each answered query."""
        self._append(_entry(query, answer) for query, answer in answered)

    def write_direct(
        self, request: Any, prompt: str, response: Any, refused: str = "", overlong: bool = False
    ) -> None:
        """One line for a request that went to the inner model as it was.

        Args:
            overlong: it exceeds the window, so that the model's own code cut its beginning.
        """
        entry = {
            "task": request.task_name,
            "doc_id": request.doc_id,
            "idx": request.idx,
            "readout": "harness",
        }
        sent = {"round": "respond", "prompt": prompt, "refused": refused, "overlong": overlong}
        self._append([{**entry, "sent": [sent], "response": response}])

    def _append(self, entries: Iterable[dict[str, Any]]) -> None:
        if not ranks.is_first():
            return  # every process of a launch knows all answers
        with saving(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(map(_as_line, entries))

    def entries(self) -> Iterator[dict[str, Any]]:
        """Its lines, one at a time: together they may be larger than the memory. Repeated ones once."""
        seen = set()
        with self.path.open("rb") as file:
            for line in file:  # U+2028 in a text ends no line
                key = blake2b(line, digest_size=16).digest()
                if line.strip() and key not in seen:
                    seen.add(key)
                    yield json.loads(line)

    def rates(self) -> dict[str, dict[str, float]]:
        """Per task: counts, and the rates of what was irregular. See :func:`rates`."""
        return dict(sorted(rates(self.entries()).items()))


def _entry(query: Query, answer: Answer) -> dict[str, Any]:
    """The line of an answered query."""
    entry: dict[str, Any] = {
        "task": query.task,
        "doc_id": query.doc_id,
        "id": query.source_id,
        "mode": query.mode,
        "readout": query.readout,
        "query": query.text,
        "attribute": query.attribute,
        "messages": answer.messages,
        "selections": answer.selections,
        "sent": answer.sent,
        "skipped": answer.skipped,
    }
    if query.readout == "generation":
        entry["response"] = answer.text
    else:
        distribution, mass = read(answer.logprobs)
        entry |= {
            "options": list(query.options),
            "distribution": distribution,
            "option_mass": mass,
            "unread": mass == 0 and not answer.skipped,
            "lower": list(answer.lower),
            "samples": answer.samples,
        }
        if query.orders > 1 and not answer.skipped:
            entry["orders_missing"] = len({r.order for r in answer.readings}) < 2
        if answer.readings:
            readings = [fields_of(r) for r in answer.readings]
            entry |= {"readings": readings, "spread": spreads(readings)}
    return entry


def _as_line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    return fields_of(value) if is_dataclass(value) else str(value)


def rates(entries: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Task → {docs, prompts, messages, shares in [0, 1] of the irregular, mean option mass, spreads
    between option orders, templates and message samples}."""
    by_task: dict[str, _Tally] = defaultdict(_Tally)
    try:
        for entry in entries:
            by_task[str(entry["task"])].add(entry)
        return {task: tally.rates() for task, tally in by_task.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PluralismError(
            f"a line of the transcript is damaged or was changed ({type(error).__name__}: {error})"
        ) from error


class _Tally:
    """What the rates of a task are made of; the texts are not kept."""

    def __init__(self) -> None:
        self.docs: set[Any] = set()
        self.counts: Counter[str] = Counter(prompts=0, messages=0, messages_generated=0)
        self.shares: dict[str, list[float]] = defaultdict(list)
        self.replies = self.unread = 0
        self.spreads: dict[str, list[float]] = defaultdict(list)
        self.masses: list[float] = []

    def add(self, entry: dict[str, Any]) -> None:
        messages, sent = entry.get("messages", []), entry["sent"]
        self.docs.add(entry["doc_id"])
        self.counts["prompts"] += len(sent)
        self.counts["messages"] += len(messages)
        self.counts["messages_generated"] += sum(not m["reused"] for m in messages)
        for name, values in _irregular(entry, messages, sent).items():
            self.shares[name] += map(float, values)
        scored = [s["scores"] for s in sent if s.get("scores")]
        self.replies += sum(len(scores.get("replies", ())) for scores in scored)
        self.unread += sum(s.get("unread", 0) for s in scored if s.get("replies"))
        for factor in FACTORS:
            if factor in entry.get("spread", {}):
                self.spreads[factor].append(entry["spread"][factor])
        if "option_mass" in entry:
            self.masses.append(entry["option_mass"])

    def rates(self) -> dict[str, float]:
        found: dict[str, float] = {"docs": len(self.docs), **self.counts}
        if not self.counts["messages"]:
            for name in ("prompts_with_passages_cut", "prompts_with_broken_tokens"):
                self.shares.pop(name)
        found |= {name: fmean(values) for name, values in self.shares.items() if values}
        if self.replies:
            found |= {"replies": self.replies, "unread_replies": self.unread / self.replies}
        for factor in FACTORS:
            if self.spreads[factor]:
                found[f"{factor}_spread"] = fmean(self.spreads[factor])
        if self.masses:
            found |= {"mean_option_mass": fmean(self.masses), "min_option_mass": min(self.masses)}
        return found


def _irregular(
    entry: dict[str, Any], messages: list[dict[str, Any]], sent: list[dict[str, Any]]
) -> dict[str, list[bool | float]]:
    """Rate → whether each message, prompt or answer of a line counts for it."""
    answers = [(entry["distribution"], entry["option_mass"])] if "distribution" in entry else []
    return {
        "empty_messages": [not m["text"] for m in messages],
        "refused_messages": [bool(m["refused"]) for m in messages if "refused" in m],
        "imported_messages": [m.get("imported", False) for m in messages],
        "resampled_messages": [m["attempts"] > 1 for m in messages],
        "messages_cut_at_length_limit": [not m["stopped"] for m in messages],
        "prompts_with_passages_cut": [s.get("tokens_cut", 0) > 0 for s in sent],
        "prompts_with_broken_tokens": [bool(s.get("broken")) for s in sent],
        "prompts_cut_by_the_model": [s["overlong"] for s in sent if "overlong" in s],
        "skipped_docs": [bool(entry["skipped"])] if "skipped" in entry else [],
        "selection_fallbacks": [s["fallback"] for s in entry.get("selections", [])],
        "unread_answers": _unread(entry, sent),
        "uniform_fallbacks": [s["scores"]["uniform_fallback"] for s in sent if s.get("scores")],
        "refused_prompts": [bool(s["refused"]) for s in sent if "refused" in s],
        "hidden_probability": [1 - sum(entry["lower"])] if entry.get("lower") else [],
        "tied_answers": [len(modes(d)) > 1 for d, mass in answers if mass > 0],
        "masses_above_1": [mass > math.exp(ABOVE_0) for _, mass in answers],
        "docs_without_other_orders": [entry["orders_missing"]] if "orders_missing" in entry else [],
        "empty_responses": [  # of the inner model itself as well; what is no text are scores
            not text.strip() for text in [entry.get("response")] if isinstance(text, str)
        ],
    }


def _unread(entry: dict[str, Any], sent: list[dict[str, Any]]) -> list[bool | float]:
    """Whether each reading of options saw none of them, whatever the readout."""
    response = entry.get("response")
    if entry["readout"] == "harness":  # lm-eval's own (log-likelihood, is greedy)
        return [] if isinstance(response, str) or not response else [response[0] == -math.inf]
    scores = [s["scores"] for s in sent if s.get("scores")]
    return [read(own["logprobs"])[1] == 0 for own in scores if own.get("logprobs")]


def output_folder() -> Path:
    """Where lm-eval was told to write (it does not tell the model), else our cache folder."""
    arguments = sys.argv[1:]
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in ("--output_path", "-o"):
            given = value or (arguments[i + 1] if i + 1 < len(arguments) else "")
            if given:
                return Path(given).parent if given.endswith(".json") else Path(given)
    return cache_root() / "transcripts"
