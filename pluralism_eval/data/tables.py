"""CSV files of others, read whole or refused: one error says which row and which column."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pluralism_eval.errors import PluralismError

log = logging.getLogger(__name__)
_SHOWN = 12
_OTHER_DELIMITERS = (";", "\t", "|")


@dataclass(frozen=True)
class Table:
    """A CSV file's cells: as many in every row as the header has names."""

    file: Path
    header: list[str]
    cells: list[list[str]]
    """[n_rows][n_columns]"""

    def column(self, name: str) -> list[str]:
        """[n_rows] cells of one column."""
        place = self.header.index(name)
        return [row[place] for row in self.cells]

    def rows(self) -> Iterator[dict[str, str]]:
        """Each row by column name."""
        return (dict(zip(self.header, row, strict=True)) for row in self.cells)


def read_table(file: Path, columns: Sequence[str]) -> Table:
    """The table in ``file``: UTF-8 (a byte order mark is allowed), separated by commas.

    Args:
        columns: names that its header must have.

    Raises:
        PluralismError: an unreadable, empty or truncated file, a missing or repeated column, no rows.
    """
    text = _text(file)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    cells: list[list[str]] = []
    try:
        header = next(reader, [])
        _check_header(file, header, columns)
        for row in reader:
            if not row:
                continue  # a blank line
            cells.append(row)
            if len(row) != len(header):
                raise PluralismError(_odd_row(file, header, cells, reader.line_num))
    except csv.Error as error:
        raise PluralismError(
            f"{str(file)!r} cannot be read as CSV: row {len(cells) + 1} (line {reader.line_num}): {error}; is a quotation "
            "mark missing, or the file truncated? Get it again"
        ) from error
    if not cells:
        raise PluralismError(f"{str(file)!r}: no rows below the header; is it truncated?")
    if not text.endswith(("\n", "\r")):
        log.warning(
            "%s: its last line, row %d, has no line end; if the file was truncated there, its last cell is too short",
            file, len(cells),
        )  # fmt: skip
    return Table(file, header, cells)


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise PluralismError(f"{str(file)!r} cannot be read as CSV: {error}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PluralismError(
            f"{str(file)!r} cannot be read as CSV: it is not UTF-8 (byte {error.start}, line {line}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise PluralismError(
            f"{str(file)!r} cannot be read as CSV: line {text[: text.index(chr(0))].count(chr(10)) + 1} "
            "holds a zero byte; save it as UTF-8 text"
        )
    return text


def _check_header(file: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if not header:
        raise PluralismError(f"{str(file)!r} is empty: no header and no rows; get it again")
    other = next((d for d in _OTHER_DELIMITERS if len(header[0].split(d)) > len(header)), None)
    if other:
        raise PluralismError(
            f"{str(file)!r}: the header's cells are separated by {other!r}; save it with commas between the cells"
        )
    missing = [column for column in columns if column not in header]
    if missing:
        shown = ", ".join(header[:_SHOWN]) + (", ..." if len(header) > _SHOWN else "")
        raise PluralismError(
            f"{str(file)!r} has no column {', '.join(missing)} (it has {shown}); needed: {', '.join(columns)}"
        )
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:
        raise PluralismError(
            f"{str(file)!r} has the column {', '.join(map(repr, twice))} more than once; keep one of them"
        )


def _odd_row(file: Path, header: list[str], cells: list[list[str]], line: int) -> str:
    last = cells[-1]
    if len(last) < len(header):
        place = f"it ends before column {header[len(last)]!r}"
    else:
        place = f"it goes on behind the last column {header[-1]!r}"
    return (
        f"{str(file)!r}, row {len(cells)}: not as many cells as the header ({len(last)}, not {len(header)}; line {line}): "
        f"{place}; is a quotation mark or a line missing? Download the file again"
    )
