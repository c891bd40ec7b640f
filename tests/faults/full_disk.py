"""Writes of every kind on a full disk (a small tmpfs; Linux, root): each has to fail clearly, and harm nothing.

Every kind is written once while there is room. Then the disk is filled and it is written again: that has
to end in one error which names the place, with all files as they were and nothing new beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pluralism_eval.cache import CACHE_VARIABLE, FORM_VARIABLE, Store
from pluralism_eval.errors import PluralismError
from tests.conftest import ROOT
from tests.faults.stores import rows_of

Kind = Callable[[Path, int], object]
"""Writes below a folder, the first or the second time."""


@contextmanager
def small_disk(folder: Path, kilobytes: int = 8000) -> Iterator[Path]:
    """A disk of its own at ``folder``. Raises OSError where none can be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError("there is no mount command") from error
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte more fits on ``disk``."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


def command(*words: object) -> None:
    """``pluralism-eval WORDS``; what it says to standard error becomes the error."""
    from pluralism_eval.cli import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main([str(word) for word in words])
    if status:
        lines = [x for x in said.getvalue().splitlines() if x.startswith("pluralism-eval: ")]
        assert len(lines) == 1, said.getvalue()
        raise PluralismError(lines[0])


def attempt(kind: Kind, place: Path, disk: Path) -> str:
    """What is wrong with how ``kind`` fails; empty if it fails as it should."""
    kind(place, 1)
    before = content(place)
    with filled(disk):
        try:
            kind(place, 2)
        except PluralismError as error:
            said = str(error)
        except BaseException as error:  # what is looked for
            return f"ends in {type(error).__name__}: {error}"
        else:
            return "does not fail"
        if place.name not in said:
            return f"does not name the place: {said}"
        after = content(place)
    changed = sorted(name for name in before if after.get(name) != before[name])
    new = [] if kind is _run else sorted(after.keys() - before)  # lm-eval's own half files stay
    return f"changed {changed}, left {new}" if changed or new else ""


def content(place: Path) -> dict[str, bytes]:
    """File → bytes, without stores, whose rows are compared, and logs, which are added to."""
    files = (p for p in place.rglob("*") if p.is_file() and p.name != "log.txt")
    found = {str(p.relative_to(place)): p.read_bytes() for p in files}
    return {name: text for name, text in found.items() if ".sqlite" not in name}


# ---------------------------------------------------------------------- what is written


def store(cache: str, table: str) -> Kind:
    """Rows of a store; those of the first time have to be there afterwards."""

    def kind(place: Path, n: int) -> None:
        rows = rows_of(cache)
        opened = Store(place / f"{cache}.sqlite", table)
        try:
            opened.put(rows if n == 1 else {f"{k}-{n}": [v] * 2000 for k, v in rows.items()})
        finally:
            (place.parent / "filler").unlink(missing_ok=True)
            assert opened.get(list(rows)) == rows
            assert len(opened) == len(rows)

    return kind


def lines(place: Path, n: int) -> None:
    os.environ[FORM_VARIABLE] = "lines"
    try:
        store("answers", "answers")(place, n)
    finally:
        del os.environ[FORM_VARIABLE]


def _transcript(place: Path, n: int) -> None:
    from pluralism_eval.transcript import Transcript

    if n == 1:
        Transcript("m", str(place / "earlier.jsonl"))
        return
    written = Transcript("m", str(place / "earlier.jsonl"))
    request = SimpleNamespace(task_name="t", doc_id=0, idx=0)
    written.write_direct(request, "x" * 5000, "y")


def _results(place: Path, n: int) -> None:
    from pluralism_eval.study import save

    sample = {"doc_id": 0, "doc_hash": "", "prompt_hash": "", "target_hash": "", "arguments": [["p", "c"]],
              "resps": [["r" * 5000]], "filtered_resps": ["r"], "target": 0}  # fmt: skip
    save({"results": {}, "config": {}, "samples": {"t": [sample]}}, place / "run", "vanilla")


def _figure(place: Path, n: int) -> None:
    from matplotlib.figure import Figure as Drawn

    from pluralism_eval.report.figures.figure import Figure, save

    figure = Figure("name", f"Title {n}", "Caption", "Alternative", [["a"], ["1"]], Drawn)
    save(figure, place / "figure.svg")


def _key_and_page(place: Path, n: int) -> None:
    from pluralism_eval.people.study import Study, write_study

    write_study(
        Study("id", "<html>" + "x" * 9000 * n, {"id": "id"}, 1, 0, {}), place / "study.html"
    )


def _registry(place: Path, n: int) -> None:
    from pluralism_eval.communities.registry import REGISTRY_VARIABLE, register

    os.environ[REGISTRY_VARIABLE] = str(place / "communities.yaml")
    try:
        register(name=f"c{n}", description="d" * 5000, base="b", adapter="a")
    finally:
        del os.environ[REGISTRY_VARIABLE]


def _serving(place: Path, n: int) -> None:
    words = ("--output", place / "serving", "--port", 8000 + n)
    command("serve", "embedded", "--llm", "org/large", *words)


def _checkpoint(place: Path, n: int) -> None:
    import torch

    from pluralism_eval import train

    (place / "checkpoints").mkdir(exist_ok=True)
    name = "optimizer.pt" if n == 1 else "optimizer.2.pt"
    with train._saving(place / "checkpoints"):
        try:
            torch.save({"state": torch.zeros(50_000)}, place / "checkpoints" / name)
        finally:
            if n == 2:  # a broken checkpoint is found and removed when the training goes on
                (place / "checkpoints" / name).unlink()


