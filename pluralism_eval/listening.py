"""Does the LLM hear a message at all? A manipulation check: the same probes for every LLM, kept once measured.

The method's claim rests on an LLM whose answer moves with the message it is shown. Each probe is a question with
options, and for every option two passages: one that names it, and one that argues for it in other words. *Listening*
is mean P(option | its passage) − mean P(option | the other options' passages): 1 where the answer always follows,
0 where it never does, below 0 where it goes against the passage. The paper asks this of responses only (Figure 5).
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval import heard, ranks, readouts, requests, selecting, utilisation
from pluralism_eval.cache import digest
from pluralism_eval.data.docs import build_docs, shared_meta
from pluralism_eval.distribution import read
from pluralism_eval.errors import PluralismError
from pluralism_eval.heard import LEVELS, Heard
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.metrics.statistics import mean_interval
from pluralism_eval.presets import Preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_choice
from pluralism_eval.schema import Query, Turn
from pluralism_eval.settings import Settings
from pluralism_eval.usage import Usage
from pluralism_eval.variants import expand

RESPONSE_TOKENS = 96
"""New tokens of a response to two opposed passages."""
FILE = "listening.json"
_METHOD = "modular_pluralism"
_SERVERS = ("openai", "anthropic-completions", "gguf", "ggml", "textsynth", "watsonx_llm")
"""Beside those that lm-eval asks through its ``TemplateAPI``."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """How an LLM is asked and read: one measurement each."""

    readout: str
    """As a query has it (``letters``, ``cloze``, ...)."""
    chat: bool = False
    """Through its chat template."""
    system: str = ""
    """The system instruction."""

    @property
    def history(self) -> tuple[Turn, ...]:
        return ({"role": "system", "content": self.system},) if self.system else ()


@dataclass(frozen=True)
class _Asked:
    """Everything that a measurement depends on."""

    llm: HarnessLLM
    prompts: Prompts
    settings: Settings
    preset: Preset
    way: Way


@lru_cache(maxsize=1)
def probes() -> dict[str, list[dict[str, Any]]]:
    """``options``, ``selection`` and ``responses``: the probes that ship with the package.

    Raises:
        PluralismError: the file is missing or damaged.
    """
    try:
        loaded = json.loads((files("pluralism_eval.data") / FILE).read_text(encoding="utf-8"))
        _check(loaded)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, PluralismError) as error:
        raise PluralismError(
            f"the probes of the listening check (pluralism_eval/data/{FILE}) are damaged: {type(error).__name__}: "
            f"{error}. Install the package anew, or pass listening=false"
        ) from error
    found: dict[str, list[dict[str, Any]]] = loaded
    return found


def _check(loaded: Any) -> None:
    for probe in loaded["options"]:
        options = build_docs(probe["task"], [probe["item"]], {"preset": "paper"}, FILE)[0][
            "pluralism"
        ]["options"]
        for level in LEVELS:
            if len(probe[level]) != len(options) or not all(map(_content, probe[level])):
                raise ValueError(f"{probe['item']['id']}: a passage for each option ({level})")
    for case in loaded["selection"]:
        if not 0 <= case["fits"] < len(case["comments"]) or not case["query"] + case["attribute"]:
            raise ValueError(f"{case['query']}: fits {case['fits']}")
    for case in loaded["responses"]:
        if len(case["passages"]) != 2 or not all(map(_content, case["passages"])):
            raise ValueError(f"{case['query']}: two passages")
    if not all(loaded[name] for name in ("options", "selection", "responses")):
        raise ValueError("a kind of probe is missing")


# ---------------------------------------------------------------------- whether, and how


def unwanted(settings: Settings) -> str:
    """Why nothing is measured with these settings; empty where it is."""
    if settings.listening == "auto":
        if os.environ.get(heard.VARIABLE, "").lower() == "off":
            return f"{heard.VARIABLE}=off"
        if _is_server(settings.llm):
            return f"llm={settings.llm} is a server, where it costs some hundred requests: pass listening=true"
    return "" if settings.listening in (True, "auto") else "listening=false"


def _is_server(llm: str) -> bool:
    from lm_eval.api.registry import get_model, model_registry
    from lm_eval.models.api_models import TemplateAPI

    if llm in _SERVERS or llm not in model_registry:
        return llm in _SERVERS
    found = get_model(llm)
    return isinstance(found, type) and issubclass(found, TemplateAPI)


def way_of(
    llm: HarnessLLM, settings: Settings, resolved: str | None, queries: Sequence[Query]
) -> Way:
    """How a run that asks ``queries`` reads its options; from the LLM's words where it has no log-probabilities.

    Args:
        resolved: the readout that the settings' comes to with this LLM, where that is known.
    """
    try:
        readout = resolved or llm.resolve(settings.readout)
        readout = "letters" if readout in ("options", "harness") else readout
        if readout in readouts.FROM_LOGPROBS:
            llm.check_scoring()
    except PluralismError:  # a run of text tasks alone goes on without
        readout = "generated"
    turns = queries[0].history[:1] if queries else ()
    system = turns[0]["content"] if turns and turns[0]["role"] == "system" else ""
    return Way(readout, any(q.chat for q in queries), system)


def size(readout: str, samples: int) -> tuple[int, int]:
    """(prompts of a measurement, requests of it to a server that is asked once an option), with default settings."""
    cloze = readout == "cloze"
    replies = samples if readout == "sampled" else 1
    options = [len(probe["quoted"]) for probe in probes()["options"]]
    comments = [len(case["comments"]) for case in probes()["selection"]]
    responses = len(probes()["responses"])
    each = (1 if cloze else 2) * replies * len(LEVELS)
    by_option = readout in readouts.FROM_LOGPROBS
    prompts = sum(options) * each + (2 if cloze else 1) * len(comments) + responses
    scored = sum(n * (n if by_option else 1) for n in options) * each
    return prompts, scored + (2 * sum(comments) if cloze else len(comments)) + responses


def key_of(identity: str, prompts: Prompts, settings: Settings, preset: Preset, way: Way) -> str:
    """Of one LLM, readout and template: of everything that the figures depend on."""
    how: list[Any] = []
    if way.readout == "cloze":
        how = [settings.cloze_normalisation, settings.selection]
    elif way.readout == "sampled":
        how = [settings.readout_samples]
    own = [preset.top_tokens, preset.llm_temperature, preset.answer_parsing, preset.choice_max_tokens]  # fmt: skip
    texts = [prompts.texts[_METHOD], prompts.texts["readouts"]]
    told = [way.readout, way.chat, way.system]
    return digest(["listening", 1, probes(), identity, texts, told, how, own])


def listening(
    llm: HarnessLLM, prompts: Prompts, settings: Settings, preset: Preset, way: Way
) -> dict[str, Any]:
    """``quoted``, ``argued``, ``selection`` and ``responses`` of one LLM, readout and template; measured once and kept.

    The embedded LLM's come with the package. The processes of a launch measure together.

    Returns:
        Name → figure (see :class:`pluralism_eval.heard.Heard`), and what they are of. ``selection``: share of cases in
        which the one comment that fits the attribute was picked, 0 to 1. ``responses``: how much more of two opposed
        passages comes back in the response to them than in responses to others, as a share of their content words,
        −1 to 1. ``not_measured``: why it could not be.
    """
    asked = _Asked(llm, prompts, settings, preset, way)
    key = key_of(llm.identity, prompts, settings, preset, way)
    known = ranks.agree(heard.known([key]))
    if key in known:
        row: dict[str, Any] = known[key]
        return row
    before = replace(llm.usage)
    try:
        with utilisation.phase("listening"):
            found = _measure(asked)
    except PluralismError as error:  # a check does not end a run
        log.warning("how far %s listens was not measured: %s", llm.name, error)
        return {heard.NOT_MEASURED: str(error)}
    finally:
        used = llm.usage.since(before)
        _set(llm.usage, before)  # the run's own figures are without it
    of = {"llm": llm.identity, "readout": way.readout, "chat": way.chat, "usage": used.as_dict()}
    row = {**heard.as_row(found), **of}
    if ranks.is_first():
        heard.store().put({key: row})
    return row


def _set(usage: Usage, values: Usage) -> None:
    for f in fields(usage):
        setattr(usage, f.name, getattr(values, f.name))


def _measure(asked: _Asked) -> dict[str, Heard]:
    found = {level: _options(asked, level) for level in LEVELS}
    return {**found, "selection": _selection(asked), "responses": _responses(asked)}


# ---------------------------------------------------------------------- options


def _options(asked: _Asked, level: str) -> Heard:
    """Over both option orders, where the prompt lists the options."""
    ways, s = list(_ways(asked)), asked.settings
    queries = [query for probe, query in ways for _ in probe[level]]
    passages = [passage for probe, _ in ways for passage in probe[level]]
    sent = [
        _prompt(asked, query, "distributional", [passage], requests.reserve(query, asked.llm))
        for query, passage in zip(queries, passages, strict=True)
    ]
    alone = []
    if s.cloze_normalisation == "pmi" and asked.way.readout == "cloze":
        alone = [requests.render(q, readouts.asked(q, asked.prompts), asked.llm) for q in queries]
    scores = iter(
        readouts.option_scores(
            asked.llm, queries, sent, asked.preset, s.readout_samples, s.cloze_normalisation, alone
        )
    )
    moved: dict[str, list[float]] = {}
    for probe, query in ways:
        given = [_listed(read(next(scores).logprobs)[0], query.order) for _ in probe[level]]
        moved.setdefault(query.key, []).append(_follows(given))
    return _figure([fmean(values) for values in moved.values()])


def _ways(asked: _Asked) -> Iterator[tuple[dict[str, Any], Query]]:
    """Each probe with each order in which its options are listed."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for probe in probes()["options"]:
        by_task.setdefault(probe["task"], []).append(probe)
    for task, members in by_task.items():
        common = shared_meta(Path(FILE), asked.preset.name, None, None)
        docs = build_docs(task, [p["item"] for p in members], common, FILE)
        for n, (probe, doc) in enumerate(zip(members, docs, strict=True)):
            for way in expand(_option_query(asked, task, n, doc), 1, 1):
                yield probe, way


