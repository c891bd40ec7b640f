"""A model card: ``model-index`` metadata, and a section with the table, intervals, baselines and oddities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from pluralism_eval.cache import digest
from pluralism_eval.errors import PluralismError
from pluralism_eval.exports.facts import Exported, Facts, cleaned
from pluralism_eval.exports.hub import notes
from pluralism_eval.files import write_atomic
from pluralism_eval.leaderboard import describe
from pluralism_eval.report import anomalies, table, tabular
from pluralism_eval.scoring import Summary

BEGIN = "<!-- pluralism-eval: begin; written by a program, changed text is lost -->"
END = "<!-- pluralism-eval: end -->"
_MARKED = re.compile(r"<!-- pluralism-eval: begin\b.*?-->.*?<!-- pluralism-eval: end -->", re.DOTALL)  # fmt: skip
_BEGINS = re.compile(r"<!-- pluralism-eval: begin\b")


def export(runs: Sequence[Facts]) -> Exported:
    """``<model>.md`` for each LLM: metadata and section, ready to be a card or to be copied into one."""
    models = list(dict.fromkeys(facts.model for facts in runs))
    files = {}
    for model in models:
        own = [facts for facts in runs if facts.model == model]
        files[f"{own[0].folder}.md"] = f"---\n{metadata(own)}\n---\n\n{section(own)}\n".encode()
    return Exported(files, ("model-index names tasks and scores of this benchmark, no dataset of the Hub",))  # fmt: skip


def metadata(runs: Sequence[Facts]) -> str:
    """YAML with the ``model-index`` of runs of one LLM, a result a method and headline score."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            task_name=f"{column.title} ({facts.method})",
            dataset_type=column.task,
            dataset_name=facts.dataset(column.task),
            dataset_config=facts.method,
            metric_type=column.metric,
            metric_name=column.title,
            metric_value=facts.score(column).value,
            metric_args={"notes": cleaned(notes(facts, column))},
        )
        for facts in runs
        for task in facts.scores
        for column in facts.headlines(task)
        if not math.isnan(facts.score(column).value)
    ]
    data = ModelCardData(model_name=runs[0].model, eval_results=results)
    return str(data.to_yaml(line_break="\n"))


def section(runs: Sequence[Facts]) -> str:
    """Markdown between markers, of runs of one LLM."""
    labels = _labels(runs)
    lines = [BEGIN, "## Modular Pluralism", "", _opening(runs), ""]
    for group in _alike(labels):
        lines += [tabular.markdown(_table(group)), ""]
    lines += [
        "↑: higher is better, ↓: lower is better. In brackets: 95 % intervals, clustered by question or situation. Rows "
        "in parentheses are what constant or human answers score on the same docs.",
        "",
    ]
    odd = anomalies.rows({label: facts.run for label, facts in labels.items()})
    if len(odd) > 1:
        lines += ["Irregular, and measured beside the scores:", "", table.markdown(_escaped(odd)), ""]  # fmt: skip
    lines += [
        f"- {tabular.inert(f'{label}: {lack}')}"
        for label, facts in labels.items()
        for lack in facts.lacks
    ]
    lines += _commands(labels)
    return str(cleaned("\n".join([*lines, END])))


def _labels(runs: Sequence[Facts]) -> dict[str, Facts]:
    """Method, with its pool and a number where a method comes twice."""
    found: dict[str, Facts] = {}
    for facts in runs:
        base = describe.line(facts.method + (f", {facts.run.pool}" if facts.run.pool else ""))
        label, i = base, 2
        while label in found:
            label, i = f"{base} ({i})", i + 1
        found[label] = facts
    return found


def _alike(labels: dict[str, Facts]) -> list[dict[str, Facts]]:
    """Systems that answered the same docs of the same tasks: only those share a table."""
    found: dict[str, dict[str, Facts]] = {}
    for label, facts in labels.items():
        docs = {t: [s.get("doc_hash") for s in facts.run.samples_of(t)] for t in facts.scores}
        found.setdefault(digest(docs), {})[label] = facts
    return list(found.values())


