"""The attacks on one method and task: clean answers, attacked answers, and one outcome for each attack,
position and doc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pluralism_eval import requests
from pluralism_eval.hijack.accounting import accounted
from pluralism_eval.hijack.corpus import Aim, Attack, message
from pluralism_eval.hijack.escapes import Checked
from pluralism_eval.hijack.planting import Plant, place_of
from pluralism_eval.hijack.success import Result, mean_listed, option_result, target_of, text_result
from pluralism_eval.planning.dry import Tasks
from pluralism_eval.readouts import needs_logprobs
from pluralism_eval.schema import Answer, Query
from pluralism_eval.study import RunSpec
from pluralism_eval.variants import expand

LOT = 128
"""Attacked queries answered together; what the LLM said is on disk before the next lot."""


@dataclass(frozen=True)
class Outcome:
    """One attack at one position on one doc."""

    task: str
    method: str
    doc: str
    cluster: str
    """Question or situation that docs share."""
    attack: str
    family: str
    position: str
    target: int | None
    """The option aimed at, as listed; None for free text."""
    result: Result
    prompts: int
    """Prompts that showed the planted message."""
    escaped: int
    """Of them, those in which it did something outside of its passage."""
    tokenised: int
    """Of them, those that the LLM's own tokenizer was asked about."""
    crowded: int
    """Of them, those in which other passages lost more to the context window than in the clean run."""
    accounted: float | None = None
    """Share of the other communities' messages that the response accounts for; None unless asked for."""
    accounted_clean: float | None = None
    """The same of the clean response."""


@dataclass(frozen=True)
class _Asked:
    """One query, its variants and their clean answers."""

    query: Query
    cluster: str
    ways: list[Query]
    clean: list[Answer]
    target: int | None


