"""The leaderboard as Markdown and as one page that needs nothing else. All text of submissions is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pluralism_eval import heard
from pluralism_eval.leaderboard.board import Board, Section
from pluralism_eval.leaderboard.verify import UNPROVEN, Verdict
from pluralism_eval.report.tabular import Column, Number, Row, Table, arrow, markdown
from pluralism_eval.tasks import TASKS, by_name

KINDS = {"system": "verified", "paper": "reported", "baseline": "baseline"}
_SHOWN = 5
_ABOUT = (
    "Results of the plug-in pluralism-eval on its five automatic tasks. Every verified row was recomputed from the raw "
    "responses in its submission when this page was made, and its docs were compared with the real input: which they are, "
    "how many, and their gold answers."
)
_READING = (
    "In brackets: 95 % intervals, by bootstrap over questions or situations. #2–4 of 6: the intervals leave the ranks 2 "
    "to 4 open, among 6 submissions on the same docs, with the same preset and, for coverage, the same entailment scorer.",
    "Ranks never cross sections: complete inputs, sample data and partial runs are kept apart.",
    "Reported: printed in the paper, not verified by anyone here, never ranked. Baselines: what constant and human "
    "answers score on the same docs, computed from the input and not from submissions.",
    "Of submissions with the same responses the one that was first in the repository counts; dates are not believed. "
    "Copies are listed below.",
    "Coverage is recomputed from the verdicts of the entailment scorer that the submission recorded; "
    "pluralism-eval verify --rescore reads the responses again.",
    UNPROVEN,
)


def counts(board: Board) -> str:
    """How many submissions there are, and how many are verified."""
    parts = [len(board.verified), len(board.duplicates), len(board.unverified), len(board.rejected)]
    n = sum(parts)
    found = f"{n} {'submission' if n == 1 else 'submissions'}: {parts[0]} verified"
    words = ("duplicates", "not verified", "rejected")
    return found + "".join(f", {k} {w}" for k, w in zip(parts[1:], words, strict=True) if k) + "."


# ---------------------------------------------------------------------- Markdown


def as_markdown(board: Board, output: Path) -> str:
    """``README.md`` of the results; links are relative to ``output``."""
    lines = ["# Leaderboard", "", f"{counts(board)} {_ABOUT}", ""]
    lines += ["Made by `pluralism-eval leaderboard`; do not edit. `leaderboard.html` is the same, sortable.", ""]  # fmt: skip
    lines += [f"- {_md(text)}" for text in _READING]
    for i, section in enumerate(board.sections):
        lines += ["", f"## {section.title}", ""]
        if not any(row.kind == "system" for row in section.rows):
            lines += ["No verified submission yet.", ""]
        if section.rows:
            rows = tuple(_md_row(row, section, output) for row in section.rows)
            notes = tuple(_md(note) for note in section.notes)
            lines.append(markdown(Table(f"section{i}", section.title, section.columns, rows, notes), escaped=True))  # fmt: skip
    if board.verified:
        lines += ["", "## Submissions", ""]
        for verdict in board.verified:
            lines.append(f"- [{_md(board.labels[verdict.folder])}]({_link(verdict.folder, output)}): {_md(_described(verdict))}")  # fmt: skip
    for title, verdicts in _others(board):
        lines += ["", f"## {title}", ""]
        for verdict in verdicts:
            lines.append(f"- [{_md(verdict.folder.name)}]({_link(verdict.folder, output)})")
            lines += [f"  - {_md(reason)}" for reason in _reasons(verdict)]
    return "\n".join(lines) + "\n"


def _md_row(row: Row, section: Section, output: Path) -> Row:
    label = _md(row.label)
    if row.label in section.links and row.kind == "system":
        label = f"[{label}]({_link(section.links[row.label], output)})"
    if row.kind == "paper":
        label = f"{label} (reported)"
    return Row(label, row.cells, row.kind)


def _md(text: str) -> str:
    """No markup, one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    escaped = re.sub(r"([\\`*_\[\]~^])", r"\\\1", flat)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# ---------------------------------------------------------------------- what both say


def _link(folder: Path, output: Path) -> str:
    relative = os.path.relpath(folder.resolve(), output.resolve())
    return quote(Path(relative).as_posix()) + "/"


def _described(verdict: Verdict) -> str:
    content = verdict.content
    system, environment = content["system"], content["environment"]
    docs = [
        f"{_short(task)} {part['docs']['n']:,} of {part['docs']['of']:,} docs ({part['input']['data']})"
        for task, part in content["tasks"].items()
    ]
    parts = [f"method {system['method']}", f"LLM {system['llm']}"]
    parts += [f"communities {system['pool']}"] if system["pool"] else []
    parts += ["; ".join(docs), _settings(content), f"dated {str(environment['date'])[:10]} by its submitter, version {environment['pluralism_eval']}"]  # fmt: skip
    listening = heard.figures(content.get("listening"))
    parts += [f"{heard.sentence(listening)}, as its submitter measured"] if listening else []
    parts += [f"by {content['by']}"] if content["by"] else []
    parts += [content["note"]] if content["note"] else []
    return ". ".join(part.strip().rstrip(".") for part in parts) + "."


def _settings(content: Mapping[str, Any]) -> str:
    settings = [part["setting"] for part in content["tasks"].values()]
    presets = ", ".join(sorted({s["preset"] for s in settings}))
    scorers = [f"coverage by {s['nli']}" for s in settings if s["nli"]]
    readout = content["configuration"].get("readout_used")
    chat = "with chat template" if content["system"]["chat_template_sha256"] else "no chat template"
    return ", ".join(
        [f"preset {presets}", *([f"readout {readout}"] if readout else []), chat, *scorers]
    )


