"""What starting costs: no command is imported before it is asked for, no task is read that is not run."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from lm_eval.config.evaluate_config import EvaluatorConfig

from pluralism_eval import cli, plugin
from pluralism_eval.commands import COMMANDS

FOLDER = Path(str(import_module("pluralism_eval.commands").__file__)).parent
HEAVY = ("numpy", "scipy", "lm_eval", "datasets", "torch", "transformers", "jinja2", "tqdm")


def imported(*command: str) -> set[str]:
    code = (
        "import sys\nfrom pluralism_eval import cli\n"
        f"try: cli.main({list(command)})\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_table_of_commands_is_that_of_the_modules() -> None:
    own = {path.stem for path in FOLDER.glob("*.py") if "def add(commands" in path.read_text()}
    assert own == set(COMMANDS)
    for module, commands in COMMANDS.items():
        for name in commands:
            with pytest.raises(SystemExit) as end:
                cli.main([name, "--help"])
            assert end.value.code == 0, module


def test_help_imports_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    assert not imported("--help") & set(HEAVY)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {name}" in shown for own in COMMANDS.values() for name in own)


@pytest.mark.parametrize("command", ["score", "report", "submit", "annotate", "influence"])
def test_the_help_of_a_command_imports_no_statistics(command: str) -> None:
    found = imported(command, "--help")
    assert not found & {"scipy.stats", "scipy.optimize", "scipy.spatial", "lm_eval", "torch"}
    others = {f"pluralism_eval.commands.{module}" for module in COMMANDS}
    assert len(found & others) <= 2, "another command's module was imported"


def test_an_unknown_command_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["scores"])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert all(name in told for own in COMMANDS.values() for name in own)


@pytest.mark.parametrize(
    ("tasks", "ours"),
    [
        ("pluralism", True),
        ("pluralism_*", True),
        (["pluralism_eval"], True),
        (["pluralism_overton_nli,pluralism_steerable_vk", plugin.JUDGED], True),
        ("pluralism_distributional_*,arc_easy", False),
        ("pluralism_typo", False),
        ("*nli", False),
        ("plural*", False),
        ([{"task": "pluralism"}], False),
        ("", False),
        (None, False),
    ],
)
def test_which_names_are_only_ours(tasks: object, ours: bool) -> None:
    assert plugin.only_ours(tasks) is ours


@pytest.fixture
def registered() -> None:
    plugin.register_tasks()
    plugin.index_ours_alone()


@pytest.mark.usefixtures("registered")
def test_only_our_tasks_are_indexed_where_no_others_are_asked_for() -> None:
    config = EvaluatorConfig(tasks=["pluralism_steerable_*", "pluralism_overton_nli"])
    manager = config.process_tasks({"data": "sample"})
    assert set(manager.all_tasks) == {"pluralism", "pluralism_eval", *plugin.TASKS}
    assert sorted(config.tasks) == sorted(t for t in plugin.AUTOMATIC if "distributional" not in t)


@pytest.mark.usefixtures("registered")
def test_a_typo_is_lm_evals_error_and_foreign_tasks_are_found() -> None:
    with pytest.raises(ValueError, match="pluralism_typo"):
        EvaluatorConfig(tasks=["pluralism_typo", "pluralism_overton_nli"]).process_tasks({})
    config = EvaluatorConfig(tasks=["arc_easy", "pluralism_overton_nli"])
    assert "arc_easy" in config.process_tasks({}).all_tasks
