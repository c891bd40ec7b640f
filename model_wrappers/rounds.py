"""What methods are made of: prompts that fit the LLM, and rounds over all queries at once.

A method is a subclass of :class:`~.composite.CompositeLM` with one function, ``answer(queries) -> answers``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from lm_eval.api.model import LM

from pluralism_eval import (
    context,
    passages,
    readouts,
    requests,
    selecting,
    uncertainty,
    utilisation,
)
from pluralism_eval import settings as settings_module
from pluralism_eval.cache import digest
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_choice
from pluralism_eval.schema import Answer, Message, OptionScores, Query, Sent

Choice = tuple[int, str, bool, tuple[Sent, ...]]
"""Which community: its index from 0, the LLM's words or figures, whether a fallback was taken, and what was sent."""


@dataclass(frozen=True)
class Prompt:
    """One prompt that a method will send about a query: known before any message is."""

    name: str
    """Its template."""
    passages: int
    """How many messages it shows."""
    round: Literal["select", "respond"] = "respond"
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the template takes besides the query and its messages."""


class Rounds(LM):
    """An LLM, for some methods a pool of community LMs, and what a method asks of them."""

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

    def answer(self, queries: list[Query]) -> list[Answer]:
        """Answers to ``queries``, in their order."""
        raise NotImplementedError

    def prompts_of(self, query: Query) -> list[Prompt]:
        """Every kind of prompt that ``answer`` will send about ``query``."""
        raise NotImplementedError

    def passes_through(self, query: Query) -> bool:
        """True where the LLM's own answer is wanted, to the last digit (vanilla)."""
        return False

    # ------------------------------------------------------------------ prompts

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

    @cached_property
    def special(self) -> re.Pattern[str]:
        """What no message may smuggle into a prompt of this LLM."""
        own = getattr(self.llm, "tokenizer", None) or getattr(self.inner, "tokenizer", None)
        return passages.markers(own)

    def _delimited(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """``texts`` as the LLM may see them, and how many special tokens in each were broken."""
        if self.preset.passages != "delimited":
            return list(texts), [0] * len(texts)
        made = [passages.delimited(text, self.special) for text in texts]
        return [text for text, _ in made], [n for _, n in made]

    def fitted(self, query: Query, prompt: Prompt, messages: Sequence[Message]) -> Sent:
        """``prompt`` about ``query`` with ``messages`` as passages, cut to fit the LLM."""
        shown, broken = self._delimited([m.text for m in messages])
        render = partial(self._rendered, query, prompt)
        text, cuts = context.fit(render, shown, self.llm.count_tokens, self._room(query, prompt))
        return Sent(
            prompt.round,
            text,
            sum(cuts),
            cuts={m.community: n for m, n in zip(messages, cuts, strict=True) if n},
            broken={m.community: n for m, n in zip(messages, broken, strict=True) if n},
        )

    def _rendered(self, query: Query, prompt: Prompt, texts: Sequence[str]) -> Any:
        shown = query
        if prompt.round == "respond":
            shown = replace(query, text=readouts.asked(query, self.prompts))
        elif prompt.name in (selecting.REFLECT, selecting.COMMENT):
            shown = replace(query, text=selecting.subject(query, self.prompts))
        text = self.wording(prompt.name, shown, messages=texts, **prompt.values)
        return requests.render(query, text, self.llm)

    def _room(self, query: Query, prompt: Prompt) -> int:
        """Tokens that ``prompt`` may have beside its reply."""
        choice = prompt.round == "select"
        reply = self.preset.choice_max_tokens if choice else requests.reserve(query, self.llm)
        return self.llm.max_length - reply

    # ------------------------------------------------------------------ rounds

    def respond(
        self,
        queries: Sequence[Query],
        prompts_: Sequence[Prompt],
        messages: Sequence[Sequence[Message]],
    ) -> list[tuple[str, OptionScores | None, Sent]]:
        """The answering round: one prompt per query, all in one batch per kind of readout.

        Returns:
            [n_queries] of (text, option scores or None, what was sent).
        """
        sent = [
            self.fitted(q, prompt, own)
            for q, prompt, own in zip(queries, prompts_, messages, strict=True)
        ]
        prompts = [s.prompt for s in sent]
        texts = [""] * len(queries)
        scores: list[OptionScores | None] = [None] * len(queries)
        scored = [i for i, q in enumerate(queries) if q.readout != "generation"]
        with utilisation.phase("options"):
            found = readouts.option_scores(
                self.llm,
                [queries[i] for i in scored],
                [prompts[i] for i in scored],
                self.preset,
                self.settings.readout_samples,
                self.settings.cloze_normalisation,
                [self._alone(queries[i]) for i in scored]
                if self.settings.cloze_normalisation == "pmi"
                else (),
            )
        for i, score in zip(scored, found, strict=True):
            scores[i] = score
        generated = [i for i, q in enumerate(queries) if q.readout == "generation"]
        for gen_kwargs, indices in requests.by_generation(queries, generated):
            with utilisation.phase("responses"):
                written = self.llm.generate([prompts[i] for i in indices], gen_kwargs)
            for i, text in zip(indices, written, strict=True):
                texts[i] = text
        return [
            (text, score, replace(s, scores=score, refused=self.llm.refused(s.prompt)))
            for s, text, score in zip(sent, texts, scores, strict=True)
        ]

    def _alone(self, query: Query) -> str:
        """The question of a cloze alone: no message, no attribute, nothing of the method's."""
        return requests.render(query, readouts.asked(query, self.prompts), self.llm)

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
        prompt: Prompt,
        messages: Sequence[Sequence[Message]],
        n: int,
    ) -> list[Choice]:
        """The selection round: the LLM names a number from 1 to ``n``.

        Returns:
            [n_queries].
        """
        shown = [self.fitted(q, prompt, own) for q, own in zip(queries, messages, strict=True)]
        tokens = self.preset.choice_max_tokens
        gen_kwargs = readouts.decoding(self.preset.llm_temperature, tokens, ["\n"])
        with utilisation.phase("selection"):
            replies = self.llm.generate([sent.prompt for sent in shown], gen_kwargs)
        chosen: list[Choice] = []
        for query, sent, reply in zip(queries, shown, replies, strict=True):
            index = parse_choice(reply, n)
            fallback = index is None
            sent = replace(sent, refused=self.llm.refused(sent.prompt))
            place = self._any(query, n) if index is None else index
            chosen.append((place, reply, fallback, (sent,)))
        return chosen

    def choose_likeliest(
        self, queries: Sequence[Query], messages: Sequence[Sequence[Message]]
    ) -> list[Choice]:
        """:meth:`choose` by the likelihood of each message: see :mod:`pluralism_eval.selecting`.

        Returns:
            As :meth:`choose`; in place of words the gain of each message, in nats a token.
        """
        given, alone = (
            [self._rendered(query, Prompt(name, 0, "select"), ()) for query in queries]
            for name in (selecting.REFLECT, selecting.COMMENT)
        )
        made = [self._delimited([" ".join(m.text.split()) for m in own]) for own in messages]
        with utilisation.phase("selection"):
            gains, cuts = selecting.gains(
                self.llm, queries, given, alone, [texts for texts, _ in made]
            )
        chosen: list[Choice] = []
        for i, (query, values) in enumerate(zip(queries, gains, strict=True)):
            names = [m.community for m in messages[i]]
            lost = {name: n for name, n in zip(names, cuts[i], strict=True) if n}
            broken = {name: n for name, n in zip(names, made[i][1], strict=True) if n}
            index = selecting.likeliest(values)
            sent = (
                Sent("select", given[i], sum(cuts[i]), cuts=lost, broken=broken),
                Sent("select", alone[i]),
            )
            told = "gain in nats a token: " + ", ".join(f"{value:+.4f}" for value in values)
            place = self._any(query, len(values)) if index is None else index
            chosen.append((place, told, index is None, sent))
        return chosen

    def _any(self, query: Query, n: int) -> int:
        """The seeded fallback where no selection can be read: an index below ``n``."""
        of = [self.settings.seed, query.task, query.source_id, query.text, query.attribute]
        return int(digest(of)[:8], 16) % n
