"""CompositeLM: lm-eval's Instances → Queries → ``answer()`` → responses in request order.

A method is a subclass with one function, ``answer(queries) -> answers``, which works in rounds over
all queries at once (:mod:`.rounds`). Everything between lm-eval and that function is here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from pluralism_eval import (
    __version__,
    context,
    heard,
    listening,
    ranks,
    readouts,
    requests,
    utilisation,
    variants,
)
from pluralism_eval.answers import AnswerCache, bypass
from pluralism_eval.behind import Behind
from pluralism_eval.cache import digest
from pluralism_eval.distribution import read
from pluralism_eval.errors import PluralismError
from pluralism_eval.recorded import TRANSCRIPT, file_sha256
from pluralism_eval.schema import Answer, Query
from pluralism_eval.secrets import without_secrets
from pluralism_eval.transcript import Transcript
from pluralism_eval.usage import Usage

from .rounds import Rounds

log = logging.getLogger(__name__)
BLOCK = 512
"""Queries answered together: while the next block is, their answers are written into the cache (--use_cache)."""


class CompositeLM(Rounds):
    """An lm-eval model made of an LLM and, for some methods, a pool of community LMs."""

    def __init__(self, **given: Any) -> None:
        """See the base class."""
        super().__init__(**given)
        self._used_before = replace(self.llm.usage)
        self._worked_before = utilisation.snapshot()
        self.transcript = Transcript(self.method, self.settings.transcript)
        self._answers: AnswerCache | None = None
        self.resolved: str | None = None
        """The readout of our option tasks, once the LLM was asked what it gives."""
        self.listening: dict[str, Any] = {}
        """How far the LLM moves with its messages, once a method with communities was asked anything."""

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
        direct = dict(zip(plain, self._direct_scores([requests_[i] for i in plain]), strict=True))
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
        direct = dict(zip(plain, self._direct_texts([requests_[i] for i in plain]), strict=True))
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
        the batches it would have had. What was sent and said is in the transcript then, and no longer in
        the answers that are returned.
        """
        if not queries:
            return []
        skipped = self._check(queries)
        self._listen(queries)
        unique = list({query.key: query for query in queries}.values())
        kept = ranks.agree(self._answers.known(unique)) if self._answers else set()
        answers: dict[str, Answer] = {}
        with Behind() as writing:
            for start in range(0, len(unique), BLOCK):
                block = unique[start : start + BLOCK]
                known: dict[str, Answer] = {}
                stored = [query for query in block if query.key in kept]
                if self._answers and stored:
                    known = ranks.agree(self._answers.load(stored))
                known |= {q.key: _unread(q, skipped[q.key]) for q in block if q.key in skipped}
                todo = [query for query in block if query.key not in known]
                if todo:
                    known |= self._answer_variants(todo)
                writing.start(self._write, todo, block, known)
                answers |= {query.key: _without_trace(known[query.key]) for query in block}
        return [answers[query.key] for query in queries]

    def _listen(self, queries: Sequence[Query]) -> None:
        """The manipulation check, once a run; it changes nothing of the run's answers."""
        if self.listening or not self.uses_communities:
            return
        why = listening.unwanted(self.settings)
        if why:
            self.listening = {heard.NOT_MEASURED: why}
            return
        way = listening.way_of(self.llm, self.settings, self.resolved, queries)
        self.listening = listening.listening(
            self.llm, self.prompts, self.settings, self.preset, way
        )
        warning = heard.warning(self.listening, self.llm.name)
        if warning and ranks.is_first():
            log.warning("%s", warning)

    def _write(
        self, todo: Sequence[Query], block: Sequence[Query], answers: Mapping[str, Answer]
    ) -> None:
        """What is new goes into the answer cache, everything into the transcript."""
        if self._answers and todo:
            self._answers.save(todo, answers)
        self.transcript.write((query, answers[query.key]) for query in block)

    def _answer_variants(self, queries: Sequence[Query]) -> dict[str, Answer]:
        """Query key → answer over all ways in which the query is asked, in one call of ``answer``."""
        s = self.settings
        ways = [variants.expand(query, s.templates, s.message_samples) for query in queries]
        answers = iter(self.answer([way for own in ways for way in own]))
        return {
            query.key: variants.combine(own, [next(answers) for _ in own])
            for query, own in zip(queries, ways, strict=True)
        }

    def _check(self, queries: Sequence[Query]) -> dict[str, str]:
        """What can be known before anything is generated.

        Returns:
            query key → why it is skipped (``overlong=skip``).
        """
        bad = [q.key for q in queries if q.readout != "generation" and not q.options]
        if bad:
            raise PluralismError(
                f"{len(bad)} docs have no options, e.g. {bad[0]}; drop them from the data"
            )
        if self.method == "modular_pluralism":
            for query in queries:
                requests.check_mode(query)
            by_likelihood = self.settings.selection == "likelihood"
            if by_likelihood and any(query.mode == "steerable" for query in queries):
                self.llm.resolve(self.settings.readout)
                self.llm.check_scoring()
        overlong = {query.key: why for query in queries if (why := self._overlong(query))}
        if overlong and self.settings.overlong == "error":
            raise PluralismError(
                f"{len(overlong)} of {len(queries)} queries do not fit the LLM, e.g. {next(iter(overlong))}: "
                f"{next(iter(overlong.values()))}"
            )
        if self._pool:
            s, asked = self.settings, [q for q in queries if q.key not in overlong]
            ways = [w for q in asked for w in variants.expand(q, 1, s.message_samples)]
            self._pool.check(ways, self.llm)
        return overlong

    def _overlong(self, query: Query) -> str:
        """Why some prompt about ``query`` cannot fit the LLM's window; empty if all can."""
        for way in variants.expand(query, self.settings.templates, 1):
            for prompt in self.prompts_of(way):
                render = partial(self._rendered, way, prompt)
                why = context.missing(
                    render, prompt.passages, self.llm.count_tokens, self._room(way, prompt)
                )
                if why:
                    return why
        return ""

    def _direct_scores(self, requests_: list[Any]) -> list[tuple[float, bool]]:
        """The inner model's own answer to lm-eval's own requests (chat templating done)."""
        if not requests_:
            return []
        rendered = [
            requests.render_direct(r, self.llm, bool(self.settings.chat)) for r in requests_
        ]
        self.llm.check_no_thought([r.args[0] for r in rendered])
        results: list[tuple[float, bool]] = self.inner.loglikelihood(rendered)
        readouts.check_logprobs(self.llm.name, [[float(value)] for value, *_ in results])
        self.llm.count([r.args[0] for r in rendered])
        return results

    def _direct_texts(self, requests_: list[Any]) -> list[str]:
        """As :meth:`_direct_scores`."""
        rendered = [
            requests.render_direct(r, self.llm, bool(self.settings.chat)) for r in requests_
        ]
        bare = self.settings.readout == "harness"
        return self.llm.generate_until(rendered, bare) if rendered else []

    def _record_direct(self, requests_: Sequence[Any], responses: Sequence[Any]) -> None:
        for request, response in zip(requests_, responses, strict=True):
            rendered = requests.render_direct(request, self.llm, bool(self.settings.chat))
            prompt = rendered.args[0]
            text = str(getattr(prompt, "prompt", prompt))
            room = self.llm.max_length - requests.reply_tokens(request, self.llm)
            over = len(text.encode()) > room and self.llm.count_tokens(prompt) > room
            refused = self.llm.refused(prompt)
            self.transcript.write_direct(request, str(prompt), response, refused, over)

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
        return f"pluralism-eval/{self.method}/{digest([self.llm.identity, self.settings.chat_date, __version__])[:16]}"

    def set_cache_hook(self, cache_hook: Any) -> None:
        """``--use_cache``: lm-eval's cache knows neither model nor doc, so ours takes its place."""
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            self._answers = AnswerCache(bypass(cache_hook.dbdict), self.fingerprint())

    def _cloze(self) -> dict[str, Any]:
        cloze = "cloze" in (self.resolved, self.settings.readout)
        return {"cloze_normalisation": self.settings.cloze_normalisation} if cloze else {}

    def fingerprint(self) -> str:
        """Hash of everything an answer depends on besides its query."""
        s = asdict(self.settings)
        for name in (
            "transcript",
            "batch_tokens",
            "message_batch",
            "listening",
            "llm_args",
            "messages",
        ):
            s.pop(name)
        exported = self.settings.messages if self._pool and self._pool.exported else None
        communities = self._pool.identity() if self._pool else []
        return digest(
            [
                __version__,
                self.method,
                s,
                self.llm.identity,
                self.prompts.texts,
                communities,
                exported,
            ]
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
            "chat": self.settings.chat,
            **self._cloze(),
            **({"listening": self.listening} if self.uses_communities else {}),
            "seed": self.settings.seed,
            "communities": self._pool.identity() if self._pool else [],
            "llm_identity": self.llm.identity,
            "llm_commit": getattr(getattr(self.inner, "config", None), "_commit_hash", None),
            "base_commits": self._pool.base_commits() if self._pool else {},
            "liveness": self._pool.proofs() if self._pool else {},
            "weights": self.weights,
            "fingerprint": self.fingerprint(),
            "transcript": str(self.transcript.path),
            TRANSCRIPT: file_sha256(self.transcript.path),
            "rates": self.transcript.rates(),
            "usage": self.usage(),
        }
        servers = {"llm": self.llm.api_counts(), **(self._pool.api_counts() if self._pool else {})}
        ours["api"] = {name: counts for name, counts in servers.items() if counts}
        args = without_secrets(asdict(self.settings))
        worked = utilisation.describe(utilisation.since(self._worked_before))
        if worked and ranks.is_first():
            utilisation.show(self.method, worked)
        return info | {
            "model_args": {"method": self.method, **args},
            "pluralism": ours,
            "utilisation": worked,
        }

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


def _unread(query: Query, why: str) -> Answer:
    """The answer to a query that was not asked."""
    return Answer(logprobs=(-math.inf,) * len(query.options), skipped=why)


def _without_trace(answer: Answer) -> Answer:
    return replace(answer, messages=(), selections=(), sent=(), readings=())


def _response(answer: Answer, option: int) -> tuple[Any, ...]:
    """lm-eval's (log-probability, is greedy); after them, where the distribution is not exact, the
    option's least probability and the samples that it is worth."""
    plain = (answer.logprobs[option], answer.greedy == option)
    if not answer.lower and not answer.samples:
        return plain
    distribution, _ = read(answer.logprobs)
    return (*plain, (answer.lower or distribution)[option], answer.samples)
