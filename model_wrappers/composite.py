"""CompositeLM: lm-eval's Instances → Queries → ``answer()`` → responses in request order.

A method is a subclass with one function, ``answer(queries) -> answers``, which works in rounds over
all queries at once. Everything between lm-eval and that function is here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from lm_eval.api.model import LM

from pluralism_eval import __version__, context, ranks, readouts, requests, uncertainty, variants
from pluralism_eval import settings as settings_module
from pluralism_eval.answers import AnswerCache, bypass
from pluralism_eval.cache import digest
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.distribution import read
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_choice
from pluralism_eval.schema import Answer, OptionScores, Query, Sent
from pluralism_eval.secrets import without_secrets
from pluralism_eval.transcript import Transcript
from pluralism_eval.usage import Usage

log = logging.getLogger(__name__)

BLOCK = 512
"""Queries answered together: their answers are in the cache (--use_cache) before the next block begins."""


class CompositeLM(LM):
    """An lm-eval model made of an LLM and, for some methods, a pool of community LMs."""

    method: ClassVar[str]
    uses_communities: ClassVar[bool] = False

    def __init__(
        self,
        batch_size: int | str | None = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **model_args: Any,
    ) -> None:
        """
        Args:
            batch_size, max_batch_size, device: lm-eval's flags, handed to the LLM.
            model_args: see :class:`pluralism_eval.settings.Settings`.

        Raises:
            PluralismError: all problems of the settings, then of the pool, before a model is loaded.
        """
        super().__init__()
        s = self.settings = settings_module.parse(self.method, model_args)
        self.preset = get_preset(s.preset)
        self.prompts = Prompts(s.prompts)
        if s.templates > self.prompts.variants(self.method):
            raise PluralismError(
                f"templates={s.templates}: {self.method} has {self.prompts.variants(self.method)} wording(s); "
                "lower it, or add more (prompts=FILE with names such as respond.2)"
            )
        self._pool = make_pool(s, self.prompts) if self.uses_communities else None
        if self._pool and self._pool.exported and s.message_samples > 1:
            raise PluralismError(
                f"message_samples={s.message_samples}: the exported files in messages={s.messages!r} hold one "
                "message an item; drop message_samples"
            )
        self.weights = (
            settings_module.read_weights(s.weights, self._pool.names) if self._pool else []
        )
        self.llm = load_llm(s, batch_size, max_batch_size, device)
        self.inner = self.llm.inner
        self._used_before = replace(self.llm.usage)
        self.transcript = Transcript(self.method, s.transcript)
        self._answers: AnswerCache | None = None
        self.resolved: str | None = None
        """The readout of our option tasks, once the LLM was asked what it gives."""

    # ------------------------------------------------------------------ the method

    def answer(self, queries: list[Query]) -> list[Answer]:
        """Answers to ``queries``, in their order."""
        raise NotImplementedError

    def passes_through(self, query: Query) -> bool:
        """True where the LLM's own answer is wanted, to the last digit (vanilla)."""
        return False

    # ------------------------------------------------------------------ lm-eval's three calls

    @ranks.together()
    def loglikelihood(
        self, requests_: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        ours = any((r.doc or {}).get("pluralism") for r in requests_ if isinstance(r.doc, dict))
        if ours and self.resolved is None:
            self.resolved = self.llm.resolve(self.settings.readout)
        queries, places = requests.option_queries(
            requests_, self.settings, self.preset, self.resolved
        )
        plain = [i for i, (q, _) in enumerate(places) if self.passes_through(queries[q])]
        direct = dict(
            zip(
                plain, self._inner_call("loglikelihood", [requests_[i] for i in plain]), strict=True
            )
        )
        self._record_direct([requests_[i] for i in plain], list(direct.values()))
        composed = [i for i in range(len(queries)) if not self.passes_through(queries[i])]
        if any(readouts.needs_logprobs(queries[i]) for i in composed):
            self.llm.check_scoring()
        answers = dict(zip(composed, self._answer_all([queries[i] for i in composed]), strict=True))
        results = []
        for i, (q, option) in enumerate(places):
            results.append(direct[i] if i in direct else _response(answers[q], option))
        return results

    @ranks.together()
    def generate_until(self, requests_: list[Any], disable_tqdm: bool = False) -> list[str]:
        queries = requests.text_queries(requests_, self.settings, self.preset)
        plain = [i for i, query in enumerate(queries) if self.passes_through(query)]
        direct = dict(
            zip(
                plain,
                self._inner_call("generate_until", [requests_[i] for i in plain]),
                strict=True,
            )
        )
        self._record_direct([requests_[i] for i in plain], list(direct.values()))
        rest = [i for i in range(len(queries)) if i not in direct]
        answers = dict(zip(rest, self._answer_all([queries[i] for i in rest]), strict=True))
        return [direct[i] if i in direct else answers[i].text for i in range(len(queries))]

    def loglikelihood_rolling(
        self, requests_: list[Any], disable_tqdm: bool = False
    ) -> list[float]:
        raise PluralismError(
            f"{self.method} has no perplexity: a document is not a query that communities could comment on. "
            "Run perplexity tasks with --model vanilla or the bare model"
        )

    def _answer_all(self, queries: list[Query]) -> list[Answer]:
        """``answer`` once per distinct query, from the answer cache where there is one.

        By blocks of all queries, whichever are known: an interrupted run goes on at its last block with
        the batches it would have had.
        """
        if not queries:
            return []
        self._check(queries)
        unique = list({query.key: query for query in queries}.values())
        known = ranks.agree(self._answers.load(unique)) if self._answers else {}
        for start in range(0, len(unique), BLOCK):
            block = unique[start : start + BLOCK]
            todo = [query for query in block if query.key not in known]
            if todo:
                fresh = self._answer_variants(todo)
                if self._answers:
                    self._answers.save(todo, fresh)
                known |= fresh
            for query in block:
                self.transcript.write(query, known[query.key])
        return [known[query.key] for query in queries]

    def _answer_variants(self, queries: Sequence[Query]) -> dict[str, Answer]:
        """Query key → answer over all ways in which the query is asked, in one call of ``answer``."""
        s = self.settings
        ways = [variants.expand(query, s.templates, s.message_samples) for query in queries]
        answers = iter(self.answer([way for own in ways for way in own]))
        return {
            query.key: variants.combine(own, [next(answers) for _ in own])
            for query, own in zip(queries, ways, strict=True)
        }

    def _check(self, queries: Sequence[Query]) -> None:
        """What can be known before anything is generated."""
        bad = [q.key for q in queries if q.readout != "generation" and not q.options]
        if bad:
            raise PluralismError(
                f"{len(bad)} docs have no options, e.g. {bad[0]}; drop them from the data"
            )
        if self.method == "modular_pluralism":
            for query in queries:
                requests.check_mode(query)
        if self._pool:
            s = self.settings
            ways = [w for q in queries for w in variants.expand(q, 1, s.message_samples)]
            self._pool.check(ways, self.llm)

    def _inner_call(self, name: str, requests_: list[Any]) -> list[Any]:
        """The inner model's own answer to lm-eval's own requests (chat templating done)."""
        if not requests_:
            return []
        rendered = [requests.render_direct(r, self.llm) for r in requests_]
        results: list[Any] = getattr(self.inner, name)(rendered)
        texts = [str(text) for text in results] if name == "generate_until" else []
        self.llm.count([r.args[0] for r in rendered], texts)
        return results

    def _record_direct(self, requests_: Sequence[Any], responses: Sequence[Any]) -> None:
        for request, response in zip(requests_, responses, strict=True):
            rendered = requests.render_direct(request, self.llm)
            prompt = rendered.args[0]
            self.transcript.write_direct(request, str(prompt), response, self.llm.refused(prompt))

    # ------------------------------------------------------------------ what methods are made of

    @property
    def pool(self) -> CommunityPool:
        assert self._pool is not None, f"{self.method} has no communities"
        return self._pool

    def wording(self, name: str, query: Query, **values: Any) -> str:
        """This method's template ``name`` for ``query``."""
        return self.prompts.render(
            self.method,
            name,
            query.template,
            query=query.text,
            attribute=query.attribute,
            attribute_line=query.attribute_line,
            steer_line=query.steer_line,
            **values,
        )

    def fitted(
        self, query: Query, name: str, passages: Sequence[str], reserve: int, **values: Any
    ) -> tuple[str, int]:
        """Template ``name`` with passages cut to fit the LLM, and the tokens cut."""
        return context.fit(
            lambda texts: requests.render(
                query, self.wording(name, query, messages=texts, **values), self.llm
            ),
            passages,
            self.llm.count_tokens,
            self.llm.max_length - reserve,
        )

    def respond(
        self, queries: Sequence[Query], names: Sequence[str], passages: Sequence[Sequence[str]]
    ) -> list[tuple[str, OptionScores | None, Sent]]:
        """The answering round: one prompt per query, all in one batch per kind of readout.

        Returns:
            [n_queries] of (text, option scores or None, what was sent).
        """
        shown = [replace(q, text=readouts.asked(q, self.prompts)) for q in queries]
        prompts = [
            self.fitted(q, name, texts, requests.reserve(q, self.llm))
            for q, name, texts in zip(shown, names, passages, strict=True)
        ]
        texts = [""] * len(queries)
        scores: list[OptionScores | None] = [None] * len(queries)
        scored = [i for i, q in enumerate(queries) if q.readout != "generation"]
        found = readouts.option_scores(
            self.llm,
            [queries[i] for i in scored],
            [prompts[i][0] for i in scored],
            self.preset,
            self.settings.readout_samples,
        )
        for i, score in zip(scored, found, strict=True):
            scores[i] = score
        generated = [i for i, q in enumerate(queries) if q.readout == "generation"]
        for gen_kwargs, indices in requests.by_generation(queries, generated):
            for i, text in zip(
                indices,
                self.llm.generate([prompts[i][0] for i in indices], gen_kwargs),
                strict=True,
            ):
                texts[i] = text
        return [
            (text, score, Sent("respond", prompt, cut, score, self.llm.refused(prompt)))
            for (prompt, cut), text, score in zip(prompts, texts, scores, strict=True)
        ]

    def answered(self, reply: tuple[str, OptionScores | None, Sent], **trace: Any) -> Answer:
        """The answer that one prompt's ``reply`` is, with the fields of :class:`Answer` in ``trace``."""
        text, scores, sent = reply
        if scores is None:
            return Answer(text, sent=(*trace.pop("sent", ()), sent), **trace)
        least, samples = uncertainty.mixed([uncertainty.part(scores)])
        return Answer(
            text,
            scores.logprobs,
            scores.greedy,
            sent=(*trace.pop("sent", ()), sent),
            lower=least,
            samples=samples,
            **trace,
        )

    def choose(
        self,
        queries: Sequence[Query],
        name: str,
        passages: Sequence[Sequence[str]],
        n: int,
        **values: Any,
    ) -> list[tuple[int, str, bool, Sent]]:
        """The selection round: the LLM names a number from 1 to ``n``.

        Returns:
            [n_queries] of (index from 0, the LLM's words, fallback taken, what was sent).
        """
        tokens = self.preset.choice_max_tokens
        prompts = [
            self.fitted(q, name, texts, tokens, **values)
            for q, texts in zip(queries, passages, strict=True)
        ]
        gen_kwargs = readouts.decoding(self.preset.llm_temperature, tokens, ["\n"])
        replies = self.llm.generate([prompt for prompt, _ in prompts], gen_kwargs)
        chosen = []
        for query, (prompt, cut), reply in zip(queries, prompts, replies, strict=True):
            index = parse_choice(reply, n)
            fallback = index is None
            if index is None:
                index = (
                    int(
                        digest(
                            [
                                self.settings.seed,
                                query.task,
                                query.source_id,
                                query.text,
                                query.attribute,
                            ]
                        )[:8],
                        16,
                    )
                    % n
                )
            sent = Sent("select", prompt, cut, refused=self.llm.refused(prompt))
            chosen.append((index, reply, fallback, sent))
        return chosen

    # ------------------------------------------------------------------ chat, caching, ranks

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Postpones templating: the prompt is rewritten first. See :mod:`pluralism_eval.requests`."""
        return requests.encode_chat(chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        template: str | None = self.inner.chat_template(chat_template)
        return template

    @property
    def tokenizer_name(self) -> str:
        return f"pluralism-eval/{self.method}/{digest([self.llm.name, __version__])[:16]}"

    def set_cache_hook(self, cache_hook: Any) -> None:
        """``--use_cache``: lm-eval's cache knows neither model nor doc, so ours takes its place."""
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            self._answers = AnswerCache(bypass(cache_hook.dbdict), self.fingerprint())

    def fingerprint(self) -> str:
        """Hash of everything an answer depends on besides its query."""
        s = asdict(self.settings)
        for name in ("transcript", "batch_tokens", "message_batch", "llm_args", "messages"):
            s.pop(name)
        exported = self.settings.messages if self._pool and self._pool.exported else None
        communities = self._pool.identity() if self._pool else []
        return digest(
            [__version__, self.method, s, self.llm.name, self.prompts.texts, communities, exported]
        )

    def get_model_info(self) -> dict[str, Any]:
        """Merged by lm-eval into ``results["config"]``: what this run was, and its rates."""
        info: dict[str, Any] = (
            self.inner.get_model_info() if hasattr(self.inner, "get_model_info") else {}
        )
        ours = {
            "version": __version__,
            "method": self.method,
            "llm": self.llm.name,
            "preset": self.preset.name,
            "mode": self.settings.mode,
            "readout": self.settings.readout,
            "readout_used": self.resolved or self.settings.readout,
            "seed": self.settings.seed,
            "communities": self._pool.identity() if self._pool else [],
            "liveness": self._pool.proofs() if self._pool else {},
            "weights": self.weights,
            "fingerprint": self.fingerprint(),
            "transcript": str(self.transcript.path),
            "rates": self.transcript.rates(),
            "usage": self.usage(),
        }
        servers = {"llm": self.llm.api_counts(), **(self._pool.api_counts() if self._pool else {})}
        ours["api"] = {name: counts for name, counts in servers.items() if counts}
        args = without_secrets(asdict(self.settings))
        return info | {"model_args": {"method": self.method, **args}, "pluralism": ours}

    def usage(self) -> dict[str, dict[str, int]]:
        """Calls and tokens of the LLM and of the communities since this method was built, in all processes."""
        communities = self._pool.usage if self._pool else Usage()
        llm = self.llm.usage.since(self._used_before)
        return {"llm": llm.as_dict(), "communities": communities.as_dict()}

    @property
    def rank(self) -> int:
        """What lm-eval is told in every process: it would deal out docs, and here batches are shared."""
        return 0

    @property
    def world_size(self) -> int:
        return 1

    @property
    def device(self) -> Any:
        return self.inner.device

    @property
    def max_length(self) -> int:
        return self.llm.max_length

    def __getattr__(self, name: str) -> Any:
        # what lm-eval reads from a model beyond the LM interface
        if name in ("tokenizer", "batch_sizes", "eot_token_id"):
            return getattr(self.inner, name)
        raise AttributeError(name)


def _response(answer: Answer, option: int) -> tuple[Any, ...]:
    """lm-eval's (log-probability, is greedy); after them, where the distribution is not exact, the
    option's least probability and the samples that it is worth."""
    plain = (answer.logprobs[option], answer.greedy == option)
    if not answer.lower and not answer.samples:
        return plain
    distribution, _ = read(answer.logprobs)
    return (*plain, (answer.lower or distribution)[option], answer.samples)