def _option_query(asked: _Asked, task: str, n: int, doc: Mapping[str, Any]) -> Query:
    own, readout = doc["pluralism"], asked.way.readout
    return replace(
        _text_query(asked, own["query"], n),
        key=f"{task}/{n}",
        task=task,
        source_id=doc["id"],
        mode="distributional",
        readout=readout,  # type: ignore[arg-type]  # resolved by the LLM
        options=tuple(own["letters"]),
        choices=tuple(own["options"]),
        orders=1 if readout == "cloze" else 2,  # a cloze lists no options
        generation=readouts.generation(readout, len(own["letters"]), asked.preset),
    )


def _listed(distribution: Sequence[float], order: Sequence[int]) -> list[float]:
    """By option as the probe lists it."""
    if not order:
        return list(distribution)
    listed = [0.0] * len(distribution)
    for place, option in enumerate(order):
        listed[option] = distribution[place]
    return listed


def _follows(given: Sequence[Sequence[float]]) -> float:
    """Mean over options of P(option | its passage) − mean P(option | another's).

    Args:
        given: [n_options][n_options] distributions, the first index that of the passage.
    """
    n = len(given)
    return fmean(
        given[i][i] - sum(given[j][i] for j in range(n) if j != i) / (n - 1) for i in range(n)
    )