def _short(task: str) -> str:
    return by_name(task).short


def _others(board: Board) -> list[tuple[str, Sequence[Verdict]]]:
    found = (
        ("Duplicates: the same responses were in the repository before", board.duplicates),
        ("Not verified: nothing wrong was found, but not all could be recomputed and compared with the input", board.unverified),
        ("Rejected: something does not agree", board.rejected),
    )  # fmt: skip
    return [(title, verdicts) for title, verdicts in found if verdicts]


def _reasons(verdict: Verdict) -> list[str]:
    found = verdict.reasons()
    more = len(found) - _SHOWN
    return found if more <= 0 else [*found[:_SHOWN], f"... and {more} more; pluralism-eval verify prints all"]  # fmt: skip


# ---------------------------------------------------------------------- HTML


def as_html(board: Board, output: Path) -> str:
    """The page. Its policy lets run only its own script and style, and lets nothing be fetched."""
    template = (files("pluralism_eval.leaderboard") / "page.html").read_text(encoding="utf-8")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_source(template, 'script')}'",
            f"style-src '{_source(template, 'style')}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    main = [_html_section(i, section, board, output) for i, section in enumerate(board.sections)]
    main.append(_html_submissions(board, output))
    main += [_html_list(title, verdicts, output) for title, verdicts in _others(board)]
    values = {
        "policy": policy,
        "counts": _e(counts(board)),
        "about": _e(_ABOUT),
        "reading": "".join(f"<li>{_e(text)}</li>" for text in _READING),
        "tasks": "".join(
            f'<option value="{task.name}">{_e(task.title)}</option>' for task in TASKS.values()
        ),
        "main": "\n".join(main),
        "footer": "Made by <code>pluralism-eval leaderboard</code>. This page fetches and sends nothing.",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], template)


def _source(template: str, tag: str) -> str:
    """The hash by which a Content-Security-Policy allows the one inline ``tag``."""
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _e(text: str) -> str:
    """Escaped; control characters and lone surrogates are blanks."""
    return html.escape("".join(c if c.isprintable() else " " for c in text))


def _html_section(i: int, section: Section, board: Board, output: Path) -> str:
    heads = "".join(_head(column) for column in section.columns)
    described = {board.labels[v.folder]: _described(v) for v in board.verified}
    rows = "\n".join(_html_row(row, section, described, output) for row in section.rows)
    n = sum(row.kind == "system" for row in section.rows)
    caption = f"{section.title}. {n or 'No'} verified {'submission' if n == 1 else 'submissions'}{'' if n else ' yet'}; "  # fmt: skip
    caption += "arrows: which way is better."
    notes = "".join(f"<li>{_e(note)}</li>" for note in section.notes)
    return (
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{_e(section.title)}</h2>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="s{i}">\n'
        f'<table class="scores"><caption><span>{_e(caption)}</span></caption>\n'
        f'<thead><tr><th scope="col">System</th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f'<tfoot class="none" hidden><tr><td colspan="{len(section.columns) + 1}">No row is shown.</td></tr></tfoot></table></div>\n'
        + (
            f'<details class="notes"><summary>Notes</summary><ul>{notes}</ul></details>'
            if notes
            else ""
        )
        + "</section>"
    )


def _head(column: Column) -> str:
    better = "high" if column.higher_is_better else "low"
    return (
        f'<th scope="col" data-task="{column.task}" data-better="{better}">'
        f"{_e(column.title)}{arrow(column)}</th>"
    )


def _html_row(row: Row, section: Section, described: Mapping[str, str], output: Path) -> str:
    label, more = _e(row.label).replace("_", "_<wbr>"), ""
    if row.kind == "system":
        more = described[row.label]
        label = f'<a href="{_e(_link(section.links[row.label], output))}">{label}</a>'  # fmt: skip
    cells = "".join(_html_cell(n, c) for n, c in zip(row.cells, section.columns, strict=True))
    kind = f'<span class="kind">{KINDS[row.kind]}</span>'
    return (
        f'<tr class="{row.kind}" data-kind="{row.kind}" data-more="{_e(more.lower())}">'
        f'<th scope="row">{label}{kind}</th>{cells}</tr>'
    )


def _html_cell(number: Number | None, column: Column) -> str:
    place = f'<td data-task="{column.task}"'
    if number is None:
        return f"{place}>–</td>"
    text = f"{number.value:.{column.digits}f}"
    text = f"<strong>{text}</strong>" if number.best else text
    interval = "" if math.isnan(number.low) else f"<span>[{number.low:.2f}, {number.high:.2f}]</span>"  # fmt: skip
    mark = f"<span>{_e(number.mark.strip())}</span>" if number.mark.strip() else ""
    return f'{place} data-value="{number.value!r}">{text}{interval}{mark}</td>'


def _html_submissions(board: Board, output: Path) -> str:
    """Whose the rows are: settings, docs, date, note."""
    items = [
        f'<li><a href="{_e(_link(v.folder, output))}">{_e(board.labels[v.folder])}</a>: {_e(_described(v))}</li>'
        for v in board.verified
    ]
    found = f'<section><h2>Submissions</h2><ul class="list">{"".join(items)}</ul></section>'
    return found if items else ""


def _html_list(title: str, verdicts: Sequence[Verdict], output: Path) -> str:
    items = []
    for verdict in verdicts:
        reasons = "".join(f"<li>{_e(reason)}</li>" for reason in _reasons(verdict))
        link = f'<a href="{_e(_link(verdict.folder, output))}">{_e(verdict.folder.name)}</a>'
        items.append(f'<li>{link}<ul class="problems">{reasons}</ul></li>')
    return f'<section><h2>{_e(title)}</h2><ul class="list">{"".join(items)}</ul></section>'
