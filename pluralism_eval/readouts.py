"""How an LLM's answer to an option question is read: several readouts, one form of result.

``letters`` reads the probabilities of the option letters, ``echo`` and ``top_logprobs`` what a server
gives of them. The others need no log-probabilities: ``generated`` parses the LLM's own words,
``sampled`` the words of many samples, ``verbalised`` the percentages that it states. What cannot be
read has no mass and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pluralism_eval import cloze
from pluralism_eval.distribution import ABOVE_0, modes
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.presets import Preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_answer, parse_shares
from pluralism_eval.schema import OptionScores, Query
from pluralism_eval.variants import without_cue

FROM_WORDS = ("generated", "sampled", "verbalised")
FROM_LOGPROBS = ("letters", "echo", "top_logprobs", "cloze", "continuations")
_TOKENS_A_SHARE = 24  # "A. Somewhat favorable: 40%", with some room


def decoding(temperature: float, max_tokens: int, until: list[str]) -> dict[str, Any]:
    """lm-eval's ``gen_kwargs`` for greedy (temperature 0) or sampled decoding."""
    sampled = (
        {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    )
    return {"until": until, "max_gen_toks": max_tokens, **sampled}


def generation(readout: str, n_options: int, preset: Preset) -> dict[str, Any]:
    """The decoding settings of a readout from words; {} for the others.

    Samples are drawn at temperature 1, the rest as the preset decodes.
    """
    if readout == "sampled":
        return decoding(1.0, preset.choice_max_tokens, [])
    if readout == "generated":
        return decoding(preset.llm_temperature, preset.choice_max_tokens, [])
    if readout == "verbalised":
        return decoding(preset.llm_temperature, _TOKENS_A_SHARE * n_options, [])
    return {}


def asked(query: Query, prompts: Prompts) -> str:
    """The query as the LLM's answering prompt shows it: verbalised answers are asked for in words,
    and a cloze shows no letters."""
    if query.readout == "cloze":
        return cloze.asked(query)
    if query.readout != "verbalised":
        return query.text
    return prompts.render("readouts", "verbalised", query=without_cue(query.text))


def needs_logprobs(query: Query) -> bool:
    return query.readout in FROM_LOGPROBS


def option_scores(
    llm: HarnessLLM,
    queries: Sequence[Query],
    prompts: Sequence[str],
    preset: Preset,
    samples: int,
    normalisation: str = "sum",
    alone: Sequence[str] = (),
) -> list[OptionScores]:
    """[n_queries] scores, each readout in one batch.

    Args:
        prompts: [n_queries], rendered.
        samples: replies a prompt of readout ``sampled``.
        normalisation: of readout ``cloze``.
        alone: [n_queries] prompts of the question alone, rendered; only ``pmi`` needs them.

    Raises:
        PluralismError: a readout that scores no options, or numbers that are no log-probabilities.
    """
    scores: dict[int, OptionScores] = {}
    for kind in dict.fromkeys(query.readout for query in queries):
        part = [i for i, query in enumerate(queries) if query.readout == kind]
        sent, options = [prompts[i] for i in part], [queries[i].options for i in part]
        if kind in ("letters", "echo", "top_logprobs"):
            found = llm.option_logprobs(sent, options, preset.top_tokens, kind)
        elif kind == "continuations":
            found = llm.continuation_logprobs(sent, options)
        elif kind == "cloze":
            found = _cloze(
                llm,
                [queries[i] for i in part],
                sent,
                normalisation,
                [alone[i] for i in part] if alone else [],
            )
        elif kind in FROM_WORDS:
            found = _from_words(llm, [queries[i] for i in part], sent, preset, samples)
        else:
            raise PluralismError(f"readout {kind!r} scores no options")
        check_logprobs(llm.name, [score.logprobs for score in found])
        scores |= dict(zip(part, map(_rounded, found), strict=True))
    return [scores[i] for i in range(len(queries))]


def check_logprobs(name: str, rows: Sequence[Sequence[float]]) -> None:
    """Raises PluralismError unless all of ``rows`` are log-probabilities: -inf to 0, no NaN."""
    bad = [row for row in rows if not all(value <= ABOVE_0 for value in row)]
    if bad:
        raise PluralismError(
            f"{name} gave numbers that are no log-probabilities for {len(bad)} of {len(rows)} prompts, e.g. "
            f"{list(bad[0])[:5]}; they must be 0 or less. A broken number format (try dtype=float32 or bfloat16), or a "
            "server whose log-probabilities cannot be used (try readout=sampled)"
        )


def _rounded(scores: OptionScores) -> OptionScores:
    return replace(scores, logprobs=tuple(min(value, 0.0) for value in scores.logprobs))


def _cloze(
    llm: HarnessLLM,
    queries: Sequence[Query],
    prompts: Sequence[str],
    normalisation: str,
    alone: Sequence[str],
) -> list[OptionScores]:
    """The options' texts after their prompts, and for PMI after the question alone."""
    texts = [cloze.texts(query) for query in queries]
    scores = llm.text_logprobs(prompts, texts)
    priors: list[tuple[float, ...]] = [()] * len(queries)
    if alone:
        priors = [tuple(s.logprob for s in own) for own in llm.text_logprobs(alone, texts)]
    return [
        cloze.read(query.choices, own, prior, normalisation)
        for query, own, prior in zip(queries, scores, priors, strict=True)
    ]


def _from_words(
    llm: HarnessLLM, queries: Sequence[Query], prompts: Sequence[str], preset: Preset, samples: int
) -> list[OptionScores]:
    settings = dict(queries[0].generation)
    if queries[0].readout == "verbalised":
        return _verbalised(llm, queries, prompts, preset)
    count = samples if queries[0].readout == "sampled" else 1
    replies = llm.sample(prompts, settings, count)
    return [_read(query, own, preset) for query, own in zip(queries, replies, strict=True)]


def _verbalised(
    llm: HarnessLLM, queries: Sequence[Query], prompts: Sequence[str], preset: Preset
) -> list[OptionScores]:
    """One call for all questions, or one for each list of letters where a schema binds the answers."""
    settings = dict(queries[0].generation)
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, query in enumerate(queries):
        groups.setdefault(query.options if llm.takes_schema else (), []).append(i)
    found: dict[int, OptionScores] = {}
    for letters, members in groups.items():
        settings["max_gen_toks"] = max(int(queries[i].generation["max_gen_toks"]) for i in members)
        if letters:
            settings["json_schema"] = shares_schema(letters)
        replies = llm.sample([prompts[i] for i in members], settings, 1)
        for i, own in zip(members, replies, strict=True):
            found[i] = _read(queries[i], own, preset)
    return [found[i] for i in range(len(queries))]


def shares_schema(letters: Sequence[str]) -> dict[str, Any]:
    """JSON schema of one number for each letter, in the strict form that servers can enforce."""
    return {
        "type": "object",
        "properties": {letter: {"type": "number"} for letter in letters},
        "required": list(letters),
        "additionalProperties": False,
    }


def _read(query: Query, replies: Sequence[str], preset: Preset) -> OptionScores:
    """Frequencies of the options among all replies; the unread ones lower the mass."""
    n = len(query.options)
    totals, unread = [0.0] * n, 0
    for reply in replies:
        if query.readout == "verbalised":
            shares = parse_shares(reply, query.options)
        else:
            index = parse_answer(preset.answer_parsing, reply, query.options, query.choices)
            shares = None if index is None else [float(i == index) for i in range(n)]
        if shares is None:
            unread += 1
        else:
            totals = [t + s for t, s in zip(totals, shares, strict=True)]
    logprobs = tuple(math.log(t / len(replies)) if t > 0 else -math.inf for t in totals)
    top = modes(totals)
    greedy = top[0] if unread < len(replies) and len(top) == 1 else -1
    sampled = len(replies) - unread if query.readout == "sampled" else 0
    return OptionScores(logprobs, greedy, replies=tuple(replies), unread=unread, samples=sampled)
