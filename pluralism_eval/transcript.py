"""What was sent and said: one JSON line a doc, and the rates of everything irregular in it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval import ranks
from pluralism_eval.cache import cache_root
from pluralism_eval.distribution import ABOVE_0, modes, read
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import saving
from pluralism_eval.schema import Answer, Query
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

    def write(self, query: Query, answer: Answer) -> None:
        """One line for an answered query."""
        entry: dict[str, Any] = {
            "task": query.task,
            "doc_id": query.doc_id,
            "id": query.source_id,
            "mode": query.mode,
            "readout": query.readout,
            "query": query.text,
            "attribute": query.attribute,
            "messages": [asdict(m) for m in answer.messages],
            "selections": [asdict(s) for s in answer.selections],
            "sent": [asdict(s) for s in answer.sent],
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
                "lower": list(answer.lower),
                "samples": answer.samples,
            }
            if query.orders > 1 and not answer.skipped:
                entry["orders_missing"] = len({r.order for r in answer.readings}) < 2
            if answer.readings:
                readings = [asdict(r) for r in answer.readings]
                entry |= {"readings": readings, "spread": spreads(readings)}
        self._append(entry)

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
        self._append(
            entry
            | {
                "sent": [
                    {"round": "respond", "prompt": prompt, "refused": refused, "overlong": overlong}
                ],
                "response": response,
            }
        )

    def _append(self, entry: dict[str, Any]) -> None:
        if not ranks.is_first():
            return  # every process of a launch knows all answers
        with saving(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """All lines, by task and doc."""
        lines = self.path.read_bytes().split(b"\n")  # U+2028 in a text ends no line
        entries = [json.loads(line) for line in dict.fromkeys(lines) if line]
        entries.sort(
            key=lambda e: (
                str(e["task"]),
                e["doc_id"] if e["doc_id"] is not None else -1,
                e.get("idx", 0),
            )
        )
        return entries

    def rates(self) -> dict[str, dict[str, float]]:
        """Per task: counts, and the rates of what was irregular. See :func:`rates`."""
        return rates(self.entries())


def rates(entries: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Task → {docs, prompts, messages, shares in [0, 1] of the irregular, mean option mass, spreads
    between option orders, templates and message samples}."""
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        by_task[str(entry["task"])].append(entry)
    try:
        return {task: _task_rates(part) for task, part in by_task.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PluralismError(
            f"a line of the transcript is damaged or was changed ({type(error).__name__}: {error})"
        ) from error


def _task_rates(entries: list[dict[str, Any]]) -> dict[str, float]:
    messages = [m for e in entries for m in e.get("messages", [])]
    sent = [s for e in entries for s in e["sent"]]
    answers = [(e["distribution"], e["option_mass"]) for e in entries if "distribution" in e]
    found: dict[str, float] = {
        "docs": len({e["doc_id"] for e in entries}),
        "prompts": len(sent),
        "messages": len(messages),
        "messages_generated": sum(not m["reused"] for m in messages),
    }
    shares = {
        "empty_messages": [not m["text"] for m in messages],
        "refused_messages": [bool(m["refused"]) for m in messages if "refused" in m],
        "imported_messages": [m.get("imported", False) for m in messages],
        "resampled_messages": [m["attempts"] > 1 for m in messages],
        "messages_cut_at_length_limit": [not m["stopped"] for m in messages],
        "prompts_with_passages_cut": [s.get("tokens_cut", 0) > 0 for s in sent] if messages else [],
        "prompts_with_broken_tokens": [bool(s.get("broken")) for s in sent] if messages else [],
        "prompts_cut_by_the_model": [s["overlong"] for s in sent if "overlong" in s],
        "skipped_docs": [bool(e["skipped"]) for e in entries if "skipped" in e],
        "selection_fallbacks": [s["fallback"] for e in entries for s in e.get("selections", [])],
        "uniform_fallbacks": [s["scores"]["uniform_fallback"] for s in sent if s.get("scores")],
        "refused_prompts": [bool(s["refused"]) for s in sent if "refused" in s],
        "hidden_probability": [1 - sum(e["lower"]) for e in entries if e.get("lower")],
        "tied_answers": [len(modes(d)) > 1 for d, mass in answers if mass > 0],
        "masses_above_1": [mass > math.exp(ABOVE_0) for _, mass in answers],
        "docs_without_other_orders": [
            e["orders_missing"] for e in entries if "orders_missing" in e
        ],
        "empty_responses": [
            not str(e["response"]).strip() for e in entries if e.get("readout") == "generation"
        ],
    }
    found |= {name: fmean(map(float, values)) for name, values in shares.items() if values}
    replies = sum(len((s.get("scores") or {}).get("replies", ())) for s in sent)
    if replies:
        unread = sum(s["scores"]["unread"] for s in sent if s.get("scores"))
        found |= {"replies": replies, "unread_replies": unread / replies}
    for factor in FACTORS:
        moved = [e["spread"][factor] for e in entries if factor in e.get("spread", {})]
        if moved:
            found[f"{factor}_spread"] = fmean(moved)
    masses = [e["option_mass"] for e in entries if "option_mass" in e]
    if masses:
        found |= {"mean_option_mass": fmean(masses), "min_option_mass": min(masses)}
    return found


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
