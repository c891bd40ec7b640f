"""The report as one HTML file: scores, irregularities, provenance, and every example to look at.

It asks nothing of any network: its policy lets run only its own script and style, and everything that
models wrote is carried compressed and shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pluralism_eval import __version__
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.report.page import facts, irregular, markup, packing
from pluralism_eval.report.page.entailed import Entailed
from pluralism_eval.report.page.examples import chunked
from pluralism_eval.report.page.index import Found, fewer, indexed, read_all
from pluralism_eval.report.page.markup import Figure
from pluralism_eval.report.page.reader import Verdicts
from pluralism_eval.report.tabular import Table
from pluralism_eval.results import Run

__all__ = ["Entailed", "Figure", "Written", "write"]

_SCRIPTS = ("unpack.js", "texts.js", "static.js", "filters.js", "list.js", "example.js", "page.js")
_CHUNK = 400_000  # characters of JSON that are unpacked together
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    megabytes: float
    """Of 1,000,000 bytes."""
    examples: int
    """That the page shows."""
    left_out: int
    """That it does not: they would have been too much."""
    texts_cut: int
    """Texts of the examples shown that are longer than :data:`packing.LONGEST` characters."""


def write(
    path: Path,
    title: str,
    runs: Mapping[str, Run],
    tables: Sequence[Table],
    figures: Sequence[Figure],
    paired: Sequence[Sequence[str]],
    verdicts: Verdicts,
    max_megabytes: float = 30,
) -> Written:
    """Writes the report to ``path``.

    Args:
        runs: label → run.
        paired: rows of text, the header first; empty without tests.
        verdicts: label → what :func:`pluralism_eval.report.page.entailed.entailed` found of the run; {} where
            it was not computed.
        max_megabytes: examples are left out, of every task alike, until the page is smaller.

    Raises:
        PluralismError: no run, no ``.html``, a limit that leaves no room, samples that cannot be read, or a
            file that cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise PluralismError(f"{str(path)!r} must be the name of a page, ending in .html")
    if not runs:
        raise PluralismError("a report needs at least 1 run, got none")
    static = _static(title, runs, tables, figures, paired)
    found = read_all(runs, verdicts)
    kept = list(range(len(found)))
    while True:
        page = _page(static, runs, [found[i] for i in kept], len(found))
        size = len(page.encode())
        if size <= max_megabytes * _MEGABYTE:
            break
        fixed = sum(map(len, static.values()))
        room = max_megabytes * _MEGABYTE - fixed
        if room <= 0 or len(kept) <= 1:
            raise PluralismError(
                f"max_megabytes={max_megabytes}: without any example the page already has {fixed / _MEGABYTE:.1f} MB; "
                "raise it"
            )
        kept = fewer(found, kept, 0.98 * room / (size - fixed))
    write_atomic(path, page)
    cut = sum(found[i].cut for i in kept)
    return Written(path, size / _MEGABYTE, len(kept), len(found) - len(kept), cut)


# ---------------------------------------------------------------------- the page


def _static(
    title: str, runs: Mapping[str, Run], tables: Sequence[Table], figures: Sequence[Figure],
    paired: Sequence[Sequence[str]],
) -> dict[str, str]:  # fmt: skip
    """What does not depend on the examples."""
    package = files("pluralism_eval.report.page")
    css = (package / "page.css").read_text(encoding="utf-8")
    js = "".join((package / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    drawn, sheet = markup.figures(figures)
    css += f"\n{sheet}"
    own = [
        style
        for one in figures
        for style in re.findall(r"<style>(.*?)</style>", one.svg, re.DOTALL)
    ]
    policy = (
        f"default-src 'none'; script-src {packing.source(js)}; style-src {' '.join(map(packing.source, [css, *own]))}; "
        "base-uri 'none'; form-action 'none'"
    )
    return {
        "policy": policy,
        "title": markup.text(title),
        "css": css,
        "js": js,
        "version": markup.text(__version__),
        "summary": facts.summary(runs),
        "tables": "".join(map(markup.scores_table, tables)),
        "figures": drawn,
        "paired": _paired(paired),
        "irregularities": irregular.irregularities(runs),
        "provenance": facts.provenance(runs),
    }


def _paired(rows: Sequence[Sequence[str]]) -> str:
    if len(rows) < 2:
        return ""
    return (
        '<section class="block" aria-labelledby="paired"><h3 id="paired">Paired tests</h3>'
        f"{markup.plain_table(rows, 'Paired tests')}</section>"
    )


def _page(
    static: Mapping[str, str], runs: Mapping[str, Run], found: Sequence[Found], n_all: int
) -> str:  # fmt: skip
    template = (files("pluralism_eval.report.page") / "page.html").read_text(encoding="utf-8")
    chunks = list(chunked([len(one.detail) for one in found], _CHUNK))
    data = "\n".join(
        f'<script type="text/plain" id="chunk{number}">'
        + packing.packed(f"[{','.join(found[i].detail for i in chunk)}]", small=True)
        + "</script>"
        for number, chunk in enumerate(chunks)
    )
    left_out = ""
    if len(found) < n_all:
        left_out = (
            f'<p class="warning">{len(found):,} of {n_all:,} examples are on this page: a seeded sample of every task '
            "alike, so that the page stays small enough to open. Scores and rates above are of all of them.</p>"
        )
    cut = sum(one.cut for one in found)
    if cut:
        left_out += (
            f'<p class="warning">{cut:,} {"text is" if cut == 1 else "texts are"} longer than {packing.LONGEST:,} '
            "characters and cut here; each says how much is missing.</p>"
        )
    values = {
        **static,
        "examples": f"{len(found):,}",
        "left_out": left_out,
        "index": packing.packed(packing.as_json(indexed(runs, found, n_all, chunks))),
        "chunks": data,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], template)
