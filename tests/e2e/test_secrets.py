"""Keys are used and appear nowhere: 12 canaries, every file and every output, with all logging on.

``pytest -n 0 -s tests/e2e/test_secrets.py | grep canaries`` prints how many sinks were searched.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import plugin
from pluralism_eval.cli import main
from tests.openai_server import Offer, Scripted, Server
from tests.unit.test_report_page import carried

VARIABLES = (
    "OPENAI_API_KEY", "NURSES", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "PROXY_AUTH",
)  # fmt: skip
"""``NURSES`` holds the communities' key: a name that tells nothing."""
CANARIES = {name: f"canary-{i:02d}-{name.lower()}-4f7a9c" for i, name in enumerate(VARIABLES)}
TASKS = ("pluralism_distributional_moralchoice", "pluralism_steerable_vk")
NAMES = (
    "api_key", "token", "headers", "Authorization", "password", "hf_token", "client_secret", "X-Api-Key",
    "aws_secret_access_key", "base_url", "proxy", "cookie",
)  # fmt: skip
"""Where people put keys by mistake, or what other tools left in a results file."""
MISPLACED = {name: f"canary-{i:02d}-zq4f7a9c1" for i, name in enumerate(NAMES)}

VALUES: dict[str, Any] = {
    **MISPLACED,
    "headers": {"X-Org": MISPLACED["headers"]},
    **{name: f"http://user:{MISPLACED[name]}@host/v1" for name in ("base_url", "proxy")},
}
TEXTS = [f"{name}={value}" for name, value in VALUES.items() if isinstance(value, str)]

Sinks = Mapping[str, bytes]
RUN = """
from lm_eval.tasks import TaskManager
from pluralism_eval import cli
inner = TaskManager.__init__
def init(self, verbosity=None, include_path=None, include_defaults=True, metadata=None):
    inner(self, verbosity, include_path, False, metadata)  # to index lm-eval's own tasks takes longer than all the rest
TaskManager.__init__ = init
cli.main()
"""


def searchable(path: Path) -> bytes:
    """A file's bytes, with what is packed in it unpacked."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix in (".eval", ".whl"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return b"".join(map(archive.read, archive.namelist()))
    if path.name == "report.html":
        index, details = carried(path)
        content += json.dumps([index, details], ensure_ascii=False).encode()
    return content


def files_of(folder: Path, prefix: str = "") -> Sinks:
    """Every file below, by kind: those that differ in a date or an index are one sink. Drawings are searched as SVG."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".lock", ".pdf", ".png"):
            kind = re.sub(r"_?\d{4}-\d\d-\d\dT[\d-]+(\.\d+)?|-[0-9a-f]{8}\b", "", path.name)
            found[prefix + kind] = found.get(prefix + kind, b"") + searchable(path)
    return found


def leaks(sinks: Sinks, canaries: Mapping[str, str]) -> list[str]:
    assert all(sinks.values()), [name for name, content in sinks.items() if not content]
    found = [f"{c} in {s}" for c, v in canaries.items() for s in sinks if v.encode() in sinks[s]]
    print(f"{len(canaries)} canaries x {len(sinks)} sinks: {len(found)} leaks ({', '.join(sinks)})")
    return found


