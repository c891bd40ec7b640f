"""What a server really gives, by a few tiny requests: the content of its replies counts, not that it replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pluralism_eval.api.client import Call, Rejected
from pluralism_eval.api.replies import Reply
from pluralism_eval.llm import openai_scores

if TYPE_CHECKING:
    from pluralism_eval.llm.openai_api import OpenAILLM

_PROMPT = "Which letter comes first? Answer with the letter only.\nA. B\nB. A\nAnswer:"
_TOPS = (20, 5)


@dataclass(frozen=True)
class Probe:
    """What a server gives, by a few tiny requests."""

    models: list[str] | None = None
    served: bool | None = None
    """None: it lists no models."""
    echo: bool = False
    """It echoes a prompt's tokens, which spell the prompt, with their log-probabilities."""
    top_logprobs: int = 0
    """Likeliest first tokens of an answer that it gives; 0: none."""
    json_schema: bool | None = None
    readout: str = ""
    """What ``readout=options`` comes to."""
    seconds: float = 0.0
    problem: str = ""
    """Why it cannot be used; empty if it can."""
    no_echo: str = ""
    """Why echo cannot be read; empty if it can, or was not asked for."""
    no_top: str = ""
    """Why the likeliest first tokens cannot be read; empty if they can."""


def look(llm: OpenAILLM) -> Probe:
    """Asks for models, echo, likeliest tokens and a schema; what is useless is not kept.

    Raises:
        PluralismError: the server fails, which says nothing about what it gives.
    """
    s = llm.settings
    models = llm.api.models()
    names = (s.model, *s.served_as)
    served = None if models is None else any(name in models for name in names)
    no_echo = _echo_problem(llm) if s.api == "completions" else ""
    echo = s.api == "completions" and not no_echo
    top, no_top = 0, ""
    for count in dict.fromkeys([k for k in (*_TOPS, s.top_logprobs) if k <= s.top_logprobs]):
        no_top = _top_problem(llm, count)
        if not no_top:
            top = count
            break
    readout = "echo" if echo else "top_logprobs" if top else "sampled"
    schema = None if s.api == "completions" else _takes_schema(llm)
    return Probe(models, served, echo, top, schema, readout, no_echo=no_echo, no_top=no_top)


def _echo_problem(llm: OpenAILLM) -> str:
    reply = _tried(llm, llm.echo_call(_PROMPT, " A", _PROMPT + " A"))
    if reply is None:
        return "it rejects echo with logprobs"
    if (
        reply.choices
        and reply.choices[0].tokens
        and all(map(openai_scores.is_token_id, reply.choices[0].tokens))
    ):
        return _BY_ID
    if not reply.choices or not openai_scores.echoes(reply, _PROMPT + " A"):
        return "the tokens of its reply do not spell the prompt, or carry no log-probabilities"
    return ""


_BY_ID = (
    "it names tokens by their ids (token_id:...): give tokenizer=<the served model's> in llm_args"
)


def _top_problem(llm: OpenAILLM, count: int) -> str:
    reply = _tried(llm, llm.first_token_call(_PROMPT, count))
    if reply is None:
        return "it rejects logprobs"
    if not reply.choices or reply.choices[0].refused:
        return "it refuses to answer"
    choice = reply.choices[0]
    if openai_scores.shows_first(choice) or openai_scores.ended_at_once(choice):
        return ""
    if choice.first and openai_scores.is_token_id(choice.first[0][0]):
        return _BY_ID
    if choice.thought or choice.first:
        return "its model thinks before it answers, so that the first token is none of the answer's"
    return "its reply holds no log-probabilities of the likeliest first tokens"


def _takes_schema(llm: OpenAILLM) -> bool:
    schema = {"type": "object", "properties": {"A": {"type": "number"}}}
    strict = schema | {"required": ["A"], "additionalProperties": False}
    settings = {"max_gen_toks": 32, "json_schema": strict}
    return _tried(llm, llm.text_call(_PROMPT, settings)) is not None


def _tried(llm: OpenAILLM, call: Call) -> Reply | None:
    """The reply, asked once and kept, or None if the server rejects the request as such (400).

    Raises:
        PluralismError: the server fails, which says nothing about what it gives.
    """
    key, api = llm.api.key(call), llm.api
    kept = api.kept({key: call})
    if key in kept:
        return llm.named(kept[key])
    refusals = api.counts["rejected"]
    try:
        return llm.named(api.answer(key, call))
    except Rejected:
        if api.counts["rejected"] == refusals:
            raise
        return None
