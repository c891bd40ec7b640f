"""One doc as a sample of an Inspect log: conversation, community messages as events, scores with reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pluralism_eval.cache import digest
from pluralism_eval.exports.facts import Facts
from pluralism_eval.exports.items import Item, shares

if TYPE_CHECKING:
    from inspect_ai.event import Event
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessage, ModelOutput
    from inspect_ai.scorer import Score

_ID = 22
"""Characters of an identifier, as many as Inspect's own have."""


@dataclass(frozen=True)
class Stamp:
    """Identities and the time of one log: from its content, so that they come again."""

    seed: str
    date: datetime

    def id(self, *parts: Any) -> str:
        """22 hexadecimal digits."""
        return digest([self.seed, *parts])[:_ID]

    def event(self, *parts: Any) -> dict[str, Any]:
        """What every event has."""
        return {"uuid": self.id("event", *parts), "timestamp": self.date, "working_start": 0.0}


def sample_of(facts: Facts, task: str, item: Item, stamp: Stamp) -> EvalSample:
    """``item`` as Inspect has it. ``input`` is the task's query; what each model was sent is in ``messages``
    and ``events``."""
    from inspect_ai.log import EvalSample

    output = _output(facts, item, item.answer, _said(item), stamp.id("output", item.doc_id))
    messages, events = _trace(facts, item, stamp, output)
    return EvalSample(
        id=item.name,
        epoch=1,
        input=item.query,
        choices=item.choices or None,
        target=item.target[0] if len(item.target) == 1 else item.target,
        messages=messages,
        output=output,
        scores=_scores(item),
        metadata=_metadata(item),
        events=events,
        started_at=None,
        uuid=stamp.id("sample", item.doc_id),
        turn_count=len(item.sent),
    )


def _said(item: Item) -> str:
    """The answer in words: of options, their probabilities."""
    return item.answer if not item.letters else f"{item.answer}\n\n{_reading(item)}"


def _reading(item: Item) -> str:
    mass = "" if item.option_mass is None else f" (option mass {item.option_mass:.3g})"
    return f"Probabilities: {shares(item.letters, item.probabilities)}{mass}"


def _output(facts: Facts, item: Item, completion: str, text: str, ident: str) -> ModelOutput:
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput

    message = ChatMessageAssistant(id=ident, content=text, model=facts.model, source="generate")
    return ModelOutput(
        model=facts.model,
        choices=[ChatCompletionChoice(message=message, stop_reason="unknown")],
        completion=completion,
    )


def _trace(
    facts: Facts, item: Item, stamp: Stamp, output: ModelOutput
) -> tuple[list[ChatMessage], list[Event]]:
    """(what the LLM saw and said, in order; the same with the communities' messages as events)."""
    from inspect_ai.event import InfoEvent, ModelEvent
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    chat: list[ChatMessage] = []
    events: list[Event] = [
        InfoEvent(
            source=f"community LM: {message.get('community')}",
            data=str(message.get("text", "")),
            metadata=_details(message),
            **stamp.event(item.doc_id, "message", i),
        )
        for i, message in enumerate(item.messages)
    ]
    picks = iter(item.selections)
    for i, sent in enumerate(item.sent):
        prompt = str(sent.get("prompt", ""))
        asked = ChatMessageUser(
            id=stamp.id("asked", item.doc_id, i), content=prompt, source="input"
        )
        reply, ident = _reply(sent, item, picks), stamp.id("reply", item.doc_id, i)
        last = i == len(item.sent) - 1 and not item.letters
        said = output if last else _output(facts, item, reply, reply, ident)
        chat += [asked, said.message]
        events.append(
            ModelEvent(
                model=facts.model, role=str(sent.get("round", "respond")), input=[asked], tools=[],
                tool_choice="none", config=GenerateConfig(), output=said, error=sent.get("refused") or None,
                **stamp.event(item.doc_id, "sent", i),
            )
        )  # fmt: skip
    return chat, events


def _details(message: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in message.items() if k not in ("community", "text") and v != ""}


def _reply(sent: dict[str, Any], item: Item, picks: Any) -> str:
    """What came back for one prompt: a choice of a community, readings of the options, or the response."""
    if sent.get("round") == "select":
        return str((next(picks, None) or {}).get("raw", ""))
    scores = sent.get("scores")
    if scores:
        if scores.get("replies"):
            return "\n".join(map(str, scores["replies"]))
        values = [math.exp(float(v)) for v in scores["logprobs"]]
        return f"Probabilities: {shares(item.letters, values)}"
    return _said(item)


def _scores(item: Item) -> dict[str, Score]:
    from inspect_ai.scorer import Score

    found = {}
    for i, (name, value) in enumerate(item.scores.items()):
        reasons = item.explanation if i == 0 else None
        found[name] = Score(
            value=value, answer=item.answer if i == 0 else None, explanation=reasons
        )
    return found


def _metadata(item: Item) -> dict[str, Any]:
    people: dict[str, list[str]] = {}
    for message in item.messages:
        people.setdefault(str(message.get("community")), []).append(str(message.get("text", "")))
    found = {
        "doc_id": item.doc_id,
        "source_id": item.source_id,
        "attribute": item.attribute,
        "selected": [s.get("community") for s in item.selections],
        "community_messages": people,
        "probabilities": dict(zip(item.letters, item.probabilities, strict=True)),
        "option_mass": item.option_mass,
        "target_distribution": dict(zip(item.letters, item.gold, strict=True)) if item.gold else {},
        "explanations": [{"value": v, "text": t, "covered": c} for v, t, c in item.covered],
    }
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}
