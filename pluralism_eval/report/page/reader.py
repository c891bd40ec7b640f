"""One example as the page shows it: messages, answers, prompts, and what was irregular."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralism_eval.distribution import read
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.mixtures import mixtures
from pluralism_eval.passages import delimited, markers
from pluralism_eval.report.page.entailed import TASK, Entailed, verdict_of
from pluralism_eval.report.page.examples import Example, measure, query_of
from pluralism_eval.report.page.packing import Texts
from pluralism_eval.results import Run
from pluralism_eval.tasks import headlines

_SPECIAL = markers()
Verdicts = Mapping[str, Mapping[str, Mapping[int, Entailed]]]
"""Label → task → doc_id → what is entailed."""
HIDDEN = 0.01
"""Hidden probability from which an answer counts as irregular."""
KINDS = (
    "empty message",
    "message cut at its length limit",
    "message refused",
    "message sampled again",
    "message imported",
    "passage cut to fit the LLM",
    "selection not readable",
    "prompt refused",
    "no option read, all scored alike",
    "reply not readable",
    "more than 1 % of probability hidden",
    "other option order missing",
    "empty response",
    "special token in a message broken",
    "prompt cut by the model",
    "skipped: prompt too long",
)
"""What can be irregular about an example."""
_MESSAGE_KINDS = 5  # the first ones are about messages


class Reader:
    """Turns examples into what the page shows."""

    def __init__(self, runs: Mapping[str, Run], verdicts: Verdicts) -> None:
        self.labels, self.runs, self.verdicts = list(runs), list(runs.values()), verdicts
        self.communities = _communities(self.runs)
        self._number = {name: i for i, name in enumerate(self.communities)}
        self._shares = [_shares(run) for run in self.runs]
        self.texts_cut = 0

    def read(self, example: Example) -> tuple[dict[str, Any], dict[str, Any]]:
        """(its line in the index, its details); the field names are those of ``page.js``."""
        texts = Texts(query_of(example))
        messages = self._messages(example, texts)
        said = {
            m["text"]
            for lines in example.lines.values()
            for line in lines
            for m in line.get("messages", [])
        }
        shown = {text: delimited(text, _SPECIAL)[0] for text in said}
        known = sorted({*said, *shown.values(), query_of(example)}, key=len, reverse=True)
        answers = [self._answer(example, number, texts, known) for number in example.samples]
        for message, text in messages:
            if shown[text] != text and (place := texts.place(shown[text])) is not None:
                message["shown"] = place
        doc = example.doc
        irregular = {k for m, _ in messages for k in m["kinds"]} | {
            k for a in answers for k in a["kinds"]
        }
        detail = {
            "id": str(doc.get("id", example.doc_id)),
            "options": [texts.ref(str(o)) for o in doc.get("options") or []],
            "letters": list(doc.get("letters") or []),
            "gold": _rounded(doc["gold"]) if isinstance(doc.get("gold"), list) else None,
            "target": doc["target"] if isinstance(doc.get("target"), int) else None,
            "respondents": doc.get("respondents") or 0,
            "values": [texts.ref(str(v)) for v in doc.get("values") or []],
            "explanations": [texts.ref(str(e)) for e in doc.get("explanations") or []],
            "messages": [message for message, _ in messages],
            "answers": answers,
            "texts": texts.kept[1:],
        }
        line = {
            "measure": measure(example.task, [(a.get("score"), a.get("exact")) for a in answers]),
            "differ": len({a["top"] for a in answers if a.get("top") is not None}) > 1,
            "kinds": sorted(irregular),
            "selected": sorted({c for a in answers for c, *_ in a.get("selections", []) if c >= 0}),
            "odd": sorted({m["community"] for m, _ in messages if m["kinds"]}),
            "entails": sorted({c for a in answers for s in a.get("entailed", {}).get("by", []) for c in s}),
        }  # fmt: skip
        for answer in answers:
            answer.pop("exact", None)
        self.texts_cut += texts.cut
        return line, detail

    def _messages(self, example: Example, texts: Texts) -> list[tuple[dict[str, Any], str]]:
        """Distinct messages, and which runs have them; each with its text."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for number, lines in example.lines.items():
            for line in lines:
                messages = line.get("messages", [])
                ways = max(len(line.get("readings") or ()), 1)
                each = max(len(messages) // ways, 1)
                for place, message in enumerate(messages):
                    kinds = _message_kinds(message)
                    community = self._number[message["community"]]
                    way = place // each if ways > 1 else -1
                    key = (community, way, message["text"], *kinds)
                    entry = found.setdefault(key, {
                        "community": community, "way": way, "text": texts.ref(message["text"]), "kinds": kinds,
                        "tokens": message.get("n_tokens"), "runs": [],
                    })  # fmt: skip
                    if number not in entry["runs"]:
                        entry["runs"].append(number)
        return [(found[key], key[2]) for key in sorted(found, key=lambda key: key[:2])]

    def _answer(
        self, example: Example, number: int, texts: Texts, known: Sequence[str]
    ) -> dict[str, Any]:
        """What one run made of it."""
        sample, lines = example.samples[number], example.lines.get(number, [])
        sent = [s for line in lines for s in line["sent"]]
        answer: dict[str, Any] = {"run": number, "score": _score(example.task, sample)}
        if example.task == TASK:
            self._coverage(example, number, sample, answer, texts)
        elif _option_logprobs(sample):
            self._distribution(number, sample, lines, answer)
        else:
            response = sample["resps"][0][0] if sample.get("resps") else ""
            answer["response"] = texts.ref(str(response))
        selections = [s for line in lines for s in line.get("selections", [])]
        answer["selections"] = [
            [self._number.get(s["community"], -1), texts.ref(s["raw"]), int(s["fallback"])] for s in selections
        ]  # fmt: skip
        answer["sent"] = [self._sent(s, texts, known) for s in sent]
        answer["kinds"] = _answer_kinds(answer, sent, selections, lines, texts)
        return answer

    def _sent(self, sent: Mapping[str, Any], texts: Texts, known: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "round": sent["round"],
            "prompt": texts.pieces(sent["prompt"], known),
        }
        scores = sent.get("scores") or {}
        optional = {
            "cut": sent.get("tokens_cut"),
            "cuts": [
                [self._number.get(name, -1), n] for name, n in (sent.get("cuts") or {}).items()
            ],
            "broken": sum((sent.get("broken") or {}).values()),
            "overlong": int(sent.get("overlong", False)),
            "refused": sent.get("refused"),
            "uniform": int(scores.get("uniform_fallback", False)),
            "replies": [texts.ref(str(reply)) for reply in scores.get("replies", ())],
            "unread": scores.get("unread"),
        }
        return found | {name: value for name, value in optional.items() if value}

    def _coverage(
        self, example: Example, number: int, sample: Mapping[str, Any], answer: dict[str, Any], texts: Texts
    ) -> None:  # fmt: skip
        verdict = verdict_of(sample)
        answer["response"] = texts.ref(verdict["response"])
        answer["coverage"] = [
            {
                "scorer": s["nli"],
                "accuracy": round(s["nli_check"][0], 3),
                "covered": [int(c) for c in s["covered"]],
                "entailment": _rounded(s["entailment"]),
            }
            for s in verdict["scorers"]
        ]
        found = self.verdicts.get(self.labels[number], {}).get(TASK, {}).get(example.doc_id)
        if found is not None:
            numbers = [self._number[name] for name in found.communities]
            answer["entailed"] = {
                "scorer": found.scorer,
                "messages": bool(found.communities),
                "sentences": [texts.ref(sentence) for sentence in found.sentences],
                "values": [[i for i, yes in enumerate(row) if yes] for row in found.covers],
                "by": [
                    [c for c, row in zip(numbers, found.by_message, strict=True) if row[i]]
                    for i in range(len(found.sentences))
                ],
                "unread": found.unread,
            }

    def _distribution(
        self, number: int, sample: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], answer: dict[str, Any]
    ) -> None:  # fmt: skip
        exact, mass = read(_option_logprobs(sample))
        answer |= {
            "exact": exact,
            "distribution": _rounded(exact),
            "mass": _number(mass),
            "top": int(np.argmax(exact)) if mass > 0 else None,
        }
        line = lines[0] if lines else {}
        if line.get("lower"):
            answer["hidden"] = _number(1 - sum(line["lower"]))
        if len(line.get("readings") or ()) > 1:
            answer["readings"] = [
                {"order": r["order"], "template": r["template"], "sample": r["sample"],
                 "distribution": _rounded(r["distribution"]), "mass": _number(r["mass"])}
                for r in line["readings"]
            ]  # fmt: skip
        if line.get("mode") == "distributional" and self._shares[number]:
            answer["shares"] = self._own(line, number)

    def _own(self, line: Mapping[str, Any], number: int) -> list[list[Any]]:
        """What the LLM answered given each community's message alone; [] where it cannot be read."""
        names, weights = zip(*self._shares[number], strict=True)
        try:
            mixed = mixtures([line], names, weights)
        except PluralismError:
            return []
        alone = mixed.answers(np.eye(len(names), dtype=bool))[:, 0]
        return [
            [self._number[name], _rounded(alone[i]) if mixed.read[i, 0].any() else None]
            for i, name in enumerate(names)
        ]


