"""LLMs that answer nothing: they count what a real one would be asked, through the same code.

A method runs on one of these as it runs on a real LLM, so that its calls are counted and not predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM
from lm_eval.models.api_models import JsonChatStr

from pluralism_eval.api.client import Api, Call
from pluralism_eval.api.replies import Choice, Reply
from pluralism_eval.api.settings import OPENAI
from pluralism_eval.llm.generation import normalised
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.hf import HFLLM
from pluralism_eval.llm.openai_api import OpenAILLM
from pluralism_eval.llm.openai_probe import Probe
from pluralism_eval.planning.counting import CHARACTERS, capped, filler
from pluralism_eval.planning.describe import Described
from pluralism_eval.planning.lengths import Lengths
from pluralism_eval.schema import OptionScores, TextScore

_CHOICE_STOP = ["\n"]


class StandIn(LM):
    """lm-eval's view: texts of the expected length, or of the longest allowed."""

    device = "cpu"  # batches of any size ask the same

    def __init__(self, llm: Described, lengths: Lengths, upper: bool) -> None:
        """
        Args:
            upper: every text uses up its limit of new tokens.
        """
        super().__init__()
        self.described, self._lengths, self._upper = llm, lengths, upper
        self.max_length = llm.window
        self.options_task = True
        """Is the task at hand answered by options? Then no long text is asked for."""
        self.generated = self.limit = self.longest = 0
        self._texts: dict[tuple[str, int], str] = {}
        if llm.encode_pair is not None:
            self._encode_pair = llm.encode_pair

    def tok_encode(self, text: str) -> Any:
        return range(self.described.count(text))

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> Any:
        return self.described.render(chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return None

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        if not self.described.scores:
            raise NotImplementedError
        return [(-1.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        found = []
        for request in requests:
            settings: Mapping[str, Any] = request.args[1]
            given = normalised(settings, 256)
            found.append(self.text(given["max_gen_toks"], given["until"]))
        return found

    def text(self, limit: int, until: Sequence[str]) -> str:
        """A text that stands for one of at most ``limit`` new tokens."""
        self.generated += 1
        self.limit = max(self.limit, limit)
        kind = self.kind(limit, until)
        if (kind, limit) not in self._texts:
            self._texts[kind, limit] = self._made(kind, limit)
        return self._texts[kind, limit]

    def kind(self, limit: int, until: Sequence[str]) -> str:
        """``choice`` of a community, ``answer`` in words, or ``response``."""
        if list(until) == _CHOICE_STOP and (self.options_task or limit <= 20):
            return "choice"
        return "answer" if self.options_task else "response"

    def tokens(self, kind: str, limit: int) -> float:
        """Expected new tokens."""
        own = self._lengths
        if self._upper:
            return limit
        if kind == "response":
            return min(limit, own.response.tokens)
        expected = own.choice if kind == "choice" else own.answer
        return limit / 2 if expected is None else min(limit, expected)

    def _made(self, kind: str, limit: int) -> str:
        tokens = max(1, round(self.tokens(kind, limit)))
        characters = tokens * CHARACTERS
        if kind == "response" and not self._upper:
            characters = self._lengths.response.within(limit).characters
        start = "1 " if kind == "choice" else "A. " if kind == "answer" else ""
        return capped(start + filler(characters), tokens, self.described.count)


class PlainStandIn(HarnessLLM):
    """Of any lm-eval model but transformers'."""

    def count_tokens(self, text: str) -> int:
        n = super().count_tokens(text)
        self.inner.longest = max(self.inner.longest, n)
        return n


class TransformersStandIn(PlainStandIn, HFLLM):
    """Of a transformers model: one forward pass a distinct prompt."""

    def _greedy(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str] | None:
        return None  # the stand-in's own texts

    def _opening(self, rows: Sequence[list[int]]) -> None:
        return None  # there is no model

    def encode(self, prompts: Sequence[str]) -> list[Any]:
        return [self.inner.tok_encode(prompt) for prompt in prompts]

    def _next_token_logprobs(self, rows: Sequence[Sequence[int]], opening: Any) -> np.ndarray:
        self.inner.longest = max(self.inner.longest, *map(len, rows))
        return np.zeros((len(rows), 1))

    def _continuation_rows(self, wanted: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        """Counts in the place of tokens; a text follows its prompt without a token of both."""
        count = self.inner.described.count
        return [(range(count(p)), [range(max(1, count(t))) for t in own]) for p, own in wanted]

    def _scores(self, rows: Sequence[Any], opening: Any) -> list[list[TextScore]]:
        longest = (len(prompt) + max(map(len, own)) for prompt, own in rows)
        self.inner.longest = max(self.inner.longest, *longest)
        return [[TextScore(-1.0, len(text), False) for text in own] for _, own in rows]

    def _numbers(self, logprobs: np.ndarray) -> np.ndarray:
        return logprobs

    def _read(
        self, row: np.ndarray, letters: Sequence[str], top_tokens: int | None
    ) -> OptionScores:
        return OptionScores((-1.0 - len(letters),) * len(letters), -1)


class _Unasked(Api):
    """The server's client, which takes stored replies and asks for no new one."""

    def __init__(self, inner: StandIn) -> None:
        assert inner.described.api is not None
        super().__init__(inner.described.api)
        self._inner = inner

    def _answers(self, todo: Mapping[str, Call]) -> Iterator[tuple[str, Reply]]:
        for key, call in todo.items():
            yield key, self._reply(call)

    def _reply(self, call: Call) -> Reply:
        inner, n = self._inner, call.n
        turns = call.body.get("messages") or [{"content": call.body.get("prompt")}]
        prompt = sum(inner.described.count(str(turn["content"])) for turn in turns)
        inner.longest = max(inner.longest, prompt)
        if call.needs_first or call.body.get("echo"):
            return Reply((Choice("", "length", first=(("A", -0.5),)),), "", prompt, 1)
        limit, until = call.new_tokens // n, call.body.get("stop") or []
        texts = [inner.text(limit, until) for _ in range(n)]
        new = round(n * inner.tokens(inner.kind(limit, until), limit))
        return Reply(tuple(Choice(text, "stop") for text in texts), "", prompt, new)


class OpenAIStandIn(PlainStandIn, OpenAILLM):
    """Of ``llm=openai``."""

    def __init__(self, inner: StandIn, name: str, batch_tokens: int | None) -> None:
        HarnessLLM.__init__(self, inner, name, batch_tokens)
        assert inner.described.api is not None
        self.settings = inner.described.api
        self.api = _Unasked(inner)
        self._refused = {}

    def count_tokens(self, text: Any) -> int:
        text = text.prompt if isinstance(text, JsonChatStr) else text
        n: int = self.inner.described.count(text)
        self.inner.longest = max(self.inner.longest, n)
        return n

    def render(self, turns: Any, add_generation_prompt: bool = True) -> Any:
        if self.settings.api == "chat":
            return super().render(turns, add_generation_prompt)
        return self.inner.apply_chat_template(turns, add_generation_prompt)

    def probe(self) -> Probe:
        """What such servers give as a rule; a plan asks none."""
        s = self.settings
        echo = s.api == "completions" and s.base_url != OPENAI
        readout = "echo" if echo else "top_logprobs"
        return Probe(None, None, echo, s.top_logprobs, s.api == "chat", readout)

    def _with_one_start(self, prompt: str) -> str:
        return prompt

    def _check_readable(self, asked: Any, what: str) -> None:
        """The stand-in's replies show nothing."""


def stand_in(llm: Described, lengths: Lengths, upper: bool, batch_tokens: int | None) -> HarnessLLM:
    """The LLM that methods get in a dry run; its ``inner`` is a :class:`StandIn`."""
    inner = StandIn(llm, lengths, upper)
    if llm.kind == "openai":
        return OpenAIStandIn(inner, llm.card.name, batch_tokens)
    kind = TransformersStandIn if llm.kind == "transformers" else PlainStandIn
    return kind(inner, llm.card.name, batch_tokens)
