"""The embedded model behind the local OpenAI-compatible server: the very model that runs in process."""

from __future__ import annotations

import codecs
import copy
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch

from pluralism_eval.llm.linear import fast_linear
from pluralism_eval.llm.load import load_llm
from pluralism_eval.settings import parse
from tests.openai_server.backend import Answer, Ask, Choice, FinishReason, Message, Token
from tests.openai_server.schema import conforming


class Embedded:
    """SmolLM2-135M-Instruct in float32, shared with ``load_llm``; one request at a time.

    Prompts are tokenised and conversations rendered as lm-eval's HFLM does; greedy texts are those
    of ``HFLM.generate_until``. A JSON schema is filled in value by value, each the likeliest (or a
    sampled one) of those that ``schema.conforming`` tries.
    """

    takes_ids = True

    def __init__(self, llm: Any = None) -> None:
        """Args:
        llm: an ``HFLLM``; None: the embedded one.
        """
        self.llm = llm or load_llm(parse("vanilla", {}), batch_size=1)
        self.max_length = self.llm.max_length
        self._inner, self._tokenizer = self.llm.inner, self.llm.inner.tokenizer
        ends = self._inner.model.generation_config.eos_token_id
        self._ends = {*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id}
        self._special = set(self._tokenizer.all_special_ids)
        self._bytes = _byte_of_letter()
        self._lock = Lock()

    def render(self, messages: Sequence[Message]) -> str:
        rendered: str = self._inner.apply_chat_template([dict(m) for m in messages])
        return rendered

    def encode(self, prompt: str | tuple[int, ...]) -> list[int]:
        """Token ids; a single start token for an empty prompt."""
        ids = list(self._inner.tok_encode(prompt) if isinstance(prompt, str) else prompt)
        return ids or [self._inner.prefix_token_id]

    def count(self, prompt: str | tuple[int, ...]) -> int:
        return len(self.encode(prompt))

    def answer(self, ask: Ask) -> Answer:
        ids = self.encode(ask.prompt)
        text = (
            ask.prompt if isinstance(ask.prompt, str) else self._tokenizer.decode(list(ask.prompt))
        )
        scores_prompt = ask.echo and ask.top is not None
        with self._lock, torch.inference_mode():
            logits, cache = self._forward([ids], None, 0 if scores_prompt else 1)
            shown: list[Token] = []
            if scores_prompt and ask.prompt:
                rows = logits[0, :-1].log_softmax(-1)
                shown = [Token(self._raw(ids[0]), None)]
                shown += [self._token(row, id, ask.top) for row, id in zip(rows, ids[1:], strict=True)]  # fmt: skip
            if ask.schema is not None:
                choices = [self._filled(ask, cache, i) for i in range(ask.n)]
            else:
                choices = self._generate(ask, logits[:, -1], cache)
        return Answer(len(ids), tuple(choices), text, tuple(shown))

    def _forward(self, rows: list[list[int]], cache: Any, keep: int) -> tuple[torch.Tensor, Any]:
        """Logits [n_rows, keep (0: all), vocabulary] in float32, and the cache that goes on."""
        with fast_linear(self._inner.model):
            output = self._inner.model(
                input_ids=torch.tensor(rows, device=self._inner.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=keep,
            )
        return output.logits.float(), output.past_key_values

    def _generate(self, ask: Ask, logits: torch.Tensor, cache: Any) -> list[Choice]:
        """``ask.n`` samples side by side; greedy ones are one and the same.

        Args:
            logits: [1, vocabulary], after the prompt.
        """
        n = 1 if ask.temperature == 0 else ask.n
        draws = [np.random.default_rng([abs(ask.seed), i]) for i in range(n)]
        ids: list[list[int]] = [[] for _ in range(n)]
        tokens: list[list[Token]] = [[] for _ in range(n)]
        reasons: list[FinishReason | None] = [None] * n
        if n > 1:
            cache.batch_repeat_interleave(n)
            logits = logits.expand(n, -1)
        for step in range(ask.max_tokens):
            chosen = []
            for i, row in enumerate(logits):
                id = self._pick(row, ask, draws[i])
                chosen.append(id)
                if reasons[i] is not None:
                    continue
                ids[i].append(id)
                if id in self._ends:
                    reasons[i] = "stop"
                    continue
                if ask.top is not None:
                    tokens[i].append(self._token(row.log_softmax(-1), id, ask.top))
                if ask.stop and any(stop in self._text(ids[i]) for stop in ask.stop):
                    reasons[i] = "stop"
            if None not in reasons or step + 1 == ask.max_tokens:
                break
            next_logits, cache = self._forward([[id] for id in chosen], cache, 1)
            logits = next_logits[:, -1]
        found = [self._choice(ask, *parts) for parts in zip(ids, tokens, reasons, strict=True)]
        return found * (ask.n // n)

    def _choice(
        self, ask: Ask, ids: list[int], tokens: Sequence[Token], reason: FinishReason | None
    ) -> Choice:
        text = self._text(ids)
        for stop in ask.stop:
            text = text.split(stop)[0]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        kept, length = [], 0
        for token in tokens:
            if length >= len(text):
                break
            length += len(decoder.decode(token.raw))
            kept.append(token)
        return Choice(text, tuple(kept), reason or "length", len(ids))

    def _pick(self, row: torch.Tensor, ask: Ask, draw: np.random.Generator) -> int:
        if ask.temperature == 0:
            return int(row.argmax())
        p = (row / ask.temperature).softmax(-1).double()
        at = draw.random()
        if ask.top_p < 1:
            p, order = p.sort(descending=True)
            p = torch.where(p.cumsum(-1) - p < ask.top_p, p, 0)
        mass = p.cumsum(-1)
        place = int(torch.searchsorted(mass, at * float(mass[-1])))
        return int(order[place]) if ask.top_p < 1 else place

    def _filled(self, ask: Ask, prompt_cache: Any, i: int) -> Choice:
        """A text of ``ask.schema``, and its log-probabilities without the schema."""
        draw = np.random.default_rng([abs(ask.seed), i])

        def choose(before: str, ways: list[str]) -> str:
            if len(ways) == 1:
                return ways[0]
            _, cache = self._forward([self._plain(before)], copy.deepcopy(prompt_cache), 1)
            scores = self._scores(cache, [self._plain(way + ",") for way in ways], self._plain(before)[-1:])  # fmt: skip
            if ask.temperature == 0:
                return ways[int(scores.argmax())]
            p = (scores / ask.temperature).softmax(-1).double().numpy()
            return ways[int(draw.choice(len(ways), p=p / p.sum()))]

        assert ask.schema is not None
        ids = self._plain(conforming(ask.schema, choose))[: ask.max_tokens]
        reason: FinishReason = "length" if len(ids) == ask.max_tokens else "stop"
        tokens: list[Token] = []
        if ask.top is not None:
            logits, _ = self._forward([self.encode(ask.prompt)[-1:] + ids], self._shorter(prompt_cache), 0)  # fmt: skip
            rows = logits[0, :-1].log_softmax(-1)
            tokens = [self._token(row, id, ask.top) for row, id in zip(rows, ids, strict=True)]
        ended = ids if reason == "length" else [*ids, min(self._ends)]
        return self._choice(ask, ended, tokens, reason)

    def _scores(self, cache: Any, ways: list[list[int]], last: list[int]) -> torch.Tensor:
        """Log-probability (nats) of each way to go on: [n_ways]."""
        longest = max(map(len, ways))
        cache = self._shorter(cache)
        cache.batch_repeat_interleave(len(ways))
        rows = [last + way + [0] * (longest - len(way)) for way in ways]
        logprobs = self._forward(rows, cache, 0)[0][:, :-1].log_softmax(-1)
        return torch.stack([logprobs[i, range(len(way)), way].sum() for i, way in enumerate(ways)])

    def _shorter(self, cache: Any) -> Any:
        """A copy without its last token, which then goes in again to get its logits."""
        cache = copy.deepcopy(cache)
        cache.crop(-1)
        return cache

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _text(self, ids: list[int]) -> str:
        text: str = self._inner.tok_decode(ids)
        return text

    def _token(self, row: torch.Tensor, id: int, top: int | None) -> Token:
        """Args:
        row: log-probabilities [vocabulary].
        """
        found = row.topk(top) if top else None
        likely = () if found is None else zip(found.indices.tolist(), found.values.tolist(), strict=True)  # fmt: skip
        return Token(
            self._raw(id),
            float(row[id]),
            tuple((self._raw(i), value) for i, value in likely),
            int((row > row[id]).sum()),
        )

    def _raw(self, id: int) -> bytes:
        """What a token stands for; byte-level tokenizers may cut a character in two."""
        piece: str = self._tokenizer.convert_ids_to_tokens(id)
        if id in self._special or any(letter not in self._bytes for letter in piece):
            return piece.encode()
        return bytes(self._bytes[letter] for letter in piece)


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's way to write 256 bytes in printable letters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