def settings_of(folder: Path, url: str, community_url: str) -> dict[str, Any]:
    pool = folder / "pool.yaml"
    pool.write_text(
        "- {name: nurses, description: nurses, engine: prompted, persona: You are a nurse., model: model, "
        f"base_url: '{community_url}', api_key_variable: NURSES}}\n"
    )
    return {
        "llm": "openai", "llm_args": {"model": "model", "base_url": url}, "communities": str(pool),
        "messages": str(folder / "messages"), "message_max_tokens": 30,
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real command against two servers that know our keys, and say them in their replies."""
    folder = tmp_path_factory.mktemp("run")
    own, other = CANARIES["OPENAI_API_KEY"], CANARIES["NURSES"]
    with (
        Server(Scripted(f"You sent me {own}."), Offer(api_key=own)) as llm,
        Server(Scripted(f"You sent me {other}."), Offer(api_key=other)) as communities,
    ):
        done = subprocess.run(
            [
                sys.executable, "-c", RUN, "run", "--include_path", str(plugin.task_folder()), "--model", "modular_pluralism", "--model_args",
                json.dumps(settings_of(folder, llm.url, communities.url)), "--tasks", *TASKS, "--limit", "2",
                "--metadata", "data=sample", "--log_samples", "--show_config", "--output_path", str(folder / "out"),
                "--use_cache", str(folder / "cache" / "answers"),
            ],
            env={
                **os.environ, **CANARIES, "PLURALISM_EVAL_CACHE": str(folder / "cache"), "OPENAI_LOG": "debug",
                "LMEVAL_LOG_LEVEL": "DEBUG", "LOGLEVEL": "DEBUG",
            },
            capture_output=True, text=True, check=False, cwd=folder, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert llm.ledger.total() > 0
        assert communities.ledger.total() > 0
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_no_canary_in_anything_that_a_run_writes(finished: Path) -> None:
    sinks = files_of(finished)
    for needed in ("results.json", "transcript_modular_pluralism.jsonl", "samples_pluralism_steerable_vk.jsonl", "api.sqlite",
                   "messages.sqlite", "answers_rank0.pluralism.sqlite", "stdout", "stderr"):  # fmt: skip
        assert needed in sinks, sorted(sinks)
    assert leaks(sinks, CANARIES) == []
    assert b"You sent me ***." in sinks["messages.sqlite"]
    results = json.loads(next(finished.rglob("results_*.json")).read_text())
    said = [server["said_our_key"] for server in results["config"]["pluralism"]["api"].values()]
    assert len(said) == 2
    assert min(said) > 0


@pytest.fixture
def injected(finished: Path, tmp_path: Path) -> Path:
    """That run as another tool, or an older version, would have left it: keys in all its settings."""
    run = Path(shutil.copytree(finished / "out", tmp_path / "run"))
    (file,) = run.rglob("results_*.json")
    results = json.loads(file.read_text())
    text = ",".join(TEXTS)
    ours, arguments = results["config"]["pluralism"], results["config"]["model_args"]
    arguments |= {"llm_args": VALUES, **VALUES}
    results["config"]["gen_kwargs"] = text
    ours["llm"] = f"openai({text})"
    ours["communities"] = [{**c, "base_url": VALUES["base_url"]} for c in ours["communities"]]
    for config in results["configs"].values():
        config["metadata"] |= {"judge": "openai:" + text.replace(",", ";"), **VALUES}
    results["pretty_env_info"] += "\n" + text.replace(",", "\n")
    file.write_text(json.dumps(results))
    return run


def test_keys_in_a_results_file_go_no_further(
    injected: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "cache"))
    formats = ["every-eval-ever", "hf", "model-card"]
    try:
        import inspect_ai  # noqa: F401
    except ImportError:
        pass
    else:
        formats.append("inspect")
    samples = next(injected.rglob("samples_*moralchoice*"))
    submissions = tmp_path / "submissions"
    commands = {
        "report": [str(injected), "--title", "of keys"],
        "export": [str(injected), "--to", *formats],
        "submit": [str(injected), "--note", f"made with api_key={MISPLACED['api_key']}"],
        "leaderboard": ["--submissions", str(submissions)],
        "influence": [str(injected)],
        "score": ["--task", "moralchoice", str(samples)],
        "verify": [],
    }
    sinks: dict[str, bytes] = {}
    for name, given in commands.items():
        output = submissions if name == "submit" else tmp_path / "made" / name
        if name not in ("influence", "score", "verify"):
            given = [*given, "--output", str(output)]
        if name == "verify":
            given = [*map(str, submissions.iterdir())]
        assert main([name, *given]) == 0, (name, capsys.readouterr())
        sinks[f"{name}, printed"] = "".join(capsys.readouterr()).encode()
        sinks |= files_of(output, f"{name}: ") if output.is_dir() else {}
    for needed in (
        "report: report.html",
        "report: overview.tex",
        "submit: submission.json",
        "leaderboard: README.md",
    ):
        assert needed in sinks, sorted(sinks)
    assert sum(name.startswith("export: ") for name in sinks) >= 3
    assert leaks(sinks, MISPLACED) == []


def misuses(folder: Path) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """(what, command, files that it reads): each with a key where none belongs."""
    openai = {"llm": "openai", "llm_args": {"model": "m", **VALUES}}
    hf = {"llm": "hf", "llm_args": {"pretrained": "nobody/nothing", **VALUES}}
    pool = f"- {{name: a, description: b, engine: served, model: m, base: b, base_url: '{VALUES['base_url']}'}}\n"
    yaml_of = json.dumps  # JSON is YAML
    both = ["--metadata", "data=sample", "--tasks", TASKS[0]]
    for name, args in (("openai", openai), ("hf", hf), ("settings", VALUES)):
        yield f"plan {name}", ["plan", "--model_args", json.dumps(args), *both], {}
    yield "doctor", ["doctor", "--model_args", json.dumps(hf), *both], {}
    file = str(folder / "given.yaml")
    yield (
        "config",
        ["plan", "--model_args", f"config={file}", *both],
        {"given.yaml": yaml_of(openai)},
    )
    yield "broken YAML", ["plan", "--model_args", f"config={file}", *both], {"given.yaml": "\n".join(text.replace("=", ": ") + ": x" for text in TEXTS)}  # fmt: skip
    yield "pool", ["communities", "show", file], {"given.yaml": pool}
    study = {"llms": [{"name": "x", **hf}], "data": "sample", "tasks": TASKS[0]}
    yield "study", ["compare", "--study", file, "--output", str(folder / "study")], {"given.yaml": yaml_of(study)}  # fmt: skip
    spec = ";".join(TEXTS)
    yield "compare", ["compare", "--llm", f"hf:pretrained=x;{spec}", "--data", "sample", "--output", str(folder / "study")], {}  # fmt: skip
    yield "judge", ["judge", "x", "--baseline", "y", "--judge", f"hf:pretrained=x;{spec}"], {}
    for flag in ("--llm-arguments", "--run-arguments"):
        text = " ".join(f"--{text.replace('=', ' ')}" for text in TEXTS)
        yield f"serve {flag}", ["serve", "perspective", "--llm", "a/b", flag, text, "--output", str(folder / "serve")], {}  # fmt: skip
    yield "serve --settings", ["serve", "perspective", "--llm", "a/b", "--settings", spec.replace(";", ","), "--output", str(folder / "serve")], {}  # fmt: skip


def test_a_key_where_none_belongs_is_refused_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "made" / "cache"))
    made = tmp_path / "made"
    made.mkdir()
    sinks: dict[str, bytes] = {}
    for name, command, given in misuses(made):
        for file, text in given.items():
            (made / file).write_text(text)
        try:
            status = main(command)
        except SystemExit as error:
            status = int(error.code or 0)
        assert status or name == "plan hf", name  # a plan builds no model, and writes no arguments
        sinks[name] = "".join(capsys.readouterr()).encode()
        for file in given:
            (made / file).unlink()
    written = files_of(made)
    assert leaks(sinks | {n: c for n, c in written.items() if c}, MISPLACED) == []
    assert not [path for path in made.rglob("*") for c in MISPLACED.values() if c in path.name]
