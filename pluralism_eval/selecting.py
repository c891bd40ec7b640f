"""``selection=likelihood``: steerable pluralism picks the comment that the attribute makes likelier.

A small LLM cannot bind a number to a comment, as it cannot bind a letter to an option: asked for the number of the
comment that best reflects an attribute, it picks at chance. What it can tell is how likely it would write each comment
when asked to reflect the attribute, and when not: the difference, per token, is the pointwise mutual information of
comment and attribute given the query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pluralism_eval import cloze, context, readouts, requests
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Query

_METHOD = "modular_pluralism"


def prompt_of(query: Query, prompts: Prompts, llm: HarnessLLM, name: str = "reflect") -> str:
    """What stands before each comment: with the attribute (``reflect``), or without it (``comment``).

    Lines of the query that name the attribute are in neither, so that it stands in the instruction alone.
    """
    text = readouts.asked(query, prompts) if query.choices else query.text
    lines = [line for line in text.split("\n") if query.attribute not in line]
    subject = "\n".join(lines).strip() or text
    shown = prompts.render(_METHOD, name, query=subject, attribute=query.attribute)
    return requests.render(query, shown, llm)


def gains(
    llm: HarnessLLM,
    prompts: Prompts,
    queries: Sequence[Query],
    comments: Sequence[Sequence[str]],
) -> tuple[list[list[float]], list[list[int]]]:
    """How much likelier the attribute makes each comment.

    Args:
        queries: [n_queries], each with an attribute.
        comments: [n_queries][k] texts; cut where they do not fit the LLM's window.

    Returns:
        ([n_queries][k] nats a token, -inf for an empty comment; [n_queries][k] tokens cut).
    """
    given = [prompt_of(query, prompts, llm) for query in queries]
    alone = [prompt_of(query, prompts, llm, "comment") for query in queries]
    texts, cuts = [], []
    for query, prompt, own in zip(queries, given, comments, strict=True):
        before = prompt + cloze.lead(query)
        fitted = [_fitted(before, text.strip(), llm) for text in own]
        texts.append([cloze.lead(query) + text for text, _ in fitted])
        cuts.append([cut for _, cut in fitted])
    scored = [[text for text in own if text.strip()] for own in texts]
    readings = [
        iter(
            [score.logprob / score.tokens for own in llm.text_logprobs(p, scored) for score in own]
        )
        for p in (given, alone)
    ]
    with_, without = readings
    found = [
        [next(with_) - next(without) if text.strip() else -math.inf for text in own]
        for own in texts
    ]
    return found, cuts


def _fitted(before: str, text: str, llm: HarnessLLM) -> tuple[str, int]:
    """``text`` as far as it fits the window after ``before``, and how many tokens it lost."""
    whole, (lost,) = context.fit(
        lambda shown: before + shown[0], [text], llm.count_tokens, llm.max_length
    )
    return whole.removeprefix(before), lost


def likeliest(values: Sequence[float]) -> int | None:
    """Index of the one comment with the greatest gain; None where there is no such one."""
    best = max(values)
    return values.index(best) if best > -math.inf and list(values).count(best) == 1 else None
