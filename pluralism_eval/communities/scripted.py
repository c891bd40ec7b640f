"""Communities whose messages stand in a file: no model. The control, where it is known who says what.

A script is a JSON Lines file. Each line has ``about`` (text of the query that it answers) and ``messages`` (several
wordings, one of which is drawn by the message's seed).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from pluralism_eval.communities.engine import Job, Output, Proof, Sampling
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.json_files import read_lines

_SHIPPED = "control"
_CHUNK = 512


def script_file(script: str) -> Path:
    """``control/<name>`` of this package, or a file. Raises PluralismError if there is none."""
    folder, _, name = script.partition("/")
    shipped = Path(str(files("pluralism_eval.communities"))) / _SHIPPED / "messages"
    path = shipped / f"{name}.jsonl" if folder == _SHIPPED else Path(script)
    if not path.is_file():
        raise PluralismError(f"script={script!r} is neither a file nor {_SHIPPED}/<name>")
    return path


def script_sha256(script: str) -> str:
    return sha256(script_file(script).read_bytes()).hexdigest()


def read_script(script: str) -> dict[str, list[str]]:
    """``about`` → messages. Raises PluralismError for anything but such lines."""
    path = script_file(script)
    found: dict[str, list[str]] = {}
    problems = []
    try:
        rows = list(read_lines(path))
    except (OSError, ValueError) as error:
        raise PluralismError(f"script {str(path)!r} cannot be read: {error}") from error
    for i, row in enumerate(rows, 1):
        about = row.get("about") if isinstance(row, dict) else None
        texts = row.get("messages") if isinstance(row, dict) else None
        if not isinstance(about, str) or not about.strip() or about in found:
            problems.append(f"line {i}: about {about!r} must be text that no other line has")
        elif not (isinstance(texts, list) and texts and all(map(_is_text, texts))):
            problems.append(f"line {i}: messages {texts!r} must be a list of texts, at least one")
        else:
            found[about] = texts
    raise_all(f"script {str(path)!r}", problems if found or problems else ["it has no lines"])
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


class ScriptedEngine:
    """Says what its scripts say."""

    def __init__(self, scripts: Mapping[str, str]) -> None:
        """
        Args:
            scripts: community → ``script`` of its entry.
        """
        self._files = dict(scripts)
        self._scripts = {name: read_script(script) for name, script in scripts.items()}

    def chunk(self, n_jobs: int) -> int:
        return min(max(n_jobs, 1), _CHUNK)

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        """The longest ``about`` that stands in the prompt decides; the seed picks the wording."""
        for job in jobs:
            texts = self._about(job)
            text = texts[job.seed % len(texts)]
            yield job, Output(text, len(text.split()), True, len(job.prompt.split()))

    def _about(self, job: Job) -> list[str]:
        script = self._scripts[job.community]
        known = [about for about in script if about in job.prompt]
        if not known:
            raise PluralismError(
                f"the script of {job.community} says nothing about this query: {job.prompt[:120]!r}; scripted communities "
                "answer only what their file is about (pool control: data=control)"
            )
        return script[max(known, key=len)]

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """There is no base model to differ from: what is proved is the file."""
        return {
            name: {"kind": "script", "pieces": len(self._scripts[name]),
                   "sha256": script_sha256(self._files[name])}
            for name in names
        }  # fmt: skip