def _adapter(place: Path, n: int) -> None:
    import torch
    from safetensors.torch import save_file

    from pluralism_eval import train

    with train._saving(place):
        try:
            save_file({"w": torch.zeros(50_000)}, place / f"adapter{n}.safetensors")
        finally:
            if n == 2:
                (place / "adapter2.safetensors").unlink(missing_ok=True)


def _training_record(place: Path, n: int) -> None:
    from pluralism_eval import train

    train._write(place / "training.json", {"steps": [n] * 3000})


def _download(place: Path, n: int) -> None:
    from pluralism_eval.data import sources

    os.environ[CACHE_VARIABLE] = str(place)
    found: Any = sources._fetch
    sources._fetch = lambda url, name, target: b"[]" * 3000
    try:
        sources._download(f"{n}.json", sources.blob_id(b"[]" * 3000))
    finally:
        sources._fetch = found


def _leaderboard(place: Path, n: int) -> None:
    command(
        "leaderboard",
        "--submissions",
        ROOT / "results" / "submissions",
        "--output",
        place / "pages",
    )


def _data(place: Path, n: int) -> None:
    from pluralism_eval.commands import data
    from pluralism_eval.data.build import Built

    found = data.BUILDERS["moralchoice"]
    data.BUILDERS["moralchoice"] = lambda source, **_: Built(
        "moralchoice", [{"id": i} for i in range(2000 * n)]
    )
    try:
        command("data", "build", "moralchoice", "--source", place, "--output", place / "data")
    finally:
        data.BUILDERS["moralchoice"] = found


def _run(place: Path, n: int) -> None:
    words = ["run", "--model", "vanilla", "--tasks", "pluralism_distributional_moralchoice", "--limit", "1",
             "--metadata", "data=sample", "--model_args", f"llm=embedded,transcript={place.parents[1] / 't.jsonl'}",
             "--output_path", str(place / "out"), "--log_samples"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pluralism_eval.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        assert "Traceback" not in done.stderr, done.stderr
        raise PluralismError(done.stderr.split("pluralism-eval: ")[-1])


def of_runs(runs: Path, store: Path) -> dict[str, Kind]:
    """What is made of finished runs (those of ``compare``) and their messages."""
    pooled, plain = (sorted(runs.glob(f"runs/{m}_*/{m}"))[0] for m in ("modular_pluralism", "vanilla"))  # fmt: skip
    pool = ["--communities", "embedded", "--messages", store, "--metadata", "data=sample", "--limit", "2",
            "--tasks", "pluralism_distributional_moralchoice", "--message_max_tokens", "6"]  # fmt: skip
    return {
        "report": lambda p, n: command("report", pooled, plain, "--output", p / "report", "--title", n),
        "export to Every Eval Ever": lambda p, n: command("export", plain, "--to", "every-eval-ever", "--output", p / f"{n}"),
        "export to the Hub": lambda p, n: command("export", plain, "--to", "hf", "--output", p / f"hub{n}"),
        "submission": lambda p, n: command("submit", (pooled, plain)[n - 1], "--output", p / "submissions"),
        "annotation page": lambda p, n: command(
            "annotate", "make", pooled, "--baseline", plain, "--output", p / "study.html", "--pairs", 2
        ),
        "message export": lambda p, n: command("messages", "export", *pool, "--to", p / "exported"),
    }  # fmt: skip


LIGHT: dict[str, Kind] = {
    "message store": store("messages", "messages"),
    "api store": store("api", "replies"),
    "answers": store("answers", "answers"),
    "NLI scores": store("nli", "nli"),
    "store as lines": lines,
    "transcript": _transcript,
    "results of a study": _results,
    "figure": _figure,
    "annotation key and page": _key_and_page,
    "registry of communities": _registry,
    "training checkpoint": _checkpoint,
    "adapter weights": _adapter,
    "training record": _training_record,
    "download of inputs": _download,
}
HEAVY: dict[str, Kind] = {
    "serving files": _serving,
    "leaderboard pages": _leaderboard,
    "data built": _data,
    "lm-eval's results, by pluralism-eval run": _run,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=Path, help="the --output of `compare --methods vanilla,modular_pluralism`"
    )
    parser.add_argument("--messages", type=Path, help="the messages= of that")
    arguments = parser.parse_args()
    kinds = LIGHT | HEAVY
    if arguments.runs:
        kinds |= of_runs(arguments.runs.absolute(), arguments.messages.absolute())
    logging.disable(logging.WARNING)
    failed = 0
    cache = os.environ.get(CACHE_VARIABLE, "")
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as disk:
        for i, (name, kind) in enumerate(kinds.items()):
            os.environ[CACHE_VARIABLE] = cache or str(Path(folder) / "cache")
            place = disk / f"place-{i}"
            place.mkdir()
            wrong = attempt(kind, place, disk)
            failed += bool(wrong)
            print(f"{name}: {wrong or 'one clear error, all earlier files intact'}", flush=True)
            subprocess.run(["rm", "-rf", str(place)], check=True)
    print(f"{len(kinds)} failed writes: {len(kinds) - failed} clear failures, {failed} others")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
