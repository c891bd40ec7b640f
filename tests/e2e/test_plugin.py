"""A wheel in a fresh environment: our names work, lm-eval's own still do, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pluralism_eval import plugin
from tests.conftest import ROOT


def run(*command: str | Path, **environment: str) -> str:
    """stdout and stderr of a command that must succeed, run outside of the checkout."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=Path(str(command[0])).parent,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "tree"
    run("/usr/bin/env", "git", "clone", "-q", str(ROOT), str(source))
    changed = subprocess.run(
        ["git", "ls-files", "-mo", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in changed.stdout.splitlines():  # the working tree as it is
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel; other packages come from this one's."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # a path entry, not addsitedir: the editable install and its hook over there stay out
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_the_package_needs(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert "pluralism_eval_hook.pth" in names
    for part in (
        "communities/communities.yaml",
        "people/page.html",
        "reproduce/paper_tables.json",
        "model_wrappers/prompts/moe.yaml",
        "task_configs/pluralism.yaml",
    ):
        assert f"pluralism_eval/{part}" in names
    assert sum(name.endswith("adapter_model.safetensors") for name in names) == 10
    assert sum(name.endswith(".jsonl") for name in names) == 16
    assert not [name for name in names if name.startswith("tests/") or "checkpoint" in name]


def test_models_are_found_by_name_and_the_built_in_ones_too(fresh: Path) -> None:
    code = (
        "from lm_eval.api.registry import get_model as g, model_registry as r; import json;"
        "print(json.dumps([g(n).__name__ for n in ('modular_pluralism', 'pluralism_moe', 'hf', 'dummy')]))"
    )
    out = run(fresh / "python", "-c", code)
    assert json.loads(out.strip().splitlines()[-1]) == [
        "ModularPluralism",
        "MoE",
        "HFLM",
        "DummyLM",
    ]


def test_opting_out_leaves_lm_eval_alone(fresh: Path) -> None:
    code = "import sys, lm_eval.models; from lm_eval.api.registry import model_registry as r; print('moe' in r, 'pluralism_eval.plugin' in sys.modules)"
    assert run(fresh / "python", "-c", code, PLURALISM_EVAL_NO_HOOK="1").split()[-2:] == [
        "False",
        "False",
    ]
    assert run(fresh / "python", "-c", code).split()[-2:] == ["True", "True"]


def test_interpreter_start_imports_nothing_of_ours_but_the_hook(fresh: Path) -> None:
    code = "import sys; print([m for m in sys.modules if m.startswith(('pluralism', 'lm_eval', 'torch'))])"
    assert run(fresh / "python", "-c", code).strip() == "['pluralism_eval', 'pluralism_eval._hook']"


def test_lm_eval_knows_the_tasks(fresh: Path) -> None:
    """Each of the two commands indexes every task of lm-eval first: half a minute, side by side."""
    lm_eval = (fresh / "python", "-m", "lm_eval")
    with ThreadPoolExecutor() as both:
        listing = both.submit(run, *lm_eval, "ls", "tasks")
        validating = both.submit(
            run, *lm_eval, "validate", "--tasks", ",".join(plugin.TASKS), PLURALISM_EVAL_DATA="sample"
        )  # fmt: skip
    listed = listing.result()
    assert all(name in listed for name in (*plugin.TASKS, "pluralism_eval", "hellaswag"))
    assert "found and valid" in validating.result()


@pytest.mark.model
def test_the_line_that_must_simply_work(fresh: Path, tmp_path: Path) -> None:
    """``lm_eval --model modular_pluralism --tasks 'pluralism_*'``, on the embedded model."""
    out = run(
        *(
            fresh / "python",
            "-m",
            "lm_eval",
            "--model",
            "modular_pluralism",
            "--tasks",
            "pluralism_*",
            "--limit",
            "1",
        ),
        *("--model_args", "message_max_tokens=8", "--gen_kwargs", "max_gen_toks=16"),
        *("--metadata", "data=sample", "nli=embedded", "--output_path", tmp_path, "--log_samples"),
    )
    for task in plugin.TASKS:
        assert task in out
    (transcript,) = tmp_path.glob("transcript_modular_pluralism_*.jsonl")
    assert len(transcript.read_text().splitlines()) == len(plugin.TASKS)
    (results,) = tmp_path.rglob("results_*.json")
    ours = json.loads(results.read_text())["config"]["pluralism"]
    assert len(ours["communities"]) == 6
    assert ours["rates"]["pluralism_steerable_vk"]["messages"] == 6


def test_the_command_without_the_hook(fresh: Path) -> None:
    out = run(fresh / "pluralism-eval", "run", "--help", PLURALISM_EVAL_NO_HOOK="1")
    assert "--apply_chat_template" in out


def test_uninstalling_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    before = {path.name for path in site.iterdir()}
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    assert "pluralism_eval_hook.pth" in {path.name for path in site.iterdir()}
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pluralism-eval")
    assert {path.name for path in site.iterdir()} == before
    assert run(python, "-c", "pass") == ""
