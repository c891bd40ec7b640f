"""Keys are used and appear nowhere: 12 canaries, every file, both outputs, with all logging on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.secrets import is_secret_name, redact, secret_in_url, without_secrets
from tests.openai_server import Offer, Scripted, Server

VARIABLES = (
    "OPENAI_API_KEY", "COMMUNITY_KEY", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "PROXY_AUTH",
)  # fmt: skip
CANARIES = {name: f"canary-{i:02d}-{name.lower()}-4f7a9c" for i, name in enumerate(VARIABLES)}


def run(folder: Path, url: str, community_url: str, *more: str) -> subprocess.CompletedProcess[str]:
    pool = folder / "pool.yaml"
    pool.write_text(
        "- {name: nurses, description: nurses, engine: prompted, persona: You are a nurse., model: model, "
        f"base_url: '{community_url}', api_key_variable: COMMUNITY_KEY}}\n"
    )
    args = (
        f'{{"llm": "openai", "llm_args": {{"model": "model", "base_url": "{url}"}}, "communities": "{pool}", '
        f'"messages": "{folder / "m"}", "message_max_tokens": 5}}'
    )
    return subprocess.run(
        [
            sys.executable, "-m", "pluralism_eval.cli", "run", "--model", "modular_pluralism", "--model_args", args,
            "--tasks", "pluralism_distributional_moralchoice", "--limit", "2", "--metadata", "data=sample",
            "--log_samples", "--output_path", str(folder / "out"), *more,
        ],
        env={
            **os.environ, **CANARIES, "PLURALISM_EVAL_CACHE": str(folder / "cache"), "OPENAI_LOG": "debug",
            "LMEVAL_LOG_LEVEL": "DEBUG", "LOGLEVEL": "DEBUG",
        },
        capture_output=True, text=True, check=False, cwd=folder, timeout=300,
    )  # fmt: skip


def leaks(folder: Path, *texts: str) -> list[str]:
    found = [f"{name} in an output" for name, c in CANARIES.items() for text in texts if c in text]
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found += [f"{name} in {file}" for name, c in CANARIES.items() if c.encode() in content]
    return found


def test_twelve_canaries_appear_in_no_file_log_error_or_result(tmp_path: Path) -> None:
    llm = Server(Scripted(), Offer(api_key=CANARIES["OPENAI_API_KEY"]))
    own = Server(Scripted(), Offer(api_key=CANARIES["COMMUNITY_KEY"]))
    with llm as server, own as communities:
        done = run(tmp_path, server.url, communities.url)
        assert done.returncode == 0, done.stderr[-3000:]
        assert server.ledger.total() > 0
        assert communities.ledger.total() > 0
    files = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    for needed in ("results_", "samples_", "transcript_", "api.sqlite", "messages.sqlite"):
        assert any(name.startswith(needed) for name in files), files
    assert leaks(tmp_path, done.stdout, done.stderr) == []
    with Server(Scripted(), Offer(api_key="another", shows_key="whole")) as server:
        failed = run(tmp_path, server.url, server.url)
        assert failed.returncode != 0
        assert "refuses the key" in failed.stderr
        assert leaks(tmp_path, failed.stdout, failed.stderr) == []
        assert server.ledger.requests[0].authorized


def test_what_is_a_secret() -> None:
    for name in (*VARIABLES, "api_key", "token", "headers", "Authorization"):
        assert is_secret_name(name), name
    for name in ("max_tokens", "message_max_tokens", "tokenizer", "keyword", "api_key_variable"):
        assert not is_secret_name(name), name
    assert secret_in_url("https://me:pw@host/v1")
    assert secret_in_url("https://host/v1?api-key=1")
    assert not secret_in_url("https://host:8000/v1?version=2")


def test_arguments_and_errors_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-very-secret-value")
    assert without_secrets({"a": {"api_key": "x"}, "b": ["token=abc;model=m"], "max_tokens": 5}) == {
        "a": {"api_key": "***"}, "b": ["token=***;model=m"], "max_tokens": 5,
    }  # fmt: skip
    assert redact("at http://me:pw@host/v1 with sk-0123456789abcdefghij") == (
        "at http://***@host/v1 with ***"
    )
    assert str(PluralismError("it said a-very-secret-value")) == "it said ***"
