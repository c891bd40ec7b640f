"""Plots for files: no display, colours that colour-blind readers can tell apart (Okabe and Ito)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.report.figures.style import INK, RULE, SOFT, drawing

FORMATS = (".png", ".svg")
COLOURS = ("#0072B2", "#009E73", "#CC79A7")  # blue, green, purple
BASELINE = "#E69F00"  # orange
_ROW, _GAP = 0.36, 0.45  # inches a bar takes; bars between groups
_WIDTH = 7.4  # inches

Interval = tuple[float, float, float]
"""Value in [0, 1] and the ends of its interval; NaN for none."""


@dataclass(frozen=True)
class Bar:
    """One horizontal bar, and a baseline's marker on it."""

    label: str
    share: Interval
    """A value of NaN draws no bar and is shown as a dash."""
    n: int
    """Of what it is a share."""
    baseline: Interval
    series: str
    """Bars of one series share a colour and an entry of the legend."""


def check_plot(path: Path) -> None:
    """Raises PluralismError unless a plot can be written to ``path``: before anything expensive."""
    if path.suffix.lower() not in FORMATS:
        raise PluralismError(f"--plot {str(path)!r}: give a name ending in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise PluralismError(f"--plot {str(path)!r}: there is no folder {str(path.parent)!r}")


@drawing()
def bar_plot(
    path: Path, groups: Sequence[Sequence[Bar]], title: str, baseline: str, caption: str
) -> None:
    """Writes horizontal bars with intervals, baselines as diamonds; a gap between groups.

    Args:
        baseline: the legend's words for the diamonds.
        caption: one or more lines below.

    Raises:
        PluralismError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    rows = sum(map(len, groups)) + _GAP * (len(groups) - 1)
    below, above = 0.42 + 0.15 * (caption.count("\n") + 1), 0.8
    height = _ROW * rows + below + above
    figure = Figure(figsize=(_WIDTH, height), dpi=150)
    left = (0.35 + 0.075 * max(len(bar.label) for group in groups for bar in group)) / _WIDTH
    axes = figure.add_axes((left, below / height, 0.83 - left, _ROW * rows / height))
    _draw(axes, groups, baseline)
    _style(axes, rows)
    figure.text(0.02, 1 - 0.12 / height, title, fontsize=11.5, color=INK, va="top", weight="bold")
    handles, names = axes.get_legend_handles_labels()
    series = dict(zip(names, handles, strict=True))
    series[baseline] = series.pop(baseline)  # last
    figure.legend(
        series.values(), series.keys(), loc="upper left", ncols=len(series), frameon=False, fontsize=8.2,
        bbox_to_anchor=(0.01, 1 - 0.36 / height), labelcolor=INK, handlelength=1.2, columnspacing=1.4,
    )  # fmt: skip
    figure.text(0.02, 0.08 / height, caption, fontsize=7.5, color=SOFT, va="bottom")
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    out = io.BytesIO()
    figure.savefig(out, format=path.suffix.removeprefix(".") or None, metadata=metadata)
    write_atomic(path, out.getvalue())


def _draw(axes: Any, groups: Sequence[Sequence[Bar]], baseline: str) -> None:
    colours: dict[str, str] = {}
    ticks, labels, place = [], [], 0.0
    for group in groups:
        for bar in group:
            colour = colours.setdefault(bar.series, COLOURS[len(colours) % len(COLOURS)])
            value, low, high = (100 * number for number in bar.share)
            axes.barh(
                place, 0 if isnan(value) else value, 0.62, color=colour, alpha=0.8, label=bar.series
            )
            _whisker(axes, place, low, high, INK, 1.3)
            value, low, high = (100 * number for number in bar.baseline)
            axes.plot(
                value, place + 0.2, "D", color=BASELINE, markersize=5, markeredgecolor=INK,
                markeredgewidth=0.6, linestyle="none", label=baseline, zorder=5, clip_on=False,
            )  # fmt: skip
            _whisker(axes, place + 0.2, low, high, BASELINE, 1.3)
            shown = "–" if isnan(bar.share[0]) else f"{100 * bar.share[0]:.0f} %"
            axes.text(102, place, f"{shown} of {bar.n:,}", fontsize=8.5, color=INK, va="center")
            ticks.append(place)
            labels.append(bar.label)
            place += 1
        place += _GAP
    axes.set_yticks(ticks, labels)


def _whisker(axes: Any, place: float, low: float, high: float, colour: str, width: float) -> None:
    if not isnan(low):
        axes.plot([low, high], [place] * 2, "|-", color=colour, linewidth=width, zorder=4)


def _style(axes: Any, rows: float) -> None:
    axes.set_xlim(0, 100)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="both", length=0, labelsize=9, colors=INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(SOFT)
