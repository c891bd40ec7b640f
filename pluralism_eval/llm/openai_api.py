"""``llm=openai``: any OpenAI-compatible server, through the openai SDK.

How option distributions are read is a choice of what the server gives, best first: log-probabilities of
the echoed prompt, the likeliest first tokens, samples, and stated percentages.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.api_models import JsonChatStr

from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.replies import Choice, Reply, read_reply
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.cache import digest
from pluralism_eval.chat_date import rendering_on
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import openai_scores
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.schema import OptionScores, Turn

_STOPS = 4  # OpenAI takes no more; the others are applied to the text
_PROBE = "Which letter comes first? Answer with the letter only.\nA. B\nB. A\nAnswer:"
_TOPS = (20, 5)
_AGAIN = 2


@dataclass(frozen=True)
class Probe:
    """What a server gives, by a few tiny requests."""

    models: list[str] | None = None
    served: bool | None = None
    """None: it lists no models."""
    echo: bool = False
    top_logprobs: int = 0
    """Likeliest first tokens that it gives; 0: none."""
    json_schema: bool | None = None
    readout: str = ""
    """What ``readout=options`` comes to."""
    seconds: float = 0.0
    problem: str = ""
    """Why it cannot be used; empty if it can."""


class OpenAILLM(HarnessLLM):
    """Text and option scores from a server; see the base class for shapes."""

    def __init__(self, settings: ApiSettings, name: str, batch_tokens: int | None = None) -> None:
        super().__init__(OpenAILM(self), name, batch_tokens)
        self.settings = settings
        self.api = Api(settings)
        self._tokenizer: Any = None
        self._probed: Probe | None = None
        self._refused: dict[str, str] = {}

    @property
    def max_length(self) -> int:
        return self.settings.max_length

    @property
    def tokenizer(self) -> Any:
        """The one that ``tokenizer=`` names, or None."""
        if self._tokenizer is None and self.settings.tokenizer:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(
                self.settings.tokenizer, trust_remote_code=False
            )
        return self._tokenizer

    def count_tokens(self, text: str) -> int:
        """With ``tokenizer=`` exact for the text, else three characters a token."""
        text = text.prompt if isinstance(text, JsonChatStr) else text
        if self.tokenizer is not None:
            return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return math.ceil(len(text) / 3)

    def render(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> Any:
        """Turns for chat; for ``api=completions`` the tokenizer's chat template."""
        if self.settings.api == "chat":
            return JsonChatStr(json.dumps(list(turns), ensure_ascii=False))
        if self.tokenizer is None:
            raise PluralismError(
                "--apply_chat_template with api=completions needs tokenizer=<Hub id or folder of the served model's>; "
                "or use api=chat, where the server applies its template"
            )
        with rendering_on(self.chat_date):
            return self.tokenizer.apply_chat_template(
                list(turns),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )

    # ------------------------------------------------------------------ text

    def generate(self, prompts: Sequence[Any], settings: Mapping[str, Any]) -> list[str]:
        return [texts[0] for texts in self.sample(prompts, settings, 1)]

    def sample(
        self, prompts: Sequence[Any], settings: Mapping[str, Any], n: int
    ) -> list[list[str]]:
        """[n_prompts][n] texts; a refused one is empty. Servers that give fewer at once are asked again."""
        found = [[c.text for c in choices] for choices in self.choices(prompts, settings, n)]
        return [[_cut(text, settings.get("until")) for text in texts] for texts in found]

    def choices(
        self, prompts: Sequence[Any], settings: Mapping[str, Any], n: int
    ) -> list[list[Choice]]:
        """[n_prompts][n] answers with what they ended by."""
        found: list[list[Choice]] = [[] for _ in prompts]
        seen: dict[str, int] = {}
        repeats = [_nth(seen, prompt) if _sampled(settings) else 0 for prompt in prompts]
        for step in range(n):
            short = [i for i, own in enumerate(found) if len(own) < n]
            if not short:
                break
            calls = [
                self._text_call(prompts[i], settings, n - len(found[i]), repeats[i] * n + step)
                for i in short
            ]
            for i, reply in zip(short, self._ask(calls, "text"), strict=True):
                found[i] += reply.choices[: n - len(found[i])]
        for prompt, own in zip(prompts, found, strict=True):
            self._note_refusals(prompt, own)
        return found

    def _note_refusals(self, prompt: Any, choices: Sequence[Choice]) -> None:
        if choices and all(choice.refused for choice in choices):
            self._refused[str(prompt)] = choices[0].refused

    def _text_call(self, prompt: Any, settings: Mapping[str, Any], n: int, sample: int) -> Call:
        warm = _sampled(settings)
        limit = int(settings.get("max_gen_toks") or settings.get("max_tokens") or 256)
        body: dict[str, Any] = {
            self.settings.limit_name: limit,
            "temperature": float(settings.get("temperature") or 0.0) if warm else 0.0,
            "seed": int(settings.get("seed", 1234)) + sample,
        }
        if warm and "top_p" in settings:
            body["top_p"] = settings["top_p"]
        until = [stop for stop in settings.get("until") or [] if stop][:_STOPS]
        if until:
            body["stop"] = until
        if n > 1:
            body["n"] = n
        if settings.get("json_schema"):
            body["response_format"] = _strict(settings["json_schema"])
        return self._call(prompt, body, sample)

    def _call(
        self, prompt: Any, body: dict[str, Any], sample: int = 0, first: bool = False
    ) -> Call:
        s = self.settings
        said: dict[str, Any] = {"model": s.model}
        if s.api == "chat":
            chat = isinstance(prompt, JsonChatStr)
            turns = json.loads(prompt.prompt) if chat else [{"role": "user", "content": prompt}]
            said["messages"] = turns
        elif isinstance(prompt, JsonChatStr):
            raise PluralismError("chat turns reached api=completions; use api=chat")
        else:
            said["prompt"] = prompt
        body = {**said, **body, **s.extra}
        return Call(s.api, {k: v for k, v in body.items() if k not in s.omit}, sample, first)

    def _ask(self, calls: Sequence[Call], what: str) -> list[Reply]:
        replies = self.api.ask_all(calls, what)
        for reply in {id(r): r for r in replies if not r.stored}.values():
            self.usage.add(1, reply.prompt_tokens, reply.new_tokens)
        return replies

    def refused(self, prompt: Any) -> str:
        return self._refused.get(str(prompt), "")

    def api_counts(self) -> dict[str, Any]:
        return self.api.report()

    @property
    def takes_schema(self) -> bool:
        return bool(self.probe().json_schema)

    # ------------------------------------------------------------------ options

    def option_logprobs(
        self,
        prompts: Sequence[Any],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
        readout: str = "letters",
    ) -> list[OptionScores]:
        """By ``echo`` or ``top_logprobs``; ``letters`` is the better of the two that there is."""
        found = self.resolve("options" if readout == "letters" else readout)
        if found == "echo":
            return self.echoed(prompts, letters, top_tokens)
        return self.from_top(prompts, letters, top_tokens)

    def from_top(
        self,
        prompts: Sequence[Any],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
    ) -> list[OptionScores]:
        """Options by the likeliest first tokens, all spellings summed. What was not among them is
        ``unseen``: it may belong to any option.

        Args:
            top_tokens: the authors' rule among that many tokens instead (``preset=reference``).
        """
        body = self._first_token_body(self.probe().top_logprobs or self.settings.top_logprobs)
        calls = [self._call(prompt, body, first=True) for prompt in prompts]
        replies = self._ask(calls, "options")
        for attempt in range(
            _AGAIN
        ):  # a text that ends at once shows nothing: let another token be drawn
            silent = [i for i, reply in enumerate(replies) if reply.choices[0].first == ()]
            warm = body | {"temperature": 1.0, "seed": 1234 + attempt}
            more = [self._call(prompts[i], warm, attempt + 1, first=True) for i in silent]
            for i, reply in zip(silent, self._ask(more, "options"), strict=True):
                replies[i] = reply
        for prompt, reply in zip(prompts, replies, strict=True):
            self._note_refusals(prompt, reply.choices)
        return [
            openai_scores.from_top(reply.choices[0], own, top_tokens)
            for reply, own in zip(replies, letters, strict=True)
        ]

    def _first_token_body(self, top: int) -> dict[str, Any]:
        count = min(top, self.settings.top_logprobs)
        own = {"logprobs": True, "top_logprobs": count} if self.settings.api == "chat" else {}
        body = own or {"logprobs": count}
        return {self.settings.limit_name: 1, "temperature": 0.0, "seed": 1234, **body}

    def echoed(
        self,
        prompts: Sequence[Any],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
    ) -> list[OptionScores]:
        """Options by log-likelihoods of the echoed text, both spellings (``A``, `` A``) summed."""
        if top_tokens is not None:
            raise PluralismError(
                f"preset=reference reads the {top_tokens} likeliest tokens: use readout=top_logprobs"
            )
        forms = [[[f" {letter}", letter] for letter in own] for own in letters]
        flat = [
            (p, f)
            for p, own in zip(prompts, forms, strict=True)
            for options in own
            for f in options
        ]
        scored = iter(self.loglikelihoods(flat))
        return [
            openai_scores.summed([[next(scored) for _ in options] for options in own])
            for own in forms
        ]

    def continuation_logprobs(
        self, prompts: Sequence[Any], continuations: Sequence[Sequence[str]]
    ) -> list[OptionScores]:
        pairs = [(p, c) for p, own in zip(prompts, continuations, strict=True) for c in own]
        scored = iter(self.loglikelihoods(pairs))
        return [openai_scores.summed([[next(scored)] for _ in own]) for own in continuations]

    def loglikelihoods(
        self, pairs: Sequence[tuple[str, str]]
    ) -> list[tuple[tuple[str, ...], float, bool]]:
        """Of (prompt, continuation): the continuation's tokens, their summed nats, is it greedy.

        The continuation must begin at a token's border; otherwise its log-likelihood is -inf.
        """
        self.check_echo()
        body = {"echo": True, "logprobs": 1, self.settings.limit_name: 1, "temperature": 0.0}
        calls = [self._call(prompt + end, body) for prompt, end in pairs]
        return [
            openai_scores.ending(reply, end)
            for reply, (_, end) in zip(self._ask(calls, "options"), pairs, strict=True)
        ]

    def check_echo(self) -> None:
        """Raises PluralismError if the server does not echo log-probabilities."""
        if self.settings.api == "chat" or not self.probe().echo:
            raise PluralismError(
                f"{self.settings.base_url} (api={self.settings.api}) does not echo a prompt's log-probabilities, which "
                "readout=echo and tasks with options of their own need. Use readout=top_logprobs, sampled or verbalised "
                "on our tasks, or api=completions on a server that echoes (vLLM does)"
            )

    def check_scoring(self) -> None:
        """Raises PluralismError if the server gives no log-probabilities at all."""
        if not (self.probe().echo or self.probe().top_logprobs):
            super().check_scoring()

    def resolve(self, readout: str) -> str:
        """What ``readout=options`` means for this server; other readouts mean themselves.

        Raises:
            PluralismError: the server cannot be used, or does not give what ``readout`` reads.
        """
        if readout in ("options", "echo", "top_logprobs"):
            self.require()
        if readout == "echo":
            self.check_echo()
        if readout == "top_logprobs" and not self.probe().top_logprobs:
            raise PluralismError(
                f"{self.settings.base_url} gives no top_logprobs for {self.settings.model}; use readout=sampled or verbalised"
            )
        return self.probe().readout if readout == "options" else readout

    # ------------------------------------------------------------------ what the server can do

    def probe(self) -> Probe:
        """Asks once: models, echo, likeliest tokens. At most five tiny requests, kept like all others.

        Raises nothing: what is wrong stands in ``problem``.
        """
        if self._probed is None:
            started = time.monotonic()
            try:
                found = self._look()
            except PluralismError as error:
                found = Probe(problem=str(error))
            self._probed = Probe(**{**vars(found), "seconds": time.monotonic() - started})
        return self._probed

    def require(self) -> None:
        """Raises PluralismError if the server cannot be used."""
        problem = self.probe().problem
        if problem:
            raise PluralismError(problem)

    def _look(self) -> Probe:
        s = self.settings
        models = self.api.models()
        names = (s.model, *s.served_as)
        served = None if models is None else any(name in models for name in names)
        echo = s.api == "completions" and self._gives_echo()
        top = next((k for k in _TOPS if k <= s.top_logprobs and self._gives_top(k)), 0)
        if top == 0 and s.top_logprobs not in _TOPS and self._gives_top(s.top_logprobs):
            top = s.top_logprobs
        readout = "echo" if echo else "top_logprobs" if top else "sampled"
        schema = None if s.api == "completions" else self._takes_schema()
        return Probe(models, served, echo, top, schema, readout)

    def _gives_echo(self) -> bool:
        body = {"echo": True, "logprobs": 1, self.settings.limit_name: 1, "temperature": 0.0}
        reply = self._tried(self._call(f"{_PROBE} A", body))
        return bool(reply and reply.choices and len(reply.choices[0].logprobs) > 3)

    def _gives_top(self, top: int) -> bool:
        reply = self._tried(self._call(_PROBE, self._first_token_body(top)))
        return bool(reply and reply.choices and reply.choices[0].first is not None)

    def _takes_schema(self) -> bool:
        schema = {"type": "object", "properties": {"A": {"type": "number"}}}
        strict = schema | {"required": ["A"], "additionalProperties": False}
        settings = {"max_gen_toks": 32, "json_schema": strict}
        return self._tried(self._text_call(_PROBE, settings, 1, 0)) is not None

    def _tried(self, call: Call) -> Reply | None:
        """The reply, asked once and kept, or None if the server rejects the request as such (400).

        Raises:
            PluralismError: the server fails, which says nothing about what it gives.
        """
        from pluralism_eval.api.client import Rejected

        key, api = self.api.key(call), self.api
        kept = api.store.get([key]) if self.settings.cache else {}
        if key in kept:
            return read_reply(kept[key], bool(call.body.get("echo"))).as_stored()
        refusals = api.counts["rejected"]
        try:
            return api.answer(key, call)
        except Rejected:
            if api.counts["rejected"] == refusals:
                raise
            return None


