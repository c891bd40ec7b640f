"""Methods x pools x tasks for any number of LLMs, as one study."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from pluralism_eval import plugin
from pluralism_eval.data.sources import long_name, short_name
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.reproduce.targets import PAPER_METHODS, Row, Score, Target
from pluralism_eval.tasks import headlines

WITH_COMMUNITIES = ("moe", "modular_pluralism")


def target(methods: Sequence[str], tasks: Sequence[str], pools: Sequence[str]) -> Target:
    """The study's rows (every method; those with communities once a pool) and tasks.

    Args:
        methods, pools: empty: all four, and the LLM's default pool.
        tasks: short or long names; empty: the five automatic tasks.

    Raises:
        PluralismError: all unknown names, and anything named twice, at once.
    """
    methods = list(methods) or list(plugin.METHODS)
    problems = [
        f"method {m!r} is unknown. Allowed: {', '.join(plugin.METHODS)}"
        for m in methods
        if m not in plugin.METHODS
    ]
    names = []
    for task in tasks or plugin.AUTOMATIC:
        try:
            names.append(long_name(short_name(task)))
        except PluralismError as error:
            problems.append(str(error).replace("--task ", "task "))
    for what, given in (("method", methods), ("task", names), ("pool", list(pools))):
        problems += [
            f"{what} {name!r} is given twice"
            for name in dict.fromkeys(given)
            if given.count(name) > 1
        ]
    if pools and not set(methods) & set(WITH_COMMUNITIES):
        problems.append(f"pools are given, and none of {', '.join(methods)} uses communities")
    raise_all("compare", problems)
    rows = [
        Row(
            f"{method} ({pool})" if pool and len(pools) > 1 else method,
            method,
            PAPER_METHODS[method],
            pool,
        )
        for method in methods
        for pool in (pools or [""] if method in WITH_COMMUNITIES else [""])
    ]
    scores = [
        Score(c.title, c.task, c.metric, ())
        for name, c in product(names, headlines())
        if c.task == name
    ]
    return Target("compare", "Methods compared", tuple(rows), tuple(scores), as_printed=False)
