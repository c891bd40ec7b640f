"""What follows from runs, in files: the page, a Markdown report, every table and every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from pluralism_eval import utilisation
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.metrics import judge as judges
from pluralism_eval.metrics.exchanges import TASK as OVERTON
from pluralism_eval.metrics.exchanges import chosen_scorer
from pluralism_eval.report import anomalies, figures, page, tabular
from pluralism_eval.report.comparison import comparison_rows, comparisons
from pluralism_eval.report.page.entailed import Entailed, entailed, verdict_of
from pluralism_eval.report.table import markdown
from pluralism_eval.report.tabular import Table
from pluralism_eval.reproduce import extras, filled
from pluralism_eval.reproduce.targets import OURS
from pluralism_eval.results import Run

NO_SCORER = "none"
_PLOTS = (".svg", ".pdf")
_TESTED = (
    "Paired tests over docs, whole questions or situations at once; Holm's correction over the rows of this table. d_z: mean "
    "difference in its standard deviations; g: share of disagreements won, minus one half."
)


@dataclass(frozen=True)
class Written:
    """What was written."""

    text: str
    """The Markdown report."""
    page: Path
    tables: list[Table]


def write(
    runs: Mapping[str, Run],
    folder: Path,
    title: str,
    nli: str | None = None,
    max_megabytes: float = 30,
    judge: str | None = None,
) -> Written:
    """Everything about ``runs`` into ``folder``: report.html, report.md, tables/, figures/.

    Args:
        runs: label → run.
        nli: entailment scorer for which message entails which sentence; None: each run's own,
            ``none``: not computed.
        judge: who says which of two Overton responses is better (Figure 3), ``NAME:key=value;...``;
            None: not asked.

    Raises:
        PluralismError: files that cannot be written, or runs of another version.
    """
    tables = filled.tables(runs)
    if not tables:
        raise PluralismError(
            f"{', '.join(str(run.path) for run in runs.values())}: no samples of our automatic tasks; run them with "
            "--log_samples"
        )
    paired = _paired(runs)
    judged = _judged(runs, judge) if judge else {}
    drawn = [f for f in figures.figures(runs) if not (judged and f.name == "figure3")]
    drawn += [replace(f, caption=f"{f.caption} Judge: {judge}.") for f in figures.figure3(judged)]
    for table in tables:
        for suffix, written in tabular.WRITERS.items():
            write_atomic(folder / "tables" / f"{table.name}.{suffix}", written(table))
    for figure in drawn:
        rows = [[cell.replace("\n", " ") for cell in row] for row in figure.rows]
        write_atomic(folder / "figures" / f"{figure.name}.csv", tabular.csv_text(rows))
        for suffix in _PLOTS:
            figures.save(figure, folder / "figures" / f"{figure.name}{suffix}")
    verdicts, missing = {}, {}
    for label, run in runs.items():
        try:
            verdicts[label] = _verdicts(run, nli)
        except PluralismError as error:
            if nli is not None:
                raise
            verdicts[label], missing[label] = {}, str(error)
    made = page.write(
        folder / "report.html", title, runs, tables, drawn, paired, verdicts, max_megabytes
    )
    shown = f"{made.examples:,} examples, {made.megabytes:.1f} MB"
    if made.left_out or made.texts_cut:
        shown += f"; {made.left_out:,} examples left out and {made.texts_cut:,} long texts cut to stay small"
    text = _text(title, runs, tables, drawn, paired, shown, missing)
    write_atomic(folder / "report.md", text)
    return Written(text, folder / "report.html", tables)


def _paired(runs: Mapping[str, Run]) -> list[list[str]]:
    """Ours against every other system of the same LLM; every pair where ours is not among them."""
    pairs: list[tuple[str, str]] = []
    for lines in filled.by_llm(runs).values():
        own = [label for label, run in runs.items() if any(run is line.run for line in lines)]
        ours = next((label for label in own if runs[label].name == OURS), None)
        pairs += [(ours, label) for label in own if label != ours] if ours else combinations(own, 2)
    samples = {label: run.samples for label, run in runs.items()}
    rows: list[list[str]] = []
    try:
        found = comparisons(samples, pairs)
    except PluralismError as error:
        return [["not tested"], [str(error)]]
    return comparison_rows(found) if found else rows


def _judged(runs: Mapping[str, Run], judge: str) -> dict[str, Run]:
    """``ours against other`` → the run with the judge's verdicts, for every LLM."""
    asked = judges.Judge(judge)
    found = {}
    for llm, lines in filled.by_llm(runs).items():
        having = [line for line in lines if OVERTON in line.run.samples]
        ours = next((line for line in having if line.run.name == OURS), None)
        for line in having:
            if ours is not None and line.run is not ours.run:
                pairs = extras.verdicts(asked, ours.run, line.run)
                label = f"{llm}: {OURS} against {line.label}"
                found[label] = extras.judged_run(ours.run, line.label, pairs)
    return found


def _verdicts(run: Run, nli: str | None) -> dict[str, dict[int, Entailed]]:
    if nli == NO_SCORER or OVERTON not in run.samples:
        return {}
    return entailed(run, chosen_scorer(run, nli, None))


def _text(
    title: str,
    runs: Mapping[str, Run],
    tables: list[Table],
    drawn: Sequence[figures.Figure],
    paired: list[list[str]],
    shown: str,
    missing: Mapping[str, str],
) -> str:
    lines = [f"# {tabular.plain(title)}", ""]
    for table in tables:
        lines += [f"## {tabular.plain(table.title)}", "", tabular.markdown(table), ""]
    if paired:
        lines += ["## Differences", "", markdown(paired), "", _TESTED, ""]
    for figure in drawn:
        if figure.name == "figure3":
            caption = tabular.plain(figure.caption)
            lines += [f"## {figure.title}", "", markdown(figure.rows), "", caption, ""]
    lines += ["## Irregularities", "", markdown(anomalies.rows(runs)), ""]
    lines += ["## Runs", "", markdown(_runs(runs)), "", f"The page report.html shows {shown}.", ""]
    lines += [
        tabular.plain(f"- {label}: which message entails which sentence was not computed: {why}")
        for label, why in missing.items()
    ]
    return tabular.document(lines)


def _runs(runs: Mapping[str, Run]) -> list[list[str]]:
    rows = [
        [
            "run",
            "LLM",
            "data",
            "entailment",
            "readout",
            "version",
            "wall time (s)",
            "device used",
            "folder",
        ]
    ]
    for label, run in runs.items():
        rows.append(
            [
                label, run.llm, run.data, _scorer(run), str(run.ours.get("readout_used", "–")),
                str(run.ours.get("version", "–")), "–" if run.seconds is None else f"{run.seconds:.0f}",
                utilisation.overall(run.config.get("utilisation") or {}),
                str(run.path.parent),
            ]
        )  # fmt: skip
    return rows


def _scorer(run: Run) -> str:
    """The scorer of the run's coverage, and how good it is on the hand-written pairs."""
    for sample in run.samples.get(OVERTON, [])[:1]:
        verdict: dict[str, Any] = verdict_of(sample)
        accuracy, n = verdict.get("nli_check", (None, 0))
        known = (
            "" if accuracy is None else f" (accuracy {accuracy:.3f} on {n} pairs; a guess: 0.333)"
        )
        return f"{verdict.get('nli', '–')}{known}"
    return "–"
