"""``llm=openai``: any OpenAI-compatible server, through the openai SDK.

How option distributions are read is a choice of what the server gives, best first: log-probabilities of
the echoed prompt, the likeliest first tokens, samples, and stated percentages.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.api_models import JsonChatStr

from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.replies import Choice, Reply
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.cache import digest
from pluralism_eval.chat_date import rendering_on
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import openai_probe, openai_scores, start_token, thoughts
from pluralism_eval.llm.generation import LIMITS, normalised
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.openai_probe import Probe
from pluralism_eval.schema import OptionScores, TextScore, Turn

_LIMIT = 256  # new tokens where nobody says how many, as lm-eval's clients
_STOPS = 4  # OpenAI takes no more; the others are applied to the text
_AGAIN = 2
_OWN = (*LIMITS, "until", "do_sample", "temperature", "top_p", "seed", "json_schema")
"""Generation settings that are said in words of our own; the others go to the server as they are."""
log = logging.getLogger(__name__)


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
        given = normalised(settings, _LIMIT, server=True)
        end = self.settings.think_end_token or thoughts.END
        found = self.choices(prompts, settings, n)
        said = [[thoughts.without_thought(c.text, end) for c in own] for own in found]
        self._check_limit(
            [c for own in found for c in own], [t for own in said for t in own], given
        )
        return [[_cut(text or "", given["until"]) for text in texts] for texts in said]

    def _check_limit(
        self, choices: Sequence[Choice], texts: Sequence[str | None], given: Mapping[str, Any]
    ) -> None:
        """Says that answers ended before their first word; raises PluralismError where all of them did."""
        answered = [(c, t) for c, t in zip(choices, texts, strict=True) if not c.refused]
        cut = sum(not t and c.finish == "length" for c, t in answered)
        stopped = sum(t is None and c.finish != "length" for c, t in answered)
        if not cut + stopped:
            return
        why = [
            f"{cut} used up the limit of {given['max_gen_toks']} new tokens before any word of an answer: raise the limit "
            "(--gen_kwargs max_gen_toks=N; for choices and readouts from words preset=NAME+choice_max_tokens=N)",
            f"{stopped} ended within a thought, as stop strings end it: set think_end_token={thoughts.END} in llm_args, "
            "and they hold for what follows the thought",
        ]
        said = "; ".join(w for w, count in zip(why, (cut, stopped), strict=True) if count)
        text = f"{self.settings.model}, {len(answered)} answers: {said}"
        if cut + stopped == len(answered):
            raise PluralismError(text)
        log.warning("%s", text)

    def choices(
        self, prompts: Sequence[Any], settings: Mapping[str, Any], n: int
    ) -> list[list[Choice]]:
        """[n_prompts][n] answers with what they ended by."""
        found: list[list[Choice]] = [[] for _ in prompts]
        seen: dict[str, int] = {}
        warm = _is_warm(normalised(settings, _LIMIT, server=True))
        repeats = [_nth(seen, prompt) if warm else 0 for prompt in prompts]
        for step in range(n):
            short = [i for i, own in enumerate(found) if len(own) < n]
            if not short:
                break
            calls = [
                self.text_call(prompts[i], settings, n - len(found[i]), repeats[i] * n + step)
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

    def text_call(
        self,
        prompt: Any,
        settings: Mapping[str, Any],
        n: int = 1,
        sample: int = 0,
    ) -> Call:
        """A request for words, with lm-eval's generation settings."""
        given = normalised(settings, _LIMIT, server=True)
        warm = _is_warm(given)
        body: dict[str, Any] = {
            self.settings.limit_name: given["max_gen_toks"],
            "temperature": float(given["temperature"]) if warm else 0.0,
            "seed": int(given.get("seed", 1234)) + sample,
        }
        if warm and "top_p" in given:
            body["top_p"] = given["top_p"]
        until = [stop for stop in given["until"] if stop][:_STOPS]
        if until and not self.settings.think_end_token:  # thoughts hold blank lines and the like
            body["stop"] = until
        if n > 1:
            body["n"] = n
        if given.get("json_schema"):
            body["response_format"] = _strict(given["json_schema"])
        body |= {name: value for name, value in given.items() if name not in _OWN}
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
            said["prompt"] = self._with_one_start(prompt)
        body = {**said, **body, **s.extra}
        return Call(s.api, {k: v for k, v in body.items() if k not in s.omit}, sample, first)

    @cached_property
    def _start(self) -> str:
        """What templated prompts begin with and the server puts before them too; empty: nothing. Asked once."""
        return self._own_start if start_token.server_adds(self, self._own_start) else ""

    @cached_property
    def _own_start(self) -> str:
        """The start token of ``tokenizer=``; empty: it has none, or is not given."""
        return start_token.start_of(self.tokenizer) if self.settings.tokenizer else ""

    def _with_one_start(self, prompt: str) -> str:
        """``prompt`` without the start token that it begins with, where the server adds one."""
        own = self._own_start
        return prompt.removeprefix(self._start) if own and prompt.startswith(own) else prompt

    def adds_start(self) -> str:
        """The start token that the server adds to prompts that our template began with it; empty: none.

        Raises:
            PluralismError: it cannot be seen.
        """
        return self._start if self._own_start else ""

    def named(self, reply: Reply) -> Reply:
        """``reply`` with the tokens that it names by id (``token_id:319``) in words, where there is a tokenizer."""
        if not self.settings.tokenizer or not any(map(_has_ids, reply.choices)):
            return reply

        def word(token: str) -> str:
            if not openai_scores.is_token_id(token):
                return token
            return openai_scores.word_of(self.tokenizer, int(token.removeprefix("token_id:")))

        choices = [
            replace(
                c,
                tokens=tuple(map(word, c.tokens)),
                first=c.first and tuple((word(token), value) for token, value in c.first),
            )
            for c in reply.choices
        ]
        return replace(reply, choices=tuple(choices))

    def _ask(self, calls: Sequence[Call], what: str) -> list[Reply]:
        replies = self.api.ask_all(calls, what)
        for reply in {id(r): r for r in replies if not r.stored}.values():
            self.usage.add(1, reply.prompt_tokens, reply.new_tokens)
        return [self.named(reply) for reply in replies]

    @property
    def _is_server(self) -> bool:
        return True

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
        self._check_no_thought(prompts)
        top = self.probe().top_logprobs or self.settings.top_logprobs
        calls = [self.first_token_call(prompt, top) for prompt in prompts]
        replies = self._ask(calls, "options")
        for attempt in range(
            _AGAIN
        ):  # a text that ends at once shows nothing: let another token be drawn
            silent = [
                i
                for i, reply in enumerate(replies)
                if openai_scores.ended_at_once(reply.choices[0])
            ]
            more = [self.first_token_call(prompts[i], top, attempt + 1) for i in silent]
            for i, reply in zip(silent, self._ask(more, "options"), strict=True):
                replies[i] = reply
        for prompt, reply in zip(prompts, replies, strict=True):
            self._note_refusals(prompt, reply.choices)
        self._check_readable(
            [(c, r) for c, r in zip(calls, replies, strict=True)], "the likeliest first tokens"
        )
        return [
            openai_scores.from_top(reply.choices[0], own, top_tokens)
            for reply, own in zip(replies, letters, strict=True)
        ]

    def first_token_call(self, prompt: Any, top: int, sample: int = 0) -> Call:
        """A request for the ``top`` likeliest first tokens; of ``sample`` > 0, after another drawn token."""
        count = min(top, self.settings.top_logprobs)
        own = {"logprobs": True, "top_logprobs": count} if self.settings.api == "chat" else {}
        body = own or {"logprobs": count}
        warm = (
            {"temperature": 1.0, "seed": 1233 + sample}
            if sample
            else {"temperature": 0.0, "seed": 1234}
        )
        call = self._call(prompt, {self.settings.limit_name: 1, **warm, **body}, sample, first=True)

        def shows(reply: Reply) -> bool:
            choices = self.named(reply).choices
            return all(
                openai_scores.ended_at_once(c) or openai_scores.shows_first(c) for c in choices
            )

        return replace(call, shows=shows)

    def echo_call(self, prompt: str, end: str, spelled: str) -> Call:
        """A request for the log-probabilities of ``prompt + end``, of which ``spelled`` must be shown."""
        body = {"echo": True, "logprobs": 1, self.settings.limit_name: 1, "temperature": 0.0}
        call = self._call(prompt + end, body)
        return replace(call, shows=lambda reply: openai_scores.echoes(self.named(reply), spelled))

    def _check_no_thought(self, prompts: Sequence[Any]) -> None:
        """Raises PluralismError where a prompt opens a thought; a chat's template is the server's own."""
        self.check_no_thought([_prefill(p) if isinstance(p, JsonChatStr) else p for p in prompts])

    def _check_readable(self, asked: Sequence[tuple[Call, Reply]], what: str) -> None:
        """Raises PluralismError where not one of many replies shows ``what``: the server does not give it."""
        answered = [(c, r) for c, r in asked if not any(choice.refused for choice in r.choices)]
        if answered and all(call.lacks(reply) for call, reply in answered):
            raise PluralismError(
                f"{self.settings.base_url} ({self.settings.model}): none of {len(answered)} replies shows {what}, though the "
                "server gave them when it was tried. Nothing of it is kept: run again when the server is mended, or use "
                "another readout (sampled, verbalised)"
            )

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

    def text_logprobs(
        self, prompts: Sequence[Any], texts: Sequence[Sequence[str]]
    ) -> list[list[TextScore]]:
        pairs = [(p, t) for p, own in zip(prompts, texts, strict=True) for t in own]
        scored = iter(self.loglikelihoods(pairs))
        found = [[next(scored) for _ in own] for own in texts]
        return [[TextScore(v, max(len(t), 1), g) for t, v, g in own] for own in found]

    def loglikelihoods(
        self, pairs: Sequence[tuple[str, str]]
    ) -> list[tuple[tuple[str, ...], float, bool]]:
        """Of (prompt, continuation): the continuation's tokens, their summed nats, is it greedy.

        The continuation must begin at a token's border; otherwise its log-likelihood is -inf.
        """
        self.check_echo()
        self._check_no_thought([prompt for prompt, _ in pairs])
        calls = [self.echo_call(p, end, openai_scores.tail_of(p) + end) for p, end in pairs]
        replies = self._ask(calls, "options")
        self._check_readable(list(zip(calls, replies, strict=True)), "the echoed options")
        return [
            openai_scores.ending(reply, end) if reply.choices else ((), -math.inf, False)
            for reply, (_, end) in zip(replies, pairs, strict=True)
        ]

    def check_echo(self) -> None:
        """Raises PluralismError if the server does not echo log-probabilities."""
        if self.settings.api == "chat" or not self.probe().echo:
            why = (
                f" ({self.probe().no_echo})"
                if self.settings.api != "chat" and self.probe().no_echo
                else ""
            )
            raise PluralismError(
                f"{self.settings.base_url} (api={self.settings.api}) does not echo a prompt's log-probabilities{why}, which "
                "readout=echo, readout=cloze and tasks with options of their own need. Use readout=top_logprobs, sampled or verbalised "
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
        if readout in ("options", "echo", "top_logprobs", "cloze"):
            self.require()
        if readout in ("echo", "cloze"):
            self.check_echo()
        if readout == "top_logprobs" and not self.probe().top_logprobs:
            why = f" ({self.probe().no_top})" if self.probe().no_top else ""
            raise PluralismError(
                f"{self.settings.base_url} gives no top_logprobs for {self.settings.model}{why}; use readout=sampled or verbalised"
            )
        return self.probe().readout if readout == "options" else readout

    # ------------------------------------------------------------------ what the server can do

    def probe(self) -> Probe:
        """Asks once: models, echo, likeliest tokens, a schema; see :mod:`pluralism_eval.llm.openai_probe`.

        Raises nothing: what is wrong stands in ``problem``.
        """
        if self._probed is None:
            started = time.monotonic()
            try:
                found = openai_probe.look(self)
            except PluralismError as error:
                found = Probe(problem=str(error))
            self._probed = Probe(**{**vars(found), "seconds": time.monotonic() - started})
            why = [w for w in (found.no_echo, found.no_top) if w and found.readout != "echo"]
            if why:
                log.warning(
                    "%s (%s): readout=options becomes %s: %s",
                    self.settings.base_url, self.settings.model, found.readout, "; ".join(dict.fromkeys(why)),
                )  # fmt: skip
        return self._probed

    def require(self) -> None:
        """Raises PluralismError if the server cannot be used."""
        problem = self.probe().problem
        if problem:
            raise PluralismError(problem)


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


def _is_warm(given: Mapping[str, Any]) -> bool:
    """Whether normalised settings draw samples; without a temperature lm-eval's clients decode greedily."""
    return bool(given["do_sample"]) and float(given["temperature"]) > 0


def _prefill(chat: Any) -> str:
    """What the assistant's turn of a conversation begins with; empty if it does not end with one."""
    last = json.loads(chat.prompt)[-1]
    return str(last["content"]) if last["role"] == "assistant" else ""


def _has_ids(choice: Choice) -> bool:
    shown = [*choice.tokens[:1], *(token for token, _ in (choice.first or ())[:1])]
    return any(map(openai_scores.is_token_id, shown))


def _nth(seen: dict[str, int], prompt: Any) -> int:
    """How often ``prompt`` came before."""
    key = str(prompt)
    seen[key] = seen.get(key, -1) + 1
    return seen[key]


def _cut(text: str, until: Sequence[str]) -> str:
    """``text`` before the first of the stop strings, as lm-eval's own models cut it."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"type": "json_schema", "json_schema": inner}
