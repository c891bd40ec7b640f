"""An LLM as entailment judge: ``llm:NAME`` or ``llm:NAME:key=value;key=value``.

See :mod:`pluralism_eval.llm.named`; the template is ``entailment.judge``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pluralism_eval.cache import digest
from pluralism_eval.context import fit
from pluralism_eval.distribution import normalise
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.llm.named import check_client, named_settings, takes_turns
from pluralism_eval.metrics.entailment import JUDGE, LABELS, Pair
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_option
from pluralism_eval.usage import Usage

LETTERS = ("A", "B", "C")
"""Of LABELS, in the prompt."""
_VERDICT = {"until": [], "max_gen_toks": 10, "do_sample": False}
_RESERVED = 64  # tokens for the verdict and for what a chat template adds
_UNREAD = [math.nan] * len(LABELS)


def check_judge(name: str) -> None:
    """Raises PluralismError unless the judge called ``name`` can be asked. No weights are loaded."""
    check_client(named_settings(name, "nli", JUDGE), f"nli={name!r}", JUDGE)


class JudgeScorer:
    """Asks an LLM for A (entailment), B (neutral) or C (contradiction).

    Models with log-probabilities give probabilities: those of the letters, normalised. Chat APIs
    without them answer greedily, and the letter that they open with gets all probability; an answer
    that is not clearly one letter is a row of NaN.
    """

    lot = 64

    def __init__(self, name: str) -> None:
        settings = named_settings(name, "nli", JUDGE)
        self._llm: HarnessLLM = load_llm(settings)
        self._prompts = Prompts(settings.prompts)
        self._scores = _can_score(self._llm)
        self._turns = not self._scores and takes_turns(self._llm)
        self._limit = self._llm.max_length - _RESERVED
        how = "scored" if self._scores else "generated"
        wording = self._prompts.texts["entailment"]["judge"]
        self.identity = f"{JUDGE}{self._llm.identity}:{how}:{digest([wording, LETTERS])[:16]}"

    @property
    def usage(self) -> Usage:
        """Of the LLM, which may be the run's own."""
        return self._llm.usage

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """See :class:`Scorer`; a premise that does not fit the context window is cut."""
        prompts = [self._prompt(pair)[0] for pair in pairs]
        return np.array(self._scored(prompts) if self._scores else self._generated(prompts))

    def truncated(self, pairs: Sequence[Pair]) -> int:
        """How many premises are cut."""
        return sum(self._prompt(pair)[1] > 0 for pair in pairs)

    def _scored(self, prompts: Sequence[str]) -> list[list[float]]:
        found = self._llm.option_logprobs(prompts, [LETTERS] * len(prompts))
        return [
            _UNREAD if max(each.logprobs) == -math.inf else normalise(each.logprobs)[0]
            for each in found
        ]

    def _generated(self, prompts: Sequence[str]) -> list[list[float]]:
        sent = [
            self._llm.render([{"role": "user", "content": prompt}]) if self._turns else prompt
            for prompt in prompts
        ]
        return [
            _one_hot(parse_option(text, LETTERS)) for text in self._llm.generate(sent, _VERDICT)
        ]

    def _prompt(self, pair: Pair) -> tuple[str, int]:
        """(prompt, tokens cut from the premise)."""
        premise, hypothesis = pair

        def render(passages: list[str]) -> str:
            return self._prompts.render(
                "entailment", "judge", premise=passages[0], hypothesis=hypothesis
            )

        prompt, cuts = fit(render, [premise], self._llm.count_tokens, self._limit)
        return prompt, sum(cuts)


def _one_hot(index: int | None) -> list[float]:
    return _UNREAD if index is None else [float(i == index) for i in range(len(LABELS))]


def _can_score(llm: HarnessLLM) -> bool:
    try:
        llm.check_scoring()
    except PluralismError:
        return False
    return True
