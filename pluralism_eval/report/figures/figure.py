"""A figure: its words, its numbers and how to draw it; as inline SVG and as a file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.report.figures.style import (
    INK,
    SMALL,
    SOFT,
    VARIABLES,
    WIDTH,
    drawing,
    lines_of,
    plain,
    room,
)

_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
_POINTER = re.compile(r"(?:^|url\()#([^)]+)")
_FONT = re.compile(r"'DejaVu Sans'[^;]*")
FORMATS = (".svg", ".pdf", ".png")
_UNDATED: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None}, ".pdf": {"CreationDate": None, "ModDate": None}, ".png": {},
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One figure of a report."""

    name: str
    """Short, of letters, digits and ``_``: names files and prefixes the ids of the inline SVG."""
    title: str
    caption: str
    """What is shown, of how many docs, what the intervals are, what to be careful of."""
    alt: str
    """The message in numbers, for those who do not see it."""
    rows: list[list[str]]
    """The numbers behind it, the header first."""
    draw: Callable[[], Any] = field(compare=False, repr=False)
    """A new matplotlib figure, without title and caption."""

    @cached_property
    def svg(self) -> str:
        """An ``<svg>`` element for a page: as wide as its place, coloured by the page.

        Colours are CSS variables (``style.VARIABLES``) with fallbacks. Ids begin with ``name``.
        """
        with drawing():
            out = io.StringIO()
            self.draw().savefig(out, format="svg", metadata=_UNDATED[".svg"])
        return _inline(out.getvalue(), self.name, plain(self.title), plain(self.alt))


def save(figure: Figure, path: Path) -> None:
    """Writes ``figure`` with its title and caption, in plain colours on white; the same bytes every time.

    Raises:
        PluralismError: a name that does not end in .svg, .pdf or .png, or a file that cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise PluralismError(
            f"figure {str(path)!r}: give a name ending in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        )
    with drawing():
        drawn = figure.draw()
        height = drawn.get_size_inches()[1]
        heads = lines_of(figure.title, room(WIDTH - 0.2, 10.5))
        for i, line in enumerate(reversed(heads)):
            y = 1 + (0.12 + 0.19 * i) / height
            drawn.text(0.08 / WIDTH, y, line, fontsize=10.5, weight="bold", color=INK)
        for i, line in enumerate(lines_of(figure.caption, room(WIDTH - 0.2, SMALL))):
            y = -(0.1 + 0.14 * i) / height
            drawn.text(0.08 / WIDTH, y, line, fontsize=SMALL, color=SOFT, va="top")
        out = io.BytesIO()
        drawn.savefig(
            out, format=suffix[1:], dpi=200, facecolor="white", bbox_inches="tight", pad_inches=0.12,
            metadata=_UNDATED[suffix],
        )  # fmt: skip
    write_atomic(path, out.getvalue())


def _inline(svg: str, name: str, title: str, alt: str) -> str:
    """matplotlib's SVG file → an element; several of them can stand in one page."""
    root = ElementTree.fromstring(svg)
    for part in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}defs"):  # whose style would rule the whole page
        for found in root.findall(part):
            if part.endswith("metadata") or found.find(f"{{{_SVG}}}style") is not None:
                root.remove(found)
    used = {m for e in root.iter() for v in e.attrib.values() for m in _POINTER.findall(v)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            element.set(key, _own(key, value, name))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    for i, (tag, text) in enumerate((("title", title), ("desc", alt))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(i, element)
    return ElementTree.tostring(root, encoding="unicode")


def _own(key: str, value: str, name: str) -> str:
    """An attribute with its ids made the figure's own, and its colours and font the page's."""
    if key == "id":
        return f"{name}-{value}"
    value = _POINTER.sub(lambda m: m[0].replace("#", f"#{name}-"), value)
    if key == "style":
        value = _FONT.sub("sans-serif", value)
        for colour, (variable, fallback, _) in VARIABLES.items():
            value = value.replace(colour, f"var({variable}, {fallback})")
    return value
