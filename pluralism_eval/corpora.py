"""A community's texts: files, folders, datasets, and CultureBank by continent."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pluralism_eval.cache import digest
from pluralism_eval.communities import asking
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import leads_out, open_regular
from pluralism_eval.json_files import loads
from pluralism_eval.prompts import Prompts

log = logging.getLogger(__name__)

HELD_OUT_EVERY = 6
FEWEST_PIECES = 2 * HELD_OUT_EVERY
SITUATION = "Please comment on the following situation: {}"
"""How the Overton task's queries put a situation."""
CULTUREBANK = "culturebank"
CULTUREBANK_ID = "SALT-NLP/CultureBank"
_FILE_BYTES = 2 << 30
CONTINENTS = ("asia", "africa", "europe", "northamerica", "southamerica")


class Piece(NamedTuple):
    """A text of a community; with a prompt, what it answers when it is asked that."""

    text: str
    prompt: str = ""
    topic: str = ""
    """Pieces of one topic are held out together; empty: the piece is a topic of its own."""
    options: tuple[str, ...] = ()
    """Of the question in ``prompt``, if it is one."""


@dataclass(frozen=True)
class Corpus:
    """Pieces of text, duplicates dropped; those of every sixth topic are held out from training."""

    source: str
    pieces: tuple[Piece, ...]
    duplicates: int
    """Pieces dropped because an equal one came before."""
    left_out: dict[str, int]
    """Reason → how many rows were not used."""
    licence: str = "unknown"

    @property
    def sha256(self) -> str:
        """Over the pieces in their order."""
        return digest([[p.prompt, p.text] if p.prompt else p.text for p in self.pieces])

    @property
    def training(self) -> list[Piece]:
        return [
            piece for piece, held in zip(self.pieces, self._held_out(), strict=True) if not held
        ]

    @property
    def held_out(self) -> list[Piece]:
        return [piece for piece, held in zip(self.pieces, self._held_out(), strict=True) if held]

    def _held_out(self) -> list[bool]:
        topics = [piece.topic or f"#{i}" for i, piece in enumerate(self.pieces)]
        order = {topic: n for n, topic in enumerate(dict.fromkeys(topics))}
        return [order[topic] % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 for topic in topics]


def read_corpus(
    source: str, column: str = "text", split: str = "train", max_pieces: int | None = None
) -> Corpus:
    """Text of a community.

    Args:
        source: a ``.jsonl`` file, whose rows have the column of texts, or ``question``, ``options``, ``answer`` and
            ``reasons``, or ``situation`` and ``view`` (these with ``topic``, if they have one); a text file, pieces parted by blank lines; a folder of ``.txt``
            files, one piece each; ``culturebank:CONTINENT``; or the id of a dataset.
        column: where the text stands in JSON Lines and datasets.
        split: of a dataset.
        max_pieces: the first so many, from 12; None for all.

    Raises:
        PluralismError: missing, unreadable, binary, empty, without that column, or fewer than 12
            different pieces.
    """
    if max_pieces is not None and max_pieces < FEWEST_PIECES:
        raise PluralismError(f"--max-pieces {max_pieces}: at least {FEWEST_PIECES} are needed")
    texts, left_out, licence = _read(source, column, split)
    different = list(dict.fromkeys(piece._replace(text=piece.text.strip()) for piece in texts))
    if len(different) < FEWEST_PIECES:
        dropped = len(texts) - len(different)
        raise PluralismError(
            f"corpus {source!r} has {len(different)} different pieces"
            + (f" ({dropped} duplicates dropped)" if dropped else "")
            + f"; at least {FEWEST_PIECES} are needed, every sixth is held out. "
            "One long document? Part it by blank lines"
        )
    topics = {piece.topic or i for i, piece in enumerate(different[:max_pieces])}
    if len(topics) < HELD_OUT_EVERY:
        raise PluralismError(
            f"corpus {source!r} has {len(topics)} different topics; at least {HELD_OUT_EVERY} are needed, every sixth is held out"
        )
    return Corpus(
        source, tuple(different[:max_pieces]), len(texts) - len(different), left_out, licence
    )


def _read(source: str, column: str, split: str) -> tuple[list[Piece], dict[str, int], str]:
    path = Path(source)
    kind, _, continent = source.partition(":")
    if kind == CULTUREBANK:
        texts, left_out, licence = _culturebank(continent)
        return _plain(texts), left_out, licence
    if path.is_dir():
        found = sorted(path.rglob("*.txt"))
        if not found:
            raise PluralismError(f"corpus {source!r}: the folder has no .txt file")
        own = [file for file in found if file.is_file() and not leads_out(file, path)]
        foreign = len(found) - len(own)
        if foreign:
            log.warning(
                "corpus %r: %d files are left out, e.g. %s: links that lead out of the folder, or no regular files",
                source, foreign, next(file for file in found if file not in own).name,
            )  # fmt: skip
        texts = [_text(file) for file in own]
        filled = [text for text in texts if text.strip()]
        left_out = _counted("empty files", len(texts) - len(filled))
        return _plain(filled), left_out | _counted("links out of the folder", foreign), "unknown"
    if path.is_file() and path.suffix in (".jsonl", ".json"):
        return _pieces(source, _json_lines(source, _text(path)), column), {}, "unknown"
    if path.is_file():
        parts = [t for t in re.split(r"\n\s*\n", _text(path)) if t.strip()]
        return _plain(parts), {}, "unknown"
    if path.suffix or source.startswith((".", "/", "~")):
        raise PluralismError(f"corpus {source!r}: no such file or folder")
    return _pieces(source, _dataset(source, split), column), {}, "unknown"