class OpenAILM(LM):
    """lm-eval's view of :class:`OpenAILLM`, for requests that pass through unchanged."""

    def __init__(self, llm: OpenAILLM) -> None:
        super().__init__()
        self._llm = llm

    @property
    def max_length(self) -> int:
        return self._llm.max_length

    @property
    def tokenizer_name(self) -> str:
        return self._llm.settings.tokenizer or self._llm.settings.model

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> Any:
        return self._llm.render(chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return "" if chat_template else None  # the server's own

    def tok_encode(self, text: str) -> list[int]:
        if self._llm.tokenizer is None:
            raise NotImplementedError
        ids: list[int] = self._llm.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(digest(dict(request.args[1])), []).append(i)
        found = [""] * len(requests)
        for members in groups.values():
            texts = self._llm.generate(
                [requests[i].args[0] for i in members], dict(requests[members[0]].args[1])
            )
            for i, text in zip(members, texts, strict=True):
                found[i] = text
        return found

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        scored = self._llm.loglikelihoods([(r.args[0], r.args[1]) for r in requests])
        return [(value, greedy) for _, value, greedy in scored]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError


def _sampled(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("do_sample")) and float(settings.get("temperature") or 0) > 0


def _nth(seen: dict[str, int], prompt: Any) -> int:
    """How often ``prompt`` came before."""
    key = str(prompt)
    seen[key] = seen.get(key, -1) + 1
    return seen[key]


def _cut(text: str, until: Any) -> str:
    """``text`` before the first of the stop strings, as lm-eval's own models cut it."""
    for stop in until or []:
        if stop:
            text = text.split(stop)[0]
    return text


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"type": "json_schema", "json_schema": inner}
