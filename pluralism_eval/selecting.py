"""``selection=likelihood``: steerable pluralism picks the comment that the attribute makes likelier.

A small LLM cannot bind a number to a comment, as it cannot bind a letter to an option: asked for the number of the
comment that best reflects an attribute, it picks at chance. Its probabilities tell more. Each comment is scored twice:
as an answer to the query that is asked to reflect the attribute, and as an answer that is not. The difference of the two
log-probabilities, divided by the comment's tokens, says how much likelier the attribute makes the comment (the pointwise
mutual information of comment and attribute given the query). The comment with the largest difference is picked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pluralism_eval import cloze, context, readouts
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Query

REFLECT, COMMENT = "reflect", "comment"
"""Templates of what stands before a comment: with the attribute, and without it."""


def subject(query: Query, prompts: Prompts) -> str:
    """The query as both templates show it: without the lines that name the attribute.

    The attribute then stands in the instruction of ``reflect`` alone. A query whose every line names it stays whole.
    """
    text = readouts.asked(query, prompts) if query.choices else query.text
    lines = [line for line in text.split("\n") if query.attribute not in line]
    return "\n".join(lines).strip() or text


def gains(
    llm: HarnessLLM,
    queries: Sequence[Query],
    given: Sequence[str],
    alone: Sequence[str],
    comments: Sequence[Sequence[str]],
) -> tuple[list[list[float]], list[list[int]]]:
    """How much likelier the attribute makes each comment.

    Args:
        queries: [n_queries].
        given: [n_queries] prompts of ``reflect``.
        alone: [n_queries] prompts of ``comment``.
        comments: [n_queries][k] texts of one line; cut where they do not fit the LLM's window.

    Returns:
        ([n_queries][k] nats a token, -inf for an empty comment; [n_queries][k] tokens cut).
    """
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