def _counted(reason: str, count: int) -> dict[str, int]:
    return {reason: count} if count else {}


def _text(path: Path) -> str:
    try:
        with open_regular(path, _FILE_BYTES) as file:
            blocks: list[bytes] = []
            while block := file.read(1 << 20):
                if b"\0" in block:
                    raise PluralismError(f"corpus {str(path)!r} is binary; UTF-8 text is needed")
                blocks.append(block)
        return b"".join(blocks).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PluralismError(
            f"corpus {str(path)!r} is not UTF-8 (byte {error.start}); convert it, or it is no text"
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, PluralismError):
            raise
        raise PluralismError(f"corpus {str(path)!r} cannot be read: {error}") from error


def _json_lines(source: str, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(loads(line))
        except ValueError as error:
            raise PluralismError(
                f"corpus {source!r}, line {number} is not JSON ({error}); JSON Lines are needed"
            ) from error
    return rows


def _dataset(source: str, split: str) -> Iterable[Any]:
    import datasets

    try:
        rows: Iterable[Any] = datasets.load_dataset(source, split=split)
    except Exception as error:  # unknown, gated, offline, no such split: one line each
        reason = str(error).splitlines()[0] if str(error) else ""
        raise PluralismError(
            f"corpus {source!r} is no file here, and no dataset with split {split!r} to be had: {type(error).__name__}: {reason}"
        ) from error
    return rows


def _plain(texts: Iterable[str]) -> list[Piece]:
    return [Piece(text) for text in texts]


def _pieces(source: str, rows: Iterable[Any], column: str) -> list[Piece]:
    """Rows of text, of questions with their answers, or of situations with views on them."""
    prompts = Prompts()
    found = []
    for number, row in enumerate(rows, 1):
        where = f"corpus {source!r}, row {number}"
        if not isinstance(row, dict):
            raise PluralismError(f"{where} is {type(row).__name__}, not a table row; set --column")
        topic = str(row.get("topic", ""))
        if {"question", "options", "answer", "reasons"} <= row.keys():
            found.append(_answer(where, row, topic, prompts))
        elif {"situation", "view"} <= row.keys():
            asked = SITUATION.format(_filled(where, row, "situation"))
            found.append(
                Piece(_filled(where, row, "view"), asking.situation(prompts, asked), topic)
            )
        elif column in row:
            found.append(Piece(_filled(where, row, column), topic=topic))
        else:
            raise PluralismError(
                f"{where} has no column {column!r} (it has: {', '.join(map(str, row))}); set --column, or give "
                "question, options, answer and reasons, or situation and view"
            )
    return found


def _answer(where: str, row: Mapping[str, Any], topic: str, prompts: Prompts) -> Piece:
    options, answer = row["options"], _filled(where, row, "answer")
    if not isinstance(options, list) or not all(isinstance(o, str) and o.strip() for o in options):
        raise PluralismError(f"{where}: options are {options!r:.80}; a list of texts is needed")
    if answer not in options:
        raise PluralismError(
            f"{where}: the answer {answer!r:.60} is none of the options {options!r:.120}"
        )
    text = asking.answered(answer, _filled(where, row, "reasons"))
    prompt = asking.asked_question(prompts, _filled(where, row, "question"), options)
    return Piece(text, prompt, topic, tuple(options))


def _filled(where: str, row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise PluralismError(f"{where}: column {column!r} is {value!r:.60}, not text")
    return value


# ---------------------------------------------------------------------- CultureBank


def _culturebank(
    continent: str, load: Callable[[str, str], Iterable[Any]] = _dataset
) -> tuple[list[str], dict[str, int], str]:
    if continent not in CONTINENTS:
        raise PluralismError(
            f"corpus '{CULTUREBANK}:{continent}': the continents are {', '.join(CONTINENTS)}"
        )
    texts: list[str] = []
    groups: Counter[str] = Counter()
    for split in ("tiktok", "reddit"):
        for row in load(CULTUREBANK_ID, split):
            missing = {"cultural group", "eval_whole_desc"} - set(row)
            if missing:
                raise PluralismError(f"{CULTUREBANK_ID} has no column {sorted(missing)[0]!r}")
            where = continents_of(str(row["cultural group"]))
            text = row["eval_whole_desc"]
            if where == {continent} and isinstance(text, str) and text.strip():
                texts.append(text)
            elif not where:
                groups["rows whose cultural group has no continent"] += 1
            elif len(where) > 1:
                groups["rows of several continents"] += 1
            elif where == {continent}:
                groups["rows without text"] += 1
    return texts, dict(groups), "MIT"


def continents_of(group: str) -> set[str]:
    """The continents that a cultural group's name points to: ``"Asian Americans"`` to two.

    The longest name counts: ``"South African"`` is not ``"African"`` twice, ``"South American"`` is
    not ``"American"``.
    """
    names = _names()
    pattern = _pattern()
    return {names[match.group(1).lower()] for match in pattern.finditer(group)}


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    file = files("pluralism_eval.communities").joinpath("continents.yaml")
    table: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {
        name.strip().lower(): continent
        for continent, names in table.items()
        for name in names.split("|")
    }


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    longest_first = sorted(_names(), key=len, reverse=True)
    return re.compile(
        rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?:s|es)?(?!\w)", re.IGNORECASE
    )
