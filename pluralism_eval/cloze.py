"""``readout=cloze``: an option's probability is that of its text, written out as the answer.

Small LLMs cannot bind a letter to an option, but they do follow what a message names (OLMES, arXiv 2406.08446,
evaluates both forms for the same reason). The question is shown without its list of options: a list that stands
before the answer is copied from, whatever the message says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pluralism_eval.distribution import logsumexp
from pluralism_eval.schema import OptionScores, Query, TextScore
from pluralism_eval.variants import stem, without_cue

NORMALISATIONS = ("sum", "character", "token", "pmi")
_LEAST_MASS = 1e-300
"""Long texts have tiny probabilities; an answer was read all the same."""


def asked(query: Query) -> str:
    """The query as a cloze prompt shows it: without its lettered options and the cue for a letter."""
    question = stem(query)
    return without_cue(query.text) if question is None else question


def lead(query: Query) -> str:
    """What stands between the prompt and an option's text: nothing where the assistant's turn begins."""
    return "" if query.chat and not query.prefill else " "


def texts(query: Query) -> list[str]:
    """[n_options] continuations, in the order in which the query lists its options."""
    return [lead(query) + option.strip() for option in query.choices]


def read(
    options: Sequence[str], scores: Sequence[TextScore], priors: Sequence[float], how: str
) -> OptionScores:
    """A distribution over the options from the log-probabilities of their texts.

    ``sum``: of all tokens. ``character``, ``token``: divided by the text's length. ``pmi``: minus the same text's
    log-probability after the question alone, so that only what the method adds counts (pointwise mutual information
    of text and message; vanilla, which adds nothing, is uniform by construction). The option mass is the probability
    of writing any of the texts.

    Args:
        options: [n_options] texts.
        scores: [n_options].
        priors: [n_options] nats after the question alone; only ``pmi`` reads them.
        how: one of :data:`NORMALISATIONS`.
    """
    sums = [score.logprob for score in scores]
    values = {
        "sum": lambda: sums,
        "character": lambda: [v / max(len(o), 1) for v, o in zip(sums, options, strict=True)],
        "token": lambda: [score.logprob / score.tokens for score in scores],
        "pmi": lambda: [v - prior for v, prior in zip(sums, priors, strict=True)],
    }[how]()
    if -math.inf in sums:  # a server did not show one of the texts
        return OptionScores((-math.inf,) * len(sums), -1, texts=tuple(scores), priors=tuple(priors))
    mass = min(1.0, max(_LEAST_MASS, math.fsum(math.exp(value) for value in sums)))
    shift = math.log(mass) - logsumexp(values)
    logprobs = tuple(min(value + shift, 0.0) for value in values)
    greedy = next((i for i, score in enumerate(scores) if score.greedy), -1)
    return OptionScores(logprobs, greedy, texts=tuple(scores), priors=tuple(priors))