# ---------------------------------------------------------------------- texts


def _by_likelihood(settings: Settings, way: Way) -> bool:
    return settings.selection == "likelihood" and way.readout == "cloze"


def _selection(asked: _Asked) -> Heard:
    cases, limit = probes()["selection"], asked.preset.choice_max_tokens
    queries = [
        replace(_text_query(asked, case["query"], i), attribute=case["attribute"])
        for i, case in enumerate(cases)
    ]
    if _by_likelihood(asked.settings, asked.way):
        given, alone = (
            [_prompt(asked, query, name, [], limit) for query in queries]
            for name in (selecting.REFLECT, selecting.COMMENT)
        )
        comments = [case["comments"] for case in cases]
        found, _ = selecting.gains(asked.llm, queries, given, alone, comments)
        picked = [selecting.likeliest(values) for values in found]
    else:
        sent = [
            _prompt(asked, query, "select", case["comments"], limit)
            for query, case in zip(queries, cases, strict=True)
        ]
        decoding = readouts.decoding(asked.preset.llm_temperature, limit, ["\n"])
        replies = asked.llm.generate(sent, decoding)
        picked = [parse_choice(r, len(c["comments"])) for r, c in zip(replies, cases, strict=True)]
    return _figure([float(p == c["fits"]) for p, c in zip(picked, cases, strict=True)])


def _responses(asked: _Asked) -> Heard:
    cases = probes()["responses"]
    sent = [
        _prompt(asked, _text_query(asked, c["query"], i), "overton", c["passages"], RESPONSE_TOKENS)
        for i, c in enumerate(cases)
    ]
    texts = asked.llm.generate(sent, readouts.decoding(0.0, RESPONSE_TOKENS, []))
    shares = []
    for i, case in enumerate(cases):
        back = [[_recall(passage, text) for text in texts] for passage in case["passages"]]
        own = fmean(row[i] for row in back)
        others = fmean(value for row in back for j, value in enumerate(row) if j != i)
        shares.append(own - others)
    return _figure(shares)


def _text_query(asked: _Asked, text: str, n: int) -> Query:
    return Query(
        key=f"listening/{n}",
        task="listening",
        doc_id=n,
        source_id=str(n),
        source_input="",
        mode="overton",
        readout="generation",
        text=text,
        history=asked.way.history if asked.way.chat else (),
        chat=asked.way.chat,
    )


def _recall(passage: str, text: str) -> float:
    """Share of the passage's content words that stand in ``text``; 0 to 1."""
    words = _content(passage)
    return len(words & _content(text)) / len(words)


def _content(text: str) -> set[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words: set[str] = set(re.findall(r"[a-z]{3,}", text.lower()))
    return words - set(ENGLISH_STOP_WORDS)


def _prompt(asked: _Asked, query: Query, name: str, messages: Sequence[str], reply: int) -> str:
    """As modular_pluralism shows these messages, which are lines that need no quoting.

    Raises:
        PluralismError: with ``reply`` more tokens it does not fit the LLM's window.
    """
    text = asked.prompts.render(
        _METHOD,
        name,
        query=readouts.asked(query, asked.prompts) if query.options else query.text,
        attribute=query.attribute,
        attribute_line="",
        steer_line="",
        messages=messages,
    )
    prompt, room = requests.render(query, text, asked.llm), asked.llm.max_length - reply
    plain = str(getattr(prompt, "prompt", prompt))
    if len(plain.encode()) > room and asked.llm.count_tokens(prompt) > room:
        raise PluralismError(
            f"its window of {asked.llm.max_length} tokens does not hold the probes"
        )
    return prompt


def _figure(values: Sequence[float]) -> Heard:
    low, high = mean_interval(values)
    return Heard(fmean(values), low, high, len(values))
