"""What was irregular in runs, task by task and run by run; what is not zero stands out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pluralism_eval.report.anomalies import MOVES, SHARES
from pluralism_eval.report.page.examples import headline
from pluralism_eval.report.page.markup import boxed, plain_table, text
from pluralism_eval.results import Run
from pluralism_eval.tasks import task_names

_COUNTS = {
    "docs": "docs",
    "prompts": "prompts",
    "messages": "messages",
    "messages_generated": "messages generated anew",
    "replies": "replies",
}
_NAMES = {**_COUNTS, **MOVES, **SHARES}


def irregularities(runs: Mapping[str, Run]) -> str:
    """The rates of all runs, task by task; what is not zero stands out."""
    rates = {label: run.ours.get("rates") or {} for label, run in runs.items()}
    tasks = list(dict.fromkeys(task for own in rates.values() for task in own))
    if not tasks:
        return "<p>These runs keep no rates: they are not of this package's methods.</p>"
    order = {task: i for i, task in enumerate(task_names())}
    tasks.sort(key=lambda task: (order.get(task, len(order)), task))
    bodies = "".join(
        _task(task, {label: own.get(task, {}) for label, own in rates.items()}) for task in tasks
    )
    heads = "".join(
        f'<th scope="col" class="number"><bdi>{text(label)}</bdi></th>' for label in runs
    )
    table = boxed(
        '<table class="rates"><caption class="sr">Irregularities by task and run</caption>'
        f'<thead><tr><th scope="col"><span class="sr">What</span></th>{heads}</tr></thead>{bodies}</table>',
        "Irregularities by task and run",
    )  # fmt: skip
    return f"{table}{_served(runs)}"


def _task(task: str, rates: Mapping[str, Mapping[str, float]]) -> str:
    given = list(dict.fromkeys(name for own in rates.values() for name in own))
    names = [name for name in _NAMES if name in given] + [n for n in given if n not in _NAMES]
    rows = "".join(
        f'<tr><th scope="row">{text(_NAMES.get(name, name.replace("_", " ")))}</th>'
        + "".join(_rate(name, own.get(name)) for own in rates.values())
        + "</tr>"
        for name in names
    )
    title = f'<tr class="section"><th scope="rowgroup" colspan="{len(rates) + 1}">{text(headline(task)[0])}</th></tr>'
    return f"<tbody>{title}{rows}</tbody>"


def _rate(name: str, value: float | None) -> str:
    if value is None:
        return '<td class="number none"><span aria-hidden="true">–</span><span class="sr">does not apply</span></td>'
    if name in _COUNTS:
        return f'<td class="number">{value:,.0f}</td>'
    if name in MOVES:
        return (
            f'<td class="number">{f"{value:.3f}" if not 0 < value < 0.001 else "&lt; 0.001"}</td>'
        )
    if not value:
        return '<td class="number zero">0</td>'
    shown = f"{value:.1%}".replace("%", " %") if value >= 0.0005 else "< 0.1 %"
    return f'<td class="number some"><span>{shown}</span></td>'


def _served(runs: Mapping[str, Run]) -> str:
    """What happened to requests to servers."""
    found = {label: run.ours["api"] for label, run in runs.items() if run.ours.get("api")}
    if not found:
        return ""
    names = list(dict.fromkeys(name for counts in found.values() for name in counts))
    rows = [["count", *found]]
    rows += [
        [name.replace("_", " "), *(_count(own.get(name)) for own in found.values())]
        for name in names
    ]
    return f"<h3>Requests to servers</h3>{plain_table(rows, 'Requests to servers')}"


def _count(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} × {n}" for name, n in value.items()) or "–"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
