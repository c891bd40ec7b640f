"""What all figures share: colours, sizes, text that fits, and a sheet to draw on in inches."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INK, SOFT, RULE, PAPER = "#222222", "#5a5a5a", "#d9d9d9", "#fefefe"
SERIES = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#332288", "#882255",
)  # fmt: skip
"""Told apart by colour-blind readers (after Okabe and Ito, and Tol); markers tell them apart as well."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # seven: with eight colours, 56 pairs
VARIABLES: dict[str, tuple[str, str, str]] = {
    INK: ("--ink", INK, "#e8e8e8"),
    SOFT: ("--soft", SOFT, "#a8a8a8"),
    RULE: ("--rule", RULE, "#444444"),
    PAPER: ("--paper", "transparent", "transparent"),
    **{
        colour: (f"--c{i}", colour, dark)
        for i, (colour, dark) in enumerate(
            zip(
                SERIES,
                ("#4fa8e0", "#ff8a3d", "#2fc79b", "#e39cc5", "#e0b040", "#8fd0f5", "#9d8df0", "#d9709f"),
                strict=True,
            )
        )
    },
}  # fmt: skip
"""Colour as drawn → (CSS variable of an inline SVG, its fallback, what suits a dark page)."""
WIDTH = 5.0
"""Inches of every figure: small enough to be read where 360 pixels are left for it."""
SIZE, SMALL = 8.4, 7.6  # points
_EM = 0.56  # mean width of a character, in its size
_GLYPHS = (
    "Glyph .* missing from .*font"  # a fallback box in PNG and PDF; SVG leaves text to the reader
)


def css(dark: bool = False) -> str:
    """``--ink: #222222; --soft: ...``: the declarations a page can set for inline figures."""
    return " ".join(
        f"{name}: {at_night if dark else day};" for name, day, at_night in VARIABLES.values()
    )


@contextmanager
def drawing() -> Iterator[None]:
    """Around making and saving a figure: no mathematics in labels, text as text, the same bytes."""
    import matplotlib

    fixed = {
        "svg.fonttype": "none", "svg.hashsalt": "pluralism-eval", "pdf.fonttype": 42, "text.parse_math": False,
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "hatch.linewidth": 0.7,
    }  # fmt: skip
    with matplotlib.rc_context(fixed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_GLYPHS)
        yield


def plain(text: str) -> str:
    """On one line, without characters that cannot be shown (control characters, lone surrogates)."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def room(inches: float, size: float = SIZE) -> int:
    """Characters of ``size`` points that fit into ``inches``."""
    return max(int(inches * 72 / (size * _EM)), 4)


def short(text: str, length: int) -> str:
    """At most ``length`` characters wide; both ends are kept, since names often differ at the end."""
    text = plain(text)
    if _wide(text) <= length:
        return text
    head = _cut(text, (length + 1) // 2 - 1)
    tail = _cut(text[::-1], length - _wide(head) - 1)[::-1]
    return f"{head.rstrip()}…{tail.lstrip()}"


def lines_of(text: str, length: int, most: int = 99) -> list[str]:
    """``text`` in lines of at most ``length`` characters; what is left after ``most`` lines is cut."""
    lines: list[str] = []
    rest = plain(text)
    while rest and len(lines) < most:
        if _wide(rest) <= length:
            return [*lines, rest]
        head = _cut(rest, length)
        head = head[: head.rfind(" ")] if " " in head and rest[len(head)] != " " else head
        lines.append(head)
        rest = rest[len(head) :].lstrip()
    if rest and lines:
        lines[-1] = f"{_cut(lines[-1], length - 2)} …"
    return lines


def _wide(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "FW" else 1 for c in text)


def _cut(text: str, length: int) -> str:
    while _wide(text) > length:
        text = text[: min(len(text) - 1, length)]
    return text


class Sheet:
    """A figure to draw on: x from the left and y from the top, both in inches."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH, height))
        self.figure.patch.set_visible(False)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(height, 0)

    def text(
        self, x: float, y: float, text: str, size: float = SIZE, colour: str = INK, at: str = "left",
        bold: bool = False,
    ) -> None:  # fmt: skip
        """One line, its middle at ``y``; ``at``: which end ``x`` is (left, center, right)."""
        weight = "bold" if bold else "normal"
        self.axes.text(
            x, y, text, fontsize=size, color=colour, ha=at, va="center_baseline", weight=weight
        )

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: str = RULE, width: float = 0.7,
        dashed: bool = False, caps: bool = False, above: bool = False,
    ) -> None:  # fmt: skip
        """Straight pieces through the points; ``caps``: with ends, as of an interval."""
        style: Any = (0, (2.2, 1.8)) if dashed else "solid"
        self.axes.plot(
            xs, ys, linestyle=style, color=colour, linewidth=width, marker="|" if caps else "",
            markersize=4.5, markeredgewidth=width, solid_capstyle="butt", zorder=4 if above else 1,
        )  # fmt: skip

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, alpha: float = 1.0, hatch: str = ""
    ) -> None:  # fmt: skip
        """A filled rectangle, its top left corner at (x, y)."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(
            Rectangle((x, y), width, height, facecolor=colour, alpha=alpha, linewidth=0, zorder=2)
        )
        if hatch:
            self.axes.add_patch(
                Rectangle((x, y), width, height, facecolor="none", edgecolor=INK, alpha=0.35, hatch=hatch, linewidth=0, zorder=3)
            )  # fmt: skip

    def mark(self, x: float, y: float, marker: str, colour: str, filled: bool = True, size: float = 5.2) -> None:  # fmt: skip
        """A marker; open ones show the paper."""
        self.axes.plot(
            [x], [y], linestyle="none", marker=marker, markersize=size, color=colour,
            markerfacecolor=colour if filled else PAPER, markeredgecolor=colour, markeredgewidth=0.9, zorder=5,
        )  # fmt: skip
