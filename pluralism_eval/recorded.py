"""Hashes that a run records of what it leaves, and their check wherever a run is read.

Samples: ``samples_sha256`` in the results file, one hash a task over whole rows. The transcript: ``transcript_sha256``
in ``config.pluralism``. Runs that have no ``samples_sha256`` are checked by what lm-eval itself records: the hash of
each doc and of each target, and of all these hashes. What a study recorded of its files is in its ``study.json``.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.errors import PluralismError, raise_all

log = logging.getLogger(__name__)

SAMPLES = "samples_sha256"
TRANSCRIPT = "transcript_sha256"
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
"""Fields of a sample, by lm-eval."""
_SHA256 = re.compile("[0-9a-f]{64}")
_MEND = "put the file back as the run left it, or run it again"


def file_sha256(path: Path) -> str:
    """Of the bytes of a file of any size."""
    found = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def samples_sha256(rows: Iterable[Mapping[str, Any]], default: Any = None) -> str:
    """Of a task's samples, as lm-eval holds them and as it saves them alike; their order does not matter.

    Args:
        default: how JSON is told what it does not know, as in ``json.dumps``.
    """
    found = sha256()
    for line in sorted(sha256(_line(row, default)).digest() for row in rows):
        found.update(line)
    return found.hexdigest()


def _line(row: Mapping[str, Any], default: Any) -> bytes:
    """A row after what lm-eval does to it on saving: texts of responses and target, arguments by name."""
    arguments = row.get("arguments", [])
    calls = arguments.values() if isinstance(arguments, dict) else arguments
    saved = {
        **row,
        "arguments": [list(c.values()) if isinstance(c, dict) else c for c in calls],
        "resps": _texts(row.get("resps", [])),
        "filtered_resps": _texts(row.get("filtered_resps", [])),
        "target": str(row.get("target")),
    }
    plain = json.loads(json.dumps(saved, default=default))  # keys are text, tuples are lists
    return json.dumps(plain, sort_keys=True).encode()


def _texts(value: Any) -> Any:
    return [_texts(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def fit_tracker(tracker: type[Any]) -> None:
    """Lets lm-eval's ``EvaluationTracker`` record the hashes of the samples in the results file. Idempotent."""
    inner = tracker.save_results_aggregated
    if getattr(inner, "_pluralism_eval", False):
        return

    @functools.wraps(inner)
    def save(self: Any, results: dict[str, Any], samples: dict[str, Any] | None = None) -> None:
        from lm_eval.utils import handle_non_serializable

        try:
            known = {
                task: samples_sha256(rows, handle_non_serializable)
                for task, rows in (samples or {}).items()
            }
            if known:
                results[SAMPLES] = known
        except Exception as error:  # results are worth more than their hash
            log.warning("the hashes of the samples are not recorded: %r", error)
        inner(self, results, samples)

    save._pluralism_eval = True  # type: ignore[attr-defined]
    tracker.save_results_aggregated = save


# ---------------------------------------------------------------------- checking


def check_samples(
    raw: Mapping[str, Any], task: str, rows: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Raises PluralismError where the samples in ``path`` are not those that the run recorded.

    Args:
        raw: the results file.
        rows: in the order of ``path``.
    """
    recorded = (raw.get(SAMPLES) or {}).get(task)
    if recorded:
        _same(path, "samples", samples_sha256(rows), recorded)
        return
    problems = [problem for row in rows for problem in _changed(row)]
    raise_all(f"{path} was changed after the run; {_MEND}", problems[:10])
    whole = (raw.get("task_hashes") or {}).get(task)
    if whole:
        told = "".join(str(row.get(name)) for row in rows for name in _HASHES)
        _same(path, "docs and prompts", sha256(told.encode()).hexdigest(), whole)


def _changed(row: Mapping[str, Any]) -> list[str]:
    """Where a row does not agree with lm-eval's own hashes of it."""
    texts = {
        "doc": json.dumps(row.get("doc"), indent=2, ensure_ascii=False),
        "target": str(row.get("target")),
    }
    return [
        f"doc {row.get('doc_id')}: its {name} has another hash than the run recorded ({name}_hash)"
        for name, text in texts.items()
        if _SHA256.fullmatch(str(row.get(f"{name}_hash")))
        and sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != row[f"{name}_hash"]
    ]


def check_file(path: Path, recorded: str | None, more: str = "") -> None:
    """Raises PluralismError where a file of a run has another hash than ``recorded``; None: nothing was.

    Args:
        more: what else may have happened, for the error.
    """
    if recorded:
        _same(path, "bytes", file_sha256(path), recorded, more)


def check_study(mark: Path, study: Mapping[str, Any]) -> None:
    """The same of all files of a run that its study recorded; what is no longer there is not looked at.

    Args:
        mark: the ``study.json``.
        study: its content; ``files``: name below its folder → SHA-256.
    """
    told = {name: value for name, value in study.items() if name != "seal"}
    if "seal" in study:
        _same(mark, "content", digest(told), str(study["seal"]))
    for name, known in study.get("files", {}).items():
        path = mark.parent / name
        if path.is_file():
            check_file(path, known)


def check_beside(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Checks a lone ``samples_<task>_<stamp>.jsonl`` by the results file of its run, if that lies beside it."""
    task, _, stamp = path.stem.removeprefix("samples_").rpartition("_")
    results = path.with_name(f"results_{stamp}.json")
    if path.name.startswith("samples_") and results.is_file():
        try:
            raw = json.loads(results.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise PluralismError(f"{results} cannot be read as JSON: {error}") from error
        if isinstance(raw, dict):
            check_samples(raw, task, rows, path)


def _same(path: Path, what: str, now: str, recorded: str, more: str = "") -> None:
    if now != recorded:
        raise PluralismError(
            f"{path} was changed after the run: the SHA-256 of its {what} is {now[:16]}..., the run recorded "
            f"{recorded[:16]}...; {_MEND}{more}"
        )
