"""Training a community: killed and resumed it is what it would have been, and it joins a pool."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from safetensors.torch import load_file

from pluralism_eval import cli, plugin
from pluralism_eval.communities import adapters, registry
from pluralism_eval.corpora import read_corpus
from pluralism_eval.train import _last_checkpoint

pytestmark = pytest.mark.model
CORPUS = Path(adapters.__file__).parent / "embedded" / "corpora" / "news_left.jsonl"


def command(output: Path, name: str = "hometown") -> list[str]:
    return ["train", "--corpus", str(CORPUS), "--max-pieces", "12", "--preset", "small", "--epochs", "2",
            "--block-size", "64", "--batch-size", "4", "--name", name, "--output", str(output),
            "--description", "People of my hometown.", "--license", "CC0-1.0"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(autouse=True)
def registry_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.REGISTRY_VARIABLE, str(folder / "communities.yaml"))


def test_killed_and_resumed_equals_uninterrupted(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    output = folder / "hometown"
    process = subprocess.Popen(
        [sys.executable, "-m", "pluralism_eval.cli", *command(output)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy(),
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while len(list(output.glob("checkpoints/checkpoint-*/trainer_state.json"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / adapters.RECORD).exists()
    assert cli.main(command(output)) == 0
    assert re.search(r"going on from \S+checkpoint-[1-9]", caplog.text)
    assert "communities check hometown" in capsys.readouterr().out
    assert registry.registered()["hometown"]["adapter"] == str(output)
    assert cli.main([*command(folder / "again", "again"), "--no-register"]) == 0
    resumed, whole = (load_file(folder / n / adapters.WEIGHTS) for n in ("hometown", "again"))
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert tensor.equal(resumed[name]), name
    killed, uninterrupted = (
        json.loads((folder / n / adapters.RECORD).read_text()) for n in ("hometown", "again")
    )
    assert killed == {**uninterrupted, "name": "hometown"}


def test_the_record_and_the_card_say_what_was_done(folder: Path) -> None:
    output = folder / "hometown"
    record = json.loads((output / adapters.RECORD).read_text())
    assert record["corpus_sha256"] == read_corpus(str(CORPUS), max_pieces=12).sha256
    assert record["pieces"] == {"train": 10, "held_out": 2}
    assert record["held_out_perplexity"]["adapter"] != record["held_out_perplexity"]["base"]
    card = (output / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["base_model"]) == ("CC0-1.0", record["base"])
    assert record["corpus_sha256"] in card
    assert f"{record['held_out_perplexity']['adapter']:.2f} (adapter)" in card
    assert not (output / "checkpoints").exists()


def test_a_finished_training_is_not_repeated_nor_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    output = folder / "hometown"
    before = (output / adapters.WEIGHTS).stat().st_mtime_ns
    assert cli.main(command(output)) == 0
    assert "was already trained" in caplog.text
    assert cli.main([*command(output), "--seed", "1"]) == 2
    assert "another corpus, base, recipe or seed" in capsys.readouterr().err
    assert (output / adapters.WEIGHTS).stat().st_mtime_ns == before


def test_a_broken_checkpoint_is_skipped(folder: Path, tmp_path: Path) -> None:
    import torch

    for step in (9, 10):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        for state in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({}, path / state)
        (path / "trainer_state.json").write_text("{}")
        shutil.copy(folder / "hometown" / adapters.WEIGHTS, path)
    last = tmp_path / "checkpoint-10"
    (last / adapters.WEIGHTS).write_bytes((last / adapters.WEIGHTS).read_bytes()[:1000])
    assert _last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    assert not last.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--name", "a/b"], "letters, digits"),
        (["--epochs", "0"], "epochs=0.0 must be above 0"),
        (["--batch-size", "12"], "must be a multiple of 8"),
        (["--corpus", "/nothing.jsonl"], "no such file"),
        (["--base", "./no_such_model"], "--base './no_such_model' cannot be loaded"),
        (["--push-to-hub", "me/hometown"], "not logged in to the Hub"),
    ],
)
def test_bad_input_is_one_error(
    change: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command(tmp_path / "x"), *change]) == 2
    assert reason in capsys.readouterr().err


def test_added_to_a_pool_only_its_own_messages_are_generated(
    folder: Path, task_manager: Any, tmp_path: Path
) -> None:
    plugin.register_models()

    def rates(communities: str) -> dict[str, int]:
        found = simple_evaluate(
            "modular_pluralism",
            model_args={"messages": str(tmp_path / "m"), "communities": communities,
                        "message_max_tokens": 4, "transcript": str(tmp_path / "t.jsonl")},
            tasks=["pluralism_distributional_moralchoice"],
            task_manager=task_manager(data="sample"), limit=2, bootstrap_iters=0,
        )  # fmt: skip
        counts: dict[str, int] = found["config"]["pluralism"]["rates"][
            "pluralism_distributional_moralchoice"
        ]
        return counts

    first = rates("embedded/news_left+embedded/news_right")
    patched = rates("embedded/news_left+embedded/news_right+hometown")
    assert (first["messages"], first["messages_generated"]) == (8, 8)  # both orders
    assert (patched["messages"], patched["messages_generated"]) == (12, 4)
