"""Does the LLM hear a message at all? A manipulation check: the same probes for every LLM, kept once measured.

The method's claim rests on an LLM whose answer moves with the message it is shown. Each probe is a question with
options, and for every option two passages: one that names it, and one that argues for it in other words. *Listening*
is mean P(option | its passage) − mean P(option | the other options' passages): 1 where the answer always follows,
0 where it never does, below 0 where it goes against the passage. The paper asks this of responses only (Figure 5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from pluralism_eval import readouts, requests
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.data.docs import build_docs, shared_meta
from pluralism_eval.distribution import read
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.metrics.statistics import mean_interval
from pluralism_eval.presets import Preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_choice
from pluralism_eval.schema import Query
from pluralism_eval.settings import Settings
from pluralism_eval.variants import expand

HARDLY = 0.1
"""Below it, differences between methods mean little."""
RESPONSE_TOKENS = 96
"""New tokens of a response to two opposed passages."""
LEVELS = ("quoted", "argued")
_METHOD = "modular_pluralism"


@dataclass(frozen=True)
class Heard:
    """A figure in its interval."""

    value: float
    low: float
    high: float
    n: int
    """Probes."""


@lru_cache(maxsize=1)
def probes() -> dict[str, list[dict[str, Any]]]:
    """``options``, ``selection`` and ``responses``: the probes that ship with the package."""
    text = (files("pluralism_eval.data") / "listening.json").read_text(encoding="utf-8")
    loaded: dict[str, list[dict[str, Any]]] = json.loads(text)
    return loaded


def listening(
    llm: HarnessLLM, prompts: Prompts, settings: Settings, preset: Preset, readout: str
) -> dict[str, Heard]:
    """``quoted``, ``argued``, ``selection`` and ``responses`` of one LLM, readout and wording; measured once and kept.

    Args:
        readout: what the settings' readout comes to with this LLM.

    Returns:
        Name → figure. ``selection``: share of cases in which the one comment that fits the attribute was picked, 0 to
        1. ``responses``: how much more of two opposed passages comes back in the response to them than in responses
        to others, as a share of their content words, −1 to 1.
    """
    key = digest(
        [
            "listening",
            1,
            probes(),
            llm.name,
            prompts.texts[_METHOD],
            prompts.texts["readouts"],
            [readout, settings.chat, settings.cloze_normalisation, settings.readout_samples],
            [preset.top_tokens, preset.passages, preset.llm_temperature, preset.answer_parsing],
        ]
    )
    store = Store(cache_root() / "listening.sqlite", "listening")
    known = store.get([key])
    if key not in known:
        found = _measure(llm, prompts, settings, preset, readout)
        known = {key: {name: vars(heard) for name, heard in found.items()}}
        store.put(known)
    return {name: Heard(**row) for name, row in known[key].items()}


def _measure(
    llm: HarnessLLM, prompts: Prompts, settings: Settings, preset: Preset, readout: str
) -> dict[str, Heard]:
    found = {level: _options(llm, prompts, settings, preset, readout, level) for level in LEVELS}
    return {
        **found,
        "selection": _selection(llm, prompts, settings, preset),
        "responses": _responses(llm, prompts, settings),
    }


def sentence(heard: Mapping[str, Heard], name: str) -> str:
    """What a table's reader has to know about the LLM called ``name``."""
    value = heard["quoted"].value
    if value < HARDLY:
        return (
            f"{name} hardly hears messages: its answer moves by {value:.2f} of 1 with what its message names. "
            "Differences between methods mean little."
        )
    return (
        f"{name} moves by {value:.2f} of 1 with the option that its message names, and by {heard['argued'].value:.2f} "
        "with one that it only argues for."
    )


# ---------------------------------------------------------------------- options


def _options(
    llm: HarnessLLM,
    prompts: Prompts,
    settings: Settings,
    preset: Preset,
    readout: str,
    level: str,
) -> Heard:
    """Over both option orders, where the prompt lists the options."""
    ways = list(_ways(settings, preset, readout))
    asked: list[Query] = []
    sent: list[str] = []
    for probe, query in ways:
        for passage in probe[level]:
            asked.append(query)
            sent.append(_prompt(llm, prompts, query, "distributional", [passage]))
    alone = []
    if settings.cloze_normalisation == "pmi" and readout == "cloze":
        alone = [requests.render(q, readouts.asked(q, prompts), llm) for q in asked]
    scores = iter(
        readouts.option_scores(
            llm, asked, sent, preset, settings.readout_samples, settings.cloze_normalisation, alone
        )
    )
    moved: dict[str, list[float]] = {}
    for probe, query in ways:
        given = [_listed(read(next(scores).logprobs)[0], query.order) for _ in probe[level]]
        moved.setdefault(query.key, []).append(_follows(given))
    return _figure([fmean(values) for values in moved.values()])