def _score(task: str, sample: Mapping[str, Any]) -> float | None:
    for column in headlines():
        if column.task == task and column.number is not None:
            return _number(column.number(sample))
    return None


def _option_logprobs(sample: Mapping[str, Any]) -> list[float]:
    """[n_options] as lm-eval logged them; [] for answers in words."""
    try:
        return [
            float(response[0][0]) for response in sample["resps"] if isinstance(response[0], list)
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        return []


def _shares(run: Run) -> list[tuple[str, float]]:
    """(community, prior) of a run that mixes; [] for others."""
    if run.ours.get("method") != "modular_pluralism" or not run.ours.get("weights"):
        return []
    names = [str(entry["name"]) for entry in run.ours["communities"]]
    return list(zip(names, run.ours["weights"], strict=True))


def _communities(runs: Sequence[Run]) -> list[str]:
    """All names: pools in their order, then whoever else spoke in a transcript."""
    named = (str(entry["name"]) for run in runs for entry in run.ours.get("communities") or [])
    lines = (line for run in runs for line in run.transcript)
    spoke = (str(m["community"]) for line in lines for m in line.get("messages", []))
    return list(dict.fromkeys([*named, *spoke]))


def _message_kinds(message: Mapping[str, Any]) -> list[int]:
    flags = (
        not message["text"].strip(),
        not message["stopped"],
        bool(message.get("refused")),
        message["attempts"] > 1,
        message.get("imported", False),
    )
    return [i for i, flag in enumerate(flags) if flag]


def _answer_kinds(
    answer: Mapping[str, Any], sent: Sequence[Mapping[str, Any]], selections: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]], texts: Texts,
) -> list[int]:  # fmt: skip
    scores = [s["scores"] for s in sent if s.get("scores")]
    response = answer.get("response")
    flags = (
        any(s.get("tokens_cut", 0) > 0 for s in sent),
        any(s["fallback"] for s in selections),
        any(s.get("refused") for s in sent),
        any(s["uniform_fallback"] for s in scores),
        any(s.get("unread") for s in scores) or any(line.get("unread") for line in lines),
        (answer.get("hidden") or 0) > HIDDEN,
        any(line.get("orders_missing") for line in lines),
        response is not None and not str(texts.kept[response]).strip(),
        any(s.get("broken") for s in sent),
        any(s.get("overlong") for s in sent),
        any(line.get("skipped") for line in lines),
    )
    return [i for i, flag in enumerate(flags, start=_MESSAGE_KINDS) if flag]


def _number(value: float) -> float | None:
    """As tables print it, to three places; None for NaN."""
    value = float(value)
    return round(value, 3) if math.isfinite(value) else None


def _rounded(values: Sequence[float] | np.ndarray) -> list[float | None]:
    return [_number(value) for value in values]