def _table(group: dict[str, Facts]) -> tabular.Table:
    """Headline scores below their baselines, all of them as :func:`scores_of` gives them."""
    first = next(iter(group.values()))
    columns = [column for task in first.scores for column in first.headlines(task)]
    heads = tuple(
        tabular.Column(c.title, first.score(c).higher_is_better, 3, c.task, c.metric)
        for c in columns
    )
    known = [first.baselines(column) for column in columns]
    rows = [
        tabular.Row(name, tuple(tabular.Number(own[name]) if name in own else None for own in known), "baseline")
        for name in table.BASELINES
        if any(name in own for own in known)
    ]  # fmt: skip
    systems = [
        tabular.Row(label, tuple(_number(facts.score(column)) for column in columns))
        for label, facts in group.items()
    ]
    docs = ", ".join(f"{task.removeprefix('pluralism_')} {first.size(task)[0]}" for task in first.scores)  # fmt: skip
    return tabular.Table(
        "card", "Headline scores", heads, (*rows, *tabular.best_of(systems, heads)), (f"docs: {docs}", *_unread(group))
    )  # fmt: skip


def _number(score: Summary) -> tabular.Number:
    return tabular.Number(score.value, score.low, score.high, score.n)


def _unread(group: dict[str, Facts]) -> list[str]:
    """Answers that could not be read: they score as uniform, or wrong."""
    shares = [
        f"{label} {task.removeprefix('pluralism_')} {score.value:.0%}"
        for label, facts in group.items()
        for task, scores in facts.scores.items()
        for score in scores
        if score.name == "unparsed" and score.value > 0
    ]
    return [f"answers that could not be read: {', '.join(shares)}"] if shares else []


def _opening(runs: Sequence[Facts]) -> str:
    first = runs[0]
    made = describe.environment(first.raw, first.run)
    versions = ", ".join(f"{k} {tabular.inert(str(made[k]))}" for k in ("pluralism_eval", "lm_eval", "transformers") if made[k])  # fmt: skip
    data = sorted({facts.dataset(task) for facts in runs for task in facts.scores})
    dates = sorted({facts.date.strftime("%Y-%m-%d") for facts in runs})
    return (
        f"{tabular.code(describe.line(first.model))} as the LLM of [Modular Pluralism](https://arxiv.org/abs/2406.15951), evaluated "
        f"{' and '.join(dict.fromkeys((dates[0], dates[-1])))} with {versions}. Inputs: {tabular.inert(', '.join(data))}."
    )


def _commands(labels: dict[str, Facts]) -> list[str]:
    known = {label: facts.command for label, facts in labels.items() if facts.command}
    if not known:
        return []
    shown = [f"# {label}\n{command}" for label, command in known.items()]
    return ["", "Commands, put together from the results:", "", tabular.fenced("\n".join(shown))]


def _escaped(rows: list[list[str]]) -> list[list[str]]:
    return [[describe.line(cell) for cell in row] for row in rows]


def put_into(path: Path, runs: Sequence[Facts]) -> bool:
    """Puts the section into a card: in place of the one between the markers, else at the end. Everything else keeps
    its bytes. Returns whether the file changed.

    Raises:
        PluralismError: runs of several LLMs, no such file, or markers that do not come in one pair.
    """
    models = list(dict.fromkeys(facts.model for facts in runs))
    if len(models) > 1:
        raise PluralismError(
            f"--into takes runs of one LLM, these are of {', '.join(models)}; call it once for each card"
        )
    try:
        old = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluralismError(
            f"--into {str(path)!r} cannot be read: {error}; give the README.md of a model repository"
        ) from error
    pairs, begins, ends = len(_MARKED.findall(old)), len(_BEGINS.findall(old)), old.count(END)
    if not pairs == begins == ends or pairs > 1:
        raise PluralismError(
            f"--into {str(path)!r}: {begins} begin and {ends} end markers of pluralism-eval; leave one pair, or none"
        )
    ending = "\r\n" if "\r\n" in old else "\n"
    text = section(runs).replace("\n", ending)
    if pairs:
        new = _MARKED.sub(lambda _: text, old)
    else:
        gap = "" if not old else ending if old.endswith("\n") else ending * 2
        new = f"{old}{gap}{text}{ending}"
    if new == old:
        return False
    write_atomic(path, new)
    return True
