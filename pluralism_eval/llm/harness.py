"""An LLM over any lm-eval model: only what every one of them offers, ``generate_until`` and ``loglikelihood``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pluralism_eval import chat_date
from pluralism_eval.bounded import check_chat_template
from pluralism_eval.cache import digest
from pluralism_eval.distribution import logsumexp
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.generation import normalised
from pluralism_eval.llm.thoughts import check_no_thought
from pluralism_eval.schema import OptionScores, TextScore, Turn
from pluralism_eval.usage import Usage


class HarnessLLM:
    """Text generation and option scoring over an lm-eval ``LM``."""

    def __init__(self, inner: Any, name: str, batch_tokens: int | None = None) -> None:
        self.inner = inner
        self.name = name
        """Model, revision and settings, as they are shown."""
        self.contents: Mapping[str, str] = {}
        """What lies behind the names of folders and Hub models among them."""
        self.chat_date = chat_date.DEFAULT
        """What its chat template sees as today's date."""
        self.batch_tokens = batch_tokens
        self.usage = Usage()
        """Of everything asked through this object, whichever method asked."""
        self._can_score: bool | None = None

    @property
    def identity(self) -> str:
        """What outputs depend on: its name, what lies behind it, and the date where its chat template shows one."""
        own: Any = getattr(self, "tokenizer", None) or getattr(self.inner, "tokenizer", None)
        day = self.chat_date if chat_date.depends_on_time(own) else ""
        more = [dict(self.contents), day]
        return f"{self.name}#{digest(more)[:16]}" if any(more) else self.name

    @property
    def max_length(self) -> int:
        """Context window in tokens, prompt and response together."""
        return int(getattr(self.inner, "max_length", None) or 2048)

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text``; three characters a token where the model has no local tokenizer.

        A conversation for a chat API (``JsonChatStr``) counts by its text.
        """
        text = getattr(text, "prompt", text)
        try:
            return len(self.inner.tok_encode(text))
        except (AttributeError, NotImplementedError, TypeError):
            return math.ceil(len(text) / 3)

    def render(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> str:
        """Chat turns → the model's own prompt string (``JsonChatStr`` for chat APIs)."""
        check_chat_template(getattr(self.inner, "tokenizer", None), turns)
        with chat_date.rendering_on(self.chat_date):
            rendered: str = self.inner.apply_chat_template(
                list(turns), add_generation_prompt=add_generation_prompt
            )
        return rendered

    def generate(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        """One continuation per prompt; ``settings`` are lm-eval's ``gen_kwargs``."""
        if not prompts:
            return []
        return self.generate_until(self._instances(prompts, settings))

    def generate_until(self, requests: Sequence[Any], bare: bool = False) -> list[str]:
        """The texts that lm-eval's own ``requests`` ask for, each with generation settings of its own.

        Args:
            bare: as the lm-eval model itself batches and decodes them.
        """
        texts = as_texts(self.name, self.inner.generate_until(list(requests)), len(requests))
        self.count([request.args[0] for request in requests], texts)
        return texts

    def sample(
        self, prompts: Sequence[str], settings: Mapping[str, Any], n: int
    ) -> list[list[str]]:
        """[n_prompts][n] continuations; for n = 1 as :meth:`generate`."""
        if n > 1 and self._fixed_seed:
            # lm-eval sends these servers one seed with every request: equal prompts, equal "samples"
            columns = [self.generate(prompts, {**settings, "seed": i}) for i in range(n)]
            return [list(row) for row in zip(*columns, strict=True)]
        flat = iter(self.generate([p for p in prompts for _ in range(n)], settings))
        return [[next(flat) for _ in range(n)] for _ in prompts]

    def refused(self, prompt: Any) -> str:
        """How the server refused ``prompt`` in this run (``refusal``, ``content_filter``); else empty."""
        return ""

    def api_counts(self) -> dict[str, Any]:
        """What happened to its requests, where it is a server asked by ourselves; else empty."""
        return {}

    @property
    def takes_schema(self) -> bool:
        """True where ``json_schema`` in generation settings binds the answer's form."""
        return False

    def resolve(self, readout: str) -> str:
        """The readout that ``readout`` comes to with this LLM.

        Raises:
            PluralismError: it needs a server (``llm=openai``).
        """
        if readout in ("echo", "top_logprobs"):
            raise PluralismError(
                f"readout={readout} reads a server's replies (llm=openai); {self.name} is read with readout=options"
            )
        return readout

    @property
    def _is_server(self) -> bool:
        """True for lm-eval's clients of servers, and ours."""
        return self._fixed_seed

    @property
    def _fixed_seed(self) -> bool:
        from lm_eval.models.api_models import TemplateAPI

        return isinstance(self.inner, TemplateAPI)

    def continuation_logprobs(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[OptionScores]:
        """Log-likelihood of every continuation: [n_prompts] scores with [n_options] nats."""
        pairs = [(p, c) for p, options in zip(prompts, continuations, strict=True) for c in options]
        scored = iter(self._loglikelihood(pairs))
        results = []
        for options in continuations:
            part = [next(scored) for _ in options]
            greedy = next((i for i, (_, is_greedy) in enumerate(part) if is_greedy), -1)
            results.append(OptionScores(tuple(float(ll) for ll, _ in part), greedy))
        return results

    def text_logprobs(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[TextScore]]:
        """How likely each text is to go on from its prompt: [n_prompts][n_texts].

        Args:
            prompts: [n_prompts].
            texts: [n_prompts][n_texts] continuations, with the space before them where there is one.
        """
        self.check_no_thought(prompts)
        pairs = [(p, t) for p, own in zip(prompts, texts, strict=True) for t in own]
        scored = iter(zip(self._loglikelihood(pairs), pairs, strict=True))
        return [[self._text_score(*next(scored)) for _ in own] for own in texts]

    def _text_score(self, answer: tuple[float, bool], pair: tuple[str, str]) -> TextScore:
        encode = getattr(self.inner, "_encode_pair", None)
        try:
            tokens = len(encode(*pair)[1]) if encode else self.count_tokens(pair[1])
        except (AttributeError, NotImplementedError, TypeError):
            tokens = self.count_tokens(pair[1])
        return TextScore(float(answer[0]), max(tokens, 1), bool(answer[1]))

    def option_logprobs(
        self,
        prompts: Sequence[str],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
        readout: str = "letters",
    ) -> list[OptionScores]:
        """Probability of each option letter as next text, its spellings (``A``, `` A``) summed.

        Args:
            prompts: [n_prompts].
            letters: [n_prompts][n_options].
            top_tokens: only for models with a full distribution (:class:`~pluralism_eval.llm.hf.HFLLM`).
            readout: what :meth:`resolve` gave; servers have more than one.
        """
        if top_tokens is not None:
            raise PluralismError(
                f"preset=reference reads the {top_tokens} likeliest tokens, which {self.name} does not expose "
                "through lm-eval; use preset=paper or a transformers model (llm=hf)"
            )
        spelled = [
            [self._spellings(p, letter) for letter in options]
            for p, options in zip(prompts, letters, strict=True)
        ]
        pairs = [
            (p, s)
            for p, options in zip(prompts, spelled, strict=True)
            for forms in options
            for s in forms
        ]
        scored = iter(self._loglikelihood(pairs))
        results = []
        for options in spelled:
            parts = [[next(scored) for _ in forms] for forms in options]
            greedy = next((i for i, part in enumerate(parts) if any(g for _, g in part)), -1)
            results.append(
                OptionScores(
                    tuple(float(logsumexp([ll for ll, _ in part])) for part in parts), greedy
                )
            )
        return results

    def check_scoring(self) -> None:
        """Raises PluralismError if the model has no log-probabilities. One tiny request, once."""
        if self._can_score is None:
            try:
                self.inner.loglikelihood(
                    [self._instance("loglikelihood", ("Question: 1 or 2?\nAnswer:", " 1"), 0)]
                )
                self._can_score = True
            except NotImplementedError:
                self._can_score = False
        if not self._can_score:
            raise PluralismError(
                f"{self.name} gives no log-probabilities, which readout=options needs. Read its words instead "
                "(readout=sampled, verbalised or generated), use a model that gives them (hf, vllm, local-completions, "
                "openai-completions), or only generation tasks (pluralism_overton_nli)"
            )

    def check_no_thought(self, prompts: Sequence[Any]) -> None:
        """Raises PluralismError where options would be read from within a thought that the prompt opens."""
        check_no_thought(self.name, prompts, bool(getattr(self.inner, "enable_thinking", None)))

    def new_tokens(self, settings: Mapping[str, Any]) -> int:
        """The most tokens of a text with these generation settings."""
        default = int(getattr(self.inner, "max_gen_toks", None) or 256)
        limit: int = normalised(settings, default, self._is_server)["max_gen_toks"]
        return limit

    def _spellings(self, prompt: str, letter: str) -> list[str]:
        forms = [f" {letter}", letter]
        encode = getattr(self.inner, "_encode_pair", None)
        if encode is None or not isinstance(prompt, str):
            return forms
        try:
            encoded = {tuple(encode(prompt, form)[1]): form for form in forms}
        except (AttributeError, NotImplementedError, TypeError):
            return forms
        return list(encoded.values())  # one entry where both spellings are the same tokens

    def _loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        if not pairs:
            return []
        self.check_no_thought([prompt for prompt, _ in pairs])
        unique = list(dict.fromkeys(pairs))
        requests = [self._instance("loglikelihood", pair, i) for i, pair in enumerate(unique)]
        answers = self.inner.loglikelihood(requests)
        _check_count(self.name, len(answers), len(unique))
        known = dict(zip(unique, answers, strict=True))
        self.count([prompt for prompt, _ in unique])
        return [known[pair] for pair in pairs]

    def count(self, prompts: Sequence[Any], texts: Sequence[str] = ()) -> None:
        """Add prompts sent and texts generated to :attr:`usage`."""
        tokens = {prompt: self.count_tokens(str(prompt)) for prompt in dict.fromkeys(prompts)}
        new = sum(self.count_tokens(text) for text in texts)
        self.usage.add(len(prompts), sum(tokens[prompt] for prompt in prompts), new)

    def _instances(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[Any]:
        return [
            self._instance("generate_until", (prompt, dict(settings)), i)
            for i, prompt in enumerate(prompts)
        ]

    @staticmethod
    def _instance(kind: str, arguments: tuple[Any, ...], index: int) -> Any:
        from lm_eval.api.instance import Instance

        return Instance(kind, doc={}, arguments=arguments, idx=0, metadata=("pluralism", index, 1))


def as_texts(name: str, answers: Sequence[Any], n: int) -> list[str]:
    """[n] texts of a model called ``name``; one that it did not write (None) is empty, and counted as such.

    A lone surrogate, which JSON may hold, is no text that can be sent or stored: it becomes "?".

    Raises:
        PluralismError: another number of texts.
    """
    _check_count(name, len(answers), n)
    return ["" if t is None else str(t).encode("utf-8", "replace").decode() for t in answers]


def _check_count(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise PluralismError(
            f"{name} gave {found} answers to {wanted} requests; its lm-eval model is broken"
        )
