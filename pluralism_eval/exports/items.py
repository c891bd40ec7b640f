"""One answered doc as other tools see it: what was asked, sent, said, answered and scored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pluralism_eval.distribution import read
from pluralism_eval.errors import PluralismError
from pluralism_eval.exports.facts import Facts, cleaned
from pluralism_eval.report.page.entailed import verdict_of
from pluralism_eval.tasks import by_name


@dataclass(frozen=True)
class Item:
    """One doc. All text is free of lone surrogates and NUL."""

    doc_id: int
    """Place in the input."""
    source_id: str
    """Identity in the source."""
    name: str
    """``source_id``, with ``doc_id`` where several docs share it: unique in the task."""
    query: str
    attribute: str
    choices: list[str]
    """[n_options]; empty for text."""
    letters: list[str]
    target: list[str]
    """The right or likeliest letter, or every explanation that a response should cover."""
    gold: list[float]
    """[n_options] people's answers; empty where there are none."""
    probabilities: list[float]
    """[n_options] of the answer; empty for text."""
    option_mass: float | None
    answer: str
    """The response, or the likeliest letter."""
    covered: list[tuple[str, str, bool]]
    """(value, explanation, covered) of the first scorer; empty where none is known."""
    scorer: str
    messages: list[dict[str, Any]]
    selections: list[dict[str, Any]]
    sent: list[dict[str, Any]]
    """Prompts in order, as the transcript has them; from the samples where there is none."""
    scores: dict[str, float]
    """Score → the doc's own number; the headline first. Finite only."""
    correct: bool
    """See :attr:`pluralism_eval.tasks.task.Task.correct`."""

    @property
    def explanation(self) -> str:
        """Why it scored so: who was selected, what is covered, how the answer differs from people's."""
        lines = [
            f"Selected community: {s['community']}"
            + (
                " (a random one: the LLM named none)"
                if s.get("fallback")
                else f" (the LLM said {s.get('raw', '')!r})"
            )
            for s in self.selections
        ]
        if self.covered:
            n = sum(flag for *_, flag in self.covered)
            lines.append(f"{n} of {len(self.covered)} explanations are covered ({self.scorer}):")
            lines += [
                f"{'✓' if flag else '✗'} {value}: {text}" for value, text, flag in self.covered
            ]
        if self.probabilities:
            lines.append(f"Answer: {shares(self.letters, self.probabilities)}")
        if self.gold:
            lines.append(f"Target: {shares(self.letters, self.gold)}")
        elif self.letters:
            lines.append(f"Right answer: {', '.join(self.target)}")
        return "\n".join(lines)


def shares(letters: list[str], values: list[float]) -> str:
    """``A 0.736, B 0.264``."""
    return ", ".join(f"{letter} {value:.3f}" for letter, value in zip(letters, values, strict=True))


def items_of(facts: Facts, task: str) -> list[Item]:
    """[n_docs] of ``task``, in doc order."""
    samples = facts.run.samples_of(task)
    lines: dict[int, Mapping[str, Any]] = {}
    for line in facts.run.transcript:
        if line.get("task") == task and line.get("doc_id") is not None:
            lines.setdefault(int(line["doc_id"]), line)
    ids = Counter(str(sample["doc"].get("id", sample["doc_id"])) for sample in samples)
    return [
        _item(facts, task, cleaned(sample), cleaned(lines.get(int(sample["doc_id"]), {})), ids)
        for sample in samples
    ]


def _item(
    facts: Facts,
    task: str,
    sample: dict[str, Any],
    line: Mapping[str, Any],
    ids: Mapping[str, int],
) -> Item:
    doc, doc_id = sample["doc"], int(sample["doc_id"])
    source = str(doc.get("id", doc_id))
    letters = [str(letter) for letter in doc.get("letters", [])]
    probabilities, mass = _answer(sample) if letters else ([], None)
    text = str(line.get("response", _first(sample["resps"])))
    scores = _scores(facts, task, sample)
    return Item(
        doc_id, source, source if ids[source] == 1 else f"{source} (doc {doc_id})", str(doc["query"]),
        str(doc.get("pluralism", {}).get("attribute") or ""),
        [str(option) for option in doc.get("options", [])], letters,
        [letters[int(doc["target"])]] if letters else [str(e) for e in doc.get("explanations", [])],
        [float(p) for p in doc.get("gold", [])], probabilities, mass,
        letters[max(range(len(letters)), key=probabilities.__getitem__)] if letters else text,
        *_covered(sample, doc), [dict(m) for m in line.get("messages", [])],
        [dict(s) for s in line.get("selections", [])],
        [dict(s) for s in line.get("sent", [])] or _logged(sample), scores, by_name(task).correct(sample),
    )  # fmt: skip


def _answer(sample: Mapping[str, Any]) -> tuple[list[float], float | None]:
    return read([float(_first(resp)[0]) for resp in sample["resps"]])


def _first(value: Any) -> Any:
    """Through lm-eval's lists of repeats."""
    while isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        value = value[0]
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _logged(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The prompt as lm-eval handed it to the model: one, options share it."""
    arguments = sample.get("arguments") or {}
    first = next(iter(arguments.values()), {}) if isinstance(arguments, Mapping) else arguments[0]
    prompt = first.get("arg_0") if isinstance(first, Mapping) else first[0]
    return [{"round": "respond", "prompt": str(prompt)}] if prompt is not None else []


def _covered(
    sample: Mapping[str, Any], doc: Mapping[str, Any]
) -> tuple[list[tuple[str, str, bool]], str]:
    if "explanations" not in doc:
        return [], ""
    try:
        first = verdict_of(sample)["scorers"][0]
        rows = zip(doc["values"], doc["explanations"], first["covered"], strict=True)
        return [(str(v), str(e), bool(c)) for v, e, c in rows], str(first["nli"])
    except (PluralismError, KeyError, IndexError, ValueError):
        return [], ""  # samples of an older lm-eval: the score is known, its reasons are not


def _scores(facts: Facts, task: str, sample: Mapping[str, Any]) -> dict[str, float]:
    found = {c.metric: c.number(sample) for c in facts.headlines(task) if c.number is not None}
    for summary in facts.scores[task]:
        value = sample.get(summary.name)
        if not summary.baseline and isinstance(value, (int, float)):
            found.setdefault(summary.name, float(value))
    return {name: value for name, value in found.items() if math.isfinite(value)}