def _ways(
    settings: Settings, preset: Preset, readout: str
) -> Iterator[tuple[dict[str, Any], Query]]:
    """Each probe with each order in which its options are listed."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for probe in probes()["options"]:
        by_task.setdefault(probe["task"], []).append(probe)
    for task, members in by_task.items():
        docs = build_docs(task, [p["item"] for p in members], _common(preset), "listening.json")
        for n, (probe, doc) in enumerate(zip(members, docs, strict=True)):
            own = doc["pluralism"]
            query = Query(
                key=f"{task}/{n}",
                task=task,
                doc_id=n,
                source_id=doc["id"],
                source_input="",
                mode="distributional",
                readout=readout,  # type: ignore[arg-type]  # resolved by the LLM
                text=own["query"],
                chat=bool(settings.chat),
                options=tuple(own["letters"]),
                choices=tuple(own["options"]),
                orders=1 if readout == "cloze" else 2,  # a cloze lists no options
                generation=readouts.generation(readout, len(own["letters"]), preset),
            )
            for way in expand(query, 1, 1):
                yield probe, way


def _common(preset: Preset) -> dict[str, Any]:
    from pathlib import Path

    return shared_meta(Path("listening.json"), preset.name, None, None)


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


def _selection(llm: HarnessLLM, prompts: Prompts, settings: Settings, preset: Preset) -> Heard:
    cases = probes()["selection"]
    sent = []
    for i, case in enumerate(cases):
        query = replace(_text_query(case["query"], settings, i), attribute=case["attribute"])
        sent.append(_prompt(llm, prompts, query, "select", case["comments"]))
    limit = preset.choice_max_tokens
    replies = llm.generate(sent, readouts.decoding(preset.llm_temperature, limit, ["\n"]))
    picked = [parse_choice(r, len(c["comments"])) for r, c in zip(replies, cases, strict=True)]
    return _figure([float(p == c["fits"]) for p, c in zip(picked, cases, strict=True)])


def _responses(llm: HarnessLLM, prompts: Prompts, settings: Settings) -> Heard:
    cases = probes()["responses"]
    sent = [
        _prompt(llm, prompts, _text_query(case["query"], settings, i), "overton", case["passages"])
        for i, case in enumerate(cases)
    ]
    texts = llm.generate(sent, readouts.decoding(0.0, RESPONSE_TOKENS, []))
    shares = []
    for i, case in enumerate(cases):
        back = [[_recall(passage, text) for text in texts] for passage in case["passages"]]
        own = fmean(row[i] for row in back)
        others = fmean(value for row in back for j, value in enumerate(row) if j != i)
        shares.append(own - others)
    return _figure(shares)


def _text_query(text: str, settings: Settings, n: int) -> Query:
    return Query(
        key=f"listening/{n}",
        task="listening",
        doc_id=n,
        source_id=str(n),
        source_input="",
        mode="overton",
        readout="generation",
        text=text,
        chat=bool(settings.chat),
    )


def _recall(passage: str, text: str) -> float:
    """Share of the passage's content words that stand in ``text``; 0 to 1."""
    words = _content(passage)
    return len(words & _content(text)) / len(words)


def _content(text: str) -> set[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words: set[str] = set(re.findall(r"[a-z]{3,}", text.lower()))
    return words - set(ENGLISH_STOP_WORDS)


def _prompt(
    llm: HarnessLLM, prompts: Prompts, query: Query, name: str, messages: Sequence[str]
) -> str:
    """As modular_pluralism shows these messages."""
    text = prompts.render(
        _METHOD,
        name,
        query.template,
        query=readouts.asked(query, prompts),
        attribute=query.attribute,
        attribute_line="",
        steer_line="",
        messages=messages,
    )
    return requests.render(query, text, llm)


def _figure(values: Sequence[float]) -> Heard:
    low, high = mean_interval(values)
    return Heard(fmean(values), low, high, len(values))
