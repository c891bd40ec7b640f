"""``pluralism-eval doctor`` as it is typed: what it prints, its exit status, and no key in any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import cli
from pluralism_eval.doctor.checks import CHECKS

CANARY = "canary-7f3a91c2"


def typed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from pluralism_eval.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "doctor", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.model
def test_the_embedded_default_has_nothing_in_its_way() -> None:
    from pluralism_eval.llm import embedded

    embedded.locate()  # unpacked once; else the doctor says so and looks at less
    started = time.monotonic()
    done = typed("--metadata", "data=sample", "nli=embedded", "--json", OPENAI_API_KEY=CANARY)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads(done.stdout)
    assert table["ok"] is True
    assert {f["check"] for f in table["findings"]} == {name for name, _ in CHECKS}
    assert {f["level"] for f in table["findings"]} <= {"ok", "warning"}
    assert all(f["do"] for f in table["findings"] if f["level"] == "warning")
    assert done.stderr == ""
    assert CANARY not in done.stdout
    assert seconds < 60  # about 5 where nothing else runs


def test_a_pasted_command_full_of_mistakes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_API_KEY", CANARY)
    (tmp_path / "file").touch()
    args = ("--model_args", "llm=nobody,llm_args=model=m;api_key=canary-of-the-llm,communities=culture,secret=canary-by-mistake",
            "--tasks", "pluralism_steerable_vk,pluralism_nothing", "--metadata", "data=/nowhere", "--num_fewshot", "0",
            "--log_samples", "--output_path", str(tmp_path / "file" / "out"), "--batch_size", "8")  # fmt: skip
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", *args])
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    for part in ("llm='nobody' is unknown", "unknown setting secret='***'", "data='/nowhere'", "cannot be written", "pluralism_nothing: no such task"):  # fmt: skip
        assert any(line.startswith("problem") and part in line for line in lines), part
    assert sum(line.startswith("skipped") for line in lines) == 1
    assert lines[-1].startswith("This run would fail.")
    assert "canary" not in out + err


@pytest.mark.parametrize(
    ("user", "more", "problems"),
    [("", {}, ["endpoint"]), (f"user:{CANARY}@", {"header": {"A": CANARY}}, ["settings"] * 2)],
)
def test_a_run_with_a_dead_server_or_with_keys_among_its_arguments(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    more: dict[str, Any],
    problems: list[str],
) -> None:
    monkeypatch.setenv("SOME_NAME", CANARY)
    url = f"http://{user}127.0.0.1:9/v1/completions"
    args = json.dumps({"llm": "local-completions", "llm_args": {"model": "m", "base_url": url, **more}})  # fmt: skip
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--model", "vanilla", "--model_args", args, "--tasks", "pluralism_steerable_vk",
                  "--limit", "1", "--metadata", "data=sample", "--json"])  # fmt: skip
    out, err = capsys.readouterr()
    table = json.loads(out)
    assert table["ok"] is False
    assert [f["check"] for f in table["findings"] if f["level"] == "problem"] == problems
    assert CANARY not in out + err


def test_arguments_that_are_no_pairs_are_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--model_args", CANARY]) == 2
    assert cli.main(["doctor", "--metadata", f"{{{CANARY}"]) == 2
    out, err = capsys.readouterr()
    assert "--model_args: expected key=value" in err
    assert CANARY not in out + err