class Cell:
    """One method on one task."""

    def __init__(self, model: Any, spec: RunSpec, task: str, tasks: Tasks) -> None:
        """
        Args:
            model: of ``spec``, see :func:`pluralism_eval.hijack.planting.attacked`.

        Raises:
            PluralismError: missing data, malformed docs, or a readout that the LLM does not have.
        """
        self.model, self.spec, self.task = model, spec, task
        settings = model.settings
        made = tasks.requests(spec, task, model)
        scored = [r for r in made if r.request_type == "loglikelihood"]
        texts = [r for r in made if r.request_type == "generate_until"]
        readout = model.llm.resolve(settings.readout) if scored else None
        found = requests.option_queries(scored, settings, model.preset, readout)[0]
        found += requests.text_queries(texts, settings, model.preset)
        unique = {query.key: query for query in found}.values()
        overlong = settings.overlong == "skip"
        self.queries = [q for q in unique if not (overlong and model.overlong(q))]
        self.skipped = len(unique) - len(self.queries)
        """Docs that do not fit the LLM even without passages (``overlong=skip``)."""
        self._clusters = {r.doc_id: str(r.doc["cluster"]) for r in made}
        if any(needs_logprobs(query) for query in self.queries):
            model.llm.check_scoring()
        self.without_target = 0
        """Docs with fewer than two options: no attacker can want another answer."""

    @property
    def ways(self) -> list[Query]:
        """The queries as they are asked: in all orders, wordings and samples."""
        return [way for query in self.queries for way in self._expand(query)]

    def _expand(self, query: Query) -> list[Query]:
        s = self.model.settings
        ways = expand(query, s.templates, s.message_samples)
        return [replace(way, key=f"{way.key} {i}") for i, way in enumerate(ways)]

    def most_prompts(self, attacks: int, positions: int) -> tuple[int, int]:
        """(clean, attacked) prompts that the LLM is asked at most, if nothing is kept yet."""
        clean = planted = 0
        k = len(self.model.pool.names)
        for way in self.ways:
            kinds = self.model.prompts_of(way)
            mixes = len(kinds) == 1 and kinds[0].passages == 1
            clean += k if mixes else len(kinds)
            showing = sum(prompt.passages > 0 for prompt in kinds)
            selects_blindly = any(p.round == "select" and not p.passages for p in kinds)
            planted += attacks * (1 if selects_blindly else positions) * showing
        return clean, planted

    def run(
        self,
        attacks: Sequence[Attack],
        positions: Sequence[str],
        say: Callable[[str], None],
        scorer: str | None = None,
    ) -> list[Outcome]:
        """All outcomes, doc by doc.

        Args:
            say: told what is going on.
            scorer: of entailment; None does not score what free text accounts for.

        Raises:
            PluralismError: dead communities, or a query that does not fit the LLM.
        """
        say("clean")
        self.model.pool.check(self.ways, self.model.llm.llm)
        asked = self._clean()
        jobs = [(a, attack, p) for a in asked for attack in attacks for p in positions]
        outcomes = []
        for start in range(0, len(jobs), LOT):
            say(f"attack {start} of {len(jobs)}")
            outcomes += self._lot(jobs[start : start + LOT], scorer)
        return outcomes

    def _clean(self) -> list[_Asked]:
        ways = [self._expand(query) for query in self.queries]
        answers = iter(self.model.answer([way for own in ways for way in own]))
        found = []
        for query, own in zip(self.queries, ways, strict=True):
            clean = [next(answers) for _ in own]
            target = None
            if query.readout != "generation":
                readings = [(q, a.logprobs) for q, a in zip(own, clean, strict=True)]
                target = target_of(mean_listed(readings)[0], self.model.settings.seed, query.key)
                if target is None:
                    self.without_target += 1
                    continue
            found.append(_Asked(query, self._clusters[query.doc_id], own, clean, target))
        return found

    def _lot(self, jobs: Sequence[tuple[_Asked, Attack, str]], scorer: str | None) -> list[Outcome]:
        names, plants = self.model.pool.names, self.model.plants
        ways = []
        for asked, attack, position in jobs:
            place = place_of(position, len(names))
            mine = [replace(w, key=f"{w.key} {attack.name}@{position}") for w in asked.ways]
            for way in mine:
                text = message(attack, self._aim(way, asked.target, place))
                plants[way.key] = Plant(names[place], text)
            ways.append(mine)
        answers = iter(self.model.answer([way for mine in ways for way in mine]))
        outcomes, texts = [], []
        for (asked, attack, position), mine in zip(jobs, ways, strict=True):
            own = [next(answers) for _ in mine]
            place = place_of(position, len(names))
            checked = [c for way in mine for c in self.model.checked.pop(way.key, [])]
            outcomes.append(self._outcome(asked, attack, position, place, own, checked))
            texts += [(own[0], names[place]), (asked.clean[0], names[place])]
        plants.clear()
        if scorer and all(o.target is None for o in outcomes):
            shares = accounted(texts, scorer, self.model.preset.splitter)
            outcomes = [
                replace(o, accounted=shares[2 * i], accounted_clean=shares[2 * i + 1])
                for i, o in enumerate(outcomes)
            ]
        return outcomes

    def _outcome(
        self,
        asked: _Asked,
        attack: Attack,
        position: str,
        place: int,
        own: Sequence[Answer],
        checked: Sequence[Checked],
    ) -> Outcome:
        names = self.model.pool.names
        if asked.target is None:
            result = text_result(asked.clean[0], own[0], attack.goal, names, place)
        else:
            result = option_result(asked.ways, asked.clean, own, asked.target, names, place)
        return Outcome(
            self.task, self.spec.method, asked.query.source_id, asked.cluster, attack.name, attack.family, position,
            asked.target, result, len(checked), sum(c.escaped for c in checked), sum(c.tokenised for c in checked),
            sum(c.crowded for c in checked),
        )  # fmt: skip

    def _aim(self, way: Query, target: int | None, place: int) -> Aim:
        select = any(p.round == "select" and p.passages for p in self.model.prompts_of(way))
        letter = option = ""
        if target is not None:
            shown = way.order.index(target) if way.order else target
            letter = way.options[shown].strip()
            option = way.choices[shown] if way.choices else ""
        k = len(self.model.pool.names)
        return Aim(way.text, place + 1, k, letter, option, way.attribute, select)
