"""The commands that meet faults, and how they look when nothing happens to them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from pluralism_eval.cache import CACHE_VARIABLE, Store
from pluralism_eval.errors import PluralismError
from tests.faults.chaos.commands import (
    ANSWERS,
    KEPT,
    OTHER,
    OURS,
    POOL,
    SUBMISSIONS,
    Command,
    commands,
)
from tests.faults.chaos.outcomes import differences
from tests.faults.chaos.processes import Place, Started, Warm
from tests.faults.chaos.server import MODELS, Server


@dataclass
class Whole:
    """How a command went when nothing happened to it."""

    outcome: dict[str, Any]
    seconds: float
    requests: int
    largest: int
    """Bytes of the largest file that it left."""


class Verdict(NamedTuple):
    """What became of a command after faults."""

    lost: list[str]
    """Why it cannot be brought to its end, or what it did a second time."""
    wrong: list[str]
    """It ended as if all were well, and these parts are not what they should be."""


class Work:
    """A folder in which commands run against one server."""

    def __init__(self, folder: Path, server: Server, names: list[str] | None, model: bool) -> None:
        """
        Args:
            names: of the commands that meet faults; None: all (those of the embedded model if ``model``).
        """
        self.server = server
        self._folder, self._numbers = folder, count(1)
        self._environment = {
            CACHE_VARIABLE: "cache",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }
        everything = commands(server.url)
        known = [command.name for command in everything]
        unknown = sorted(set(names or ()) - set(known))
        if unknown:
            raise PluralismError(f"--commands {','.join(unknown)}: unknown. Allowed: {', '.join(known)}")  # fmt: skip
        self.commands = [
            c for c in everything if (c.name in names if names else model or not c.model)
        ]
        self._prepared = _with_makers(self.commands, everything)
        self.whole: dict[str, Whole] = {}
        self.warm = Warm(self._environment)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.warm.close()

    def prepare(self, tell: Any) -> None:
        """Runs every command once, undisturbed. Raises PluralismError if one fails."""
        for command in self._prepared:
            tell(command.name)
            with self.fresh(command) as place:
                self.server.reset()
                with self.start(command, place) as process:
                    status = process.wait()
                if status != 0:
                    raise PluralismError(
                        f"pluralism-eval {command.name} fails without any fault (status {status}): "
                        f"{last_line(process)}. Repair that first"
                    )
                largest = max(p.stat().st_size for p in place.folder.rglob("*") if p.is_file())
                outcome = command.outcome(place.folder, process.said())
                self.whole[command.name] = Whole(
                    outcome, process.seconds, self.server.requests, largest
                )
                self._keep(command, place.folder)

    def _keep(self, command: Command, folder: Path) -> None:
        """What later commands read, and all of it for those who damage it."""
        if not command.model:
            shutil.copytree(folder, self._folder / "finished" / command.name)
        target = self._folder / "whole"
        for name in {OURS, OTHER, SUBMISSIONS} - set(command.needs):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, target / name)
        for samples in (
            folder.glob(f"{OURS}/*/samples_*_vk_*.jsonl") if OURS not in command.needs else ()
        ):
            shutil.copyfile(samples, target / ANSWERS)
        for made in folder.glob(f"{SUBMISSIONS}/*") if command.name == "submit" else ():
            shutil.copytree(made, target / KEPT)

    @contextmanager
    def fresh(self, command: Command) -> Iterator[Place]:
        """A folder with what ``command`` needs, for as long as the block lasts."""
        with self._scratch() as folder:
            (folder / POOL).write_text(_pool(self.server.url), encoding="utf-8")
            for need in command.needs:
                source, target = self._folder / "whole" / need, folder / need
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target)
                else:
                    shutil.copyfile(source, target)
            yield Place(folder, self._environment)

    @contextmanager
    def finished(self, command: Command) -> Iterator[Place]:
        """A folder in which ``command`` has come to its end, undisturbed."""
        with self._scratch() as folder:
            shutil.copytree(self._folder / "finished" / command.name, folder, dirs_exist_ok=True)
            yield Place(folder, self._environment)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = Path(mkdtemp(prefix=f"{next(self._numbers)}-", dir=self._folder))
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def start(
        self, command: Command, place: Place, fresh: bool = False, most: int | None = None
    ) -> Started:
        """``command``, typed in ``place``."""
        log = place.folder / f"said-{next(self._numbers)}"
        return Started(command.argv, place, log, None if fresh else self.warm, most)

    def finish(self, command: Command, place: Place) -> Verdict:
        """Types ``command`` again, until its end."""
        with self.start(command, place) as process:
            process.wait()
        return self.verdict(command, place, process)

    def verdict(self, command: Command, place: Place, process: Started) -> Verdict:
        """On what an ended ``process`` left."""
        status, name = process.status, command.name
        if status != 0 and not (command.done and command.done in process.complaint()):
            return Verdict(
                [f"{name} did not come to its end (status {status}): {last_line(process)}"], []
            )
        try:
            found = command.outcome(place.folder, process.said())
        except (PluralismError, OSError) as error:
            return Verdict([f"{name} left results that cannot be read: {error}"], [])
        different = differences(self.whole[name].outcome, found)
        return Verdict([], [f"{name}: {part}" for part in different])


def stored_replies(folder: Path, keys: list[str]) -> set[str]:
    """Which of ``keys`` the store of replies in ``folder`` holds; it is read in a copy."""
    scratch = Path(mkdtemp(dir=folder))
    try:
        for source in (folder / "cache").glob("api.sqlite*"):
            if source.is_dir():  # as it is kept where locks do not work
                shutil.copytree(source, scratch / source.name)
            elif not source.name.endswith("-shm"):
                shutil.copyfile(source, scratch / source.name)
        return set(Store(scratch / "api.sqlite", "replies").get(keys))
    finally:
        shutil.rmtree(scratch)


def last_line(process: Started) -> str:
    lines = [line.strip() for line in process.complaint().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"


_MADE_BY = {
    OURS: "run modular_pluralism", OTHER: "run vanilla", ANSWERS: "run modular_pluralism", SUBMISSIONS: "submit",
    KEPT: "submit",
}  # fmt: skip


def _with_makers(chosen: Sequence[Command], everything: Sequence[Command]) -> list[Command]:
    """``chosen`` and whoever makes what they need, makers first."""
    names = {command.name for command in chosen}
    for _ in range(2):  # a submission needs a run
        needs = {need for command in everything if command.name in names for need in command.needs}
        names |= {_MADE_BY[need] for need in needs}
    return sorted((c for c in everything if c.name in names), key=_order)


def _order(command: Command) -> int:
    """What others need comes first."""
    return 0 if command.name.startswith("run ") else 1 if command.name == "submit" else 2


def _pool(url: str) -> str:
    entry = "- {{name: {0}, description: people of the {0}, engine: served, base_url: '{1}', model: {0}, base: base}}\n"
    return "".join(entry.format(name, url) for name in MODELS[2:])
