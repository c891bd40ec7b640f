"""An LLM as entailment judge: ``llm:NAME`` or ``llm:NAME:key=value;key=value``.

NAME is an lm-eval model name or ``embedded``, the rest its arguments; ``prompts=FILE`` among them
overrides the wording (:mod:`pluralism_eval.prompts`, template ``entailment.judge``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pluralism_eval.cache import digest
from pluralism_eval.context import fit
from pluralism_eval.distribution import normalise
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.metrics.entailment import JUDGE, LABELS, Pair
from pluralism_eval.prompts import Prompts
from pluralism_eval.replies import parse_option
from pluralism_eval.settings import Settings, parse

LETTERS = ("A", "B", "C")
"""Of LABELS, in the prompt."""
_VERDICT = {"until": [], "max_gen_toks": 10, "do_sample": False}
_RESERVED = 64  # tokens for the verdict and for what a chat template adds
_UNREAD = [math.nan] * len(LABELS)


def judge_settings(name: str) -> Settings:
    """The LLM that ``name`` describes. No model is loaded.

    Raises:
        PluralismError: unknown model, one of our methods, or arguments that are no ``key=value``.
    """
    from pluralism_eval.plugin import METHODS, register_models

    register_models()
    from lm_eval.api.registry import model_registry

    llm, _, rest = name.removeprefix(JUDGE).partition(":")
    allowed = {n for n in model_registry.keys() if n.removeprefix("pluralism_") not in METHODS}  # noqa: SIM118
    if llm not in {"embedded", *allowed}:
        raise PluralismError(
            f"nli={name!r}: {llm!r} is no LLM. Allowed: llm:NAME or llm:NAME:key=value;key=value with one of "
            f"embedded, {', '.join(sorted(allowed))}"
        )
    try:
        settings = parse("vanilla", {"llm": llm, "llm_args": rest or None})
        args = dict(settings.llm_args)
        prompts = args.pop("prompts", None)
        if prompts is None:
            return settings
        Prompts(str(prompts))
    except PluralismError as error:
        raise PluralismError(f"nli={name!r}: {error}") from error
    return replace(settings, llm_args=args, prompts=str(prompts))


def check_judge(name: str) -> None:
    """Raises PluralismError unless the judge called ``name`` can be asked. No weights are loaded.

    Clients of an API are built, which costs nothing and shows missing packages and wrong arguments.
    """
    settings = judge_settings(name)
    from lm_eval.api.registry import get_model
    from lm_eval.models.api_models import TemplateAPI

    if settings.llm == "embedded" or not issubclass(get_model(settings.llm), TemplateAPI):
        return
    try:
        load_llm(settings)
    except Exception as error:  # whatever a client may raise, it means the same here
        raise PluralismError(
            f"nli={name!r}: the client cannot be built ({type(error).__name__}: {error}). "
            f"Allowed after llm:{settings.llm}: its own arguments, key=value;key=value"
        ) from error


class JudgeScorer:
    """Asks an LLM for A (entailment), B (neutral) or C (contradiction).

    Models with log-probabilities give probabilities: those of the letters, normalised. Chat APIs
    without them answer greedily, and the letter that they open with gets all probability; an answer
    that is not clearly one letter is a row of NaN.
    """

    lot = 64

    def __init__(self, name: str) -> None:
        settings = judge_settings(name)
        self._llm: HarnessLLM = load_llm(settings)
        self._prompts = Prompts(settings.prompts)
        self._scores = _can_score(self._llm)
        self._turns = not self._scores and _takes_turns(self._llm)
        self._limit = self._llm.max_length - _RESERVED
        how = "scored" if self._scores else "generated"
        wording = self._prompts.texts["entailment"]["judge"]
        self.identity = f"{JUDGE}{self._llm.name}:{how}:{digest([wording, LETTERS])[:16]}"

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

        prompt = render([premise])
        if len(prompt.encode()) <= self._limit:  # no more tokens than bytes: spares counting them
            return prompt, 0
        return fit(render, [premise], self._llm.count_tokens, self._limit)


def _one_hot(index: int | None) -> list[float]:
    return _UNREAD if index is None else [float(i == index) for i in range(len(LABELS))]


def _can_score(llm: HarnessLLM) -> bool:
    try:
        llm.check_scoring()
    except PluralismError:
        return False
    return True


def _takes_turns(llm: HarnessLLM) -> bool:
    """True for chat APIs, which accept nothing but chat turns; other models get plain text."""
    from lm_eval.models.api_models import JsonChatStr

    try:
        return isinstance(llm.render([{"role": "user", "content": ""}]), JsonChatStr)
    except NotImplementedError:
        return False
