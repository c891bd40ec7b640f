"""Entailment pairs that coverage will score: sentences of a response x values of its situation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pluralism_eval.data.docs import chosen_nli
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.named import named_settings
from pluralism_eval.metrics.coverage import split_sentences
from pluralism_eval.metrics.entailment import JUDGE, scorer_names
from pluralism_eval.planning.counting import CHARACTERS, counter_of
from pluralism_eval.planning.lengths import Lengths
from pluralism_eval.planning.models import Card, card_of
from pluralism_eval.planning.work import Work
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec
from pluralism_eval.tasks import OVERTON
from pluralism_eval.usage import Usage

_READINGS = 2  # forward passes of the embedded scorer for a pair: the premise affirmed, and denied
Row = tuple[Card, str, str, int, Work, Work]
"""Scorer, what, task, docs, expected work, upper bound."""


class Entailment:
    """Pairs of several runs; the query's own sentences are scored once for all."""

    def __init__(self) -> None:
        self._echoed: set[tuple[str, str, str]] = set()

    def of_run(
        self, spec: RunSpec, task: Any, docs: int, lengths: Lengths, limit: int
    ) -> list[Row]:
        """One row a scorer; none for tasks without entailment.

        Args:
            limit: new tokens that a response may have.
        """
        if str(task.config.task) != OVERTON:
            return []
        preset = get_preset(parse(spec.method, spec.model_args()).preset)
        given = spec.metadata.get("nli")
        names = scorer_names(chosen_nli(None if given is None else str(given), preset))
        both = spec.metadata.get("nli_directions") == "both"
        used = list(task.eval_docs)[:docs]
        a_sentence = lengths.response.tokens / lengths.sentences
        expected = lengths.response.within(limit).tokens / a_sentence
        rows = []
        for n, name in enumerate(names):
            times = 2 if both and n == 0 else 1
            echo = [] if n else self._echo(name, used, preset.splitter)
            card, cost = _scorer(name)
            work, most = (
                _work(used, sentences, times, a_sentence, echo, cost)
                for sentences in (expected, limit / a_sentence)
            )
            rows.append((card, f"entailment pairs, {spec.label}", OVERTON, docs, work, most))
        return rows

    def _echo(self, name: str, docs: Sequence[Any], splitter: str) -> list[tuple[str, str]]:
        """Pairs of the query as response that no earlier run scores."""
        found = []
        for doc in docs:
            for sentence in split_sentences(str(doc["query"]), splitter):
                for explanation in doc["explanations"]:
                    if (name, sentence, explanation) not in self._echoed:
                        self._echoed.add((name, sentence, explanation))
                        found.append((sentence, explanation))
        return found


def _work(
    docs: Sequence[Any],
    sentences: float,
    times: int,
    a_sentence: float,
    echo: Sequence[tuple[str, str]],
    cost: Any,
) -> Work:
    pairs = tokens = 0.0
    for doc in docs:
        for explanation in doc["explanations"]:
            pairs += sentences * times
            tokens += sentences * times * cost(a_sentence * CHARACTERS, explanation)
    pairs += len(echo)
    tokens += sum(cost(len(sentence), explanation) for sentence, explanation in echo)
    return Work(Usage(round(pairs), round(tokens)))


def _scorer(name: str) -> tuple[Card, Any]:
    """(the scorer, (characters of a premise, hypothesis) → tokens of all its forward passes)."""
    if name.startswith(JUDGE):
        try:
            settings = named_settings(name, "nli", JUDGE)
        except PluralismError:
            return card_of(name), _plain(name, 1, 0)
        args = settings.llm_args
        model = str(args.get("pretrained") or args.get("model") or settings.llm)
        around = Prompts(settings.prompts).render("entailment", "judge", premise="", hypothesis="")
        return card_of(model, args), _plain(model, 1, len(around))
    model = name.rpartition(":")[0] if name.endswith(("16", "32")) and ":" in name else name
    return card_of(model), _plain(model, _READINGS if model == "embedded" else 1, 0)


def _plain(model: str, passes: int, around: int) -> Any:
    counter = counter_of(model)

    def cost(premise: float, hypothesis: str) -> float:
        share = 3 if counter.tokenizer is None else CHARACTERS
        return passes * ((premise + around) / share + counter(hypothesis))

    return cost
