"""The import hook on a small lm-eval of six modules: what it costs, and that it breaks nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pluralism_eval import _hook
from tests.conftest import ROOT

PACKAGE = ROOT / "pluralism_eval"
PLUGIN = "called = []\n" + "".join(
    f"def {n}(): called.append({n!r})\n" for n in _hook.AFTER.values()
)
MODULES = ("lm_eval", "lm_eval._cli", "lm_eval.models", "lm_eval.tasks", "lm_eval.tasks.manager", "lm_eval.tasks.other",
           "lm_eval.config", "lm_eval.config.evaluate_config", "lm_eval.loggers", "lm_eval.loggers.evaluation_tracker",
           "lm_eval.loggers.wandb_logger")  # fmt: skip
IMPORT_ALL = f"import {', '.join(m for m in MODULES)}\n"
SHOW = "import json; from pluralism_eval import plugin; print(json.dumps(plugin.called))"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages folder with our hook, and a plug-in that notes what is called."""
    folder = tmp_path / "site"
    (folder / "pluralism_eval").mkdir(parents=True)
    shutil.copy(PACKAGE / "_hook.pth", folder / "pluralism_eval_hook.pth")
    for name in ("__init__.py", "_hook.py"):
        shutil.copy(PACKAGE / name, folder / "pluralism_eval" / name)
    (folder / "pluralism_eval" / "plugin.py").write_text(PLUGIN)
    for name in MODULES:
        (folder / name.replace(".", "/")).mkdir(parents=True)
        (folder / name.replace(".", "/") / "__init__.py").write_text("value = 1\n")
    return folder


def python(code: str, *sites: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``code`` in an interpreter that has these site folders and none of its own."""
    head = f"import site, sys\nbefore = set(sys.modules)\nfor s in {[str(s) for s in sites]}: site.addsitedir(s)\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", head + code],
        capture_output=True, text=True, check=False, timeout=60,
        env={k: v for k, v in os.environ.items() if k != _hook.OPT_OUT} | environment,
    )  # fmt: skip


def result(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: list[str] = json.loads(done.stdout)
    return found


def test_each_function_runs_once_after_its_module(site: Path) -> None:
    assert result(python(IMPORT_ALL + SHOW, site)) == list(_hook.AFTER.values())


def test_the_start_imports_next_to_nothing(site: Path) -> None:
    show = "new = sorted(set(sys.modules) - before); import json; print(json.dumps(new))"
    new = set(result(python(show, site)))
    assert {"pluralism_eval", "pluralism_eval._hook"} <= new
    costly = {
        "typing",
        "importlib.abc",
        "importlib.util",
        "importlib.resources",
        "re",
        "logging",
        "lm_eval",
        "contextlib",
    }
    plain = set(result(python(show, site, PLURALISM_EVAL_NO_HOOK="1")))
    assert new & costly == set()
    assert new == plain  # turned off, only the finder is missing


def test_turned_off_it_does_nothing(site: Path) -> None:
    code = IMPORT_ALL + SHOW
    assert result(python(code, site, PLURALISM_EVAL_NO_HOOK="1")) == []
    assert len(result(python(code, site, PLURALISM_EVAL_NO_HOOK="0"))) == len(_hook.AFTER)
    assert result(python("import json; print(json.dumps([type(f).__module__ for f in sys.meta_path if 'plural' in str(f)]))", site, PLURALISM_EVAL_NO_HOOK="1")) == []  # fmt: skip


def test_two_installs_are_one(site: Path, tmp_path: Path) -> None:
    second = Path(shutil.copytree(site, tmp_path / "second"))
    assert len(result(python(IMPORT_ALL + SHOW, site, second))) == len(_hook.AFTER)


def test_lm_evals_modules_keep_their_loaders(site: Path) -> None:
    code = IMPORT_ALL + (
        "import importlib, importlib.util, json, copy, lm_eval.models as m\n"
        "assert type(m.__loader__).__name__ == 'SourceFileLoader', m.__loader__\n"
        "assert m.__spec__.loader.get_source('lm_eval.models') == 'value = 1\\n'\n"
        "copy.copy(m.__spec__); importlib.util.find_spec('lm_eval.models'); importlib.reload(m)\n"
    )
    assert result(python(code + SHOW, site)) == [*_hook.AFTER.values(), "register_models"]


def test_in_a_zip_file(site: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lm_eval.zip", "w") as archive:
        for name in MODULES:
            file = name.replace(".", "/") + "/__init__.py"
            archive.write(site / file, file)
    shutil.rmtree(site / "lm_eval")
    code = f"sys.path.insert(0, {str(tmp_path / 'lm_eval.zip')!r})\n" + IMPORT_ALL
    assert result(python(code + SHOW, site)) == list(_hook.AFTER.values())


def test_in_a_subinterpreter(site: Path) -> None:
    own = f"import site; site.addsitedir({str(site)!r})\n{IMPORT_ALL}{SHOW}"
    code = (
        "try: import _interpreters as i\nexcept ImportError: import _xxsubinterpreters as i\n"
        "done = i.run_string(i.create(), " + repr(own) + ")\n"
        "assert done is None, done"
    )
    assert result(python(code, site)) == list(_hook.AFTER.values())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("_hook.py", ""),  # the hook's own: silent, since every start of Python would say it
        ("__init__.py", ""),
        ("plugin.py", "its names are missing from lm-eval: SyntaxError"),
        ("folder", ""),
    ],
)
def test_a_broken_install_keeps_neither_python_nor_lm_eval_from_starting(
    site: Path, broken: str, said: str
) -> None:
    if broken == "folder":
        shutil.rmtree(site / "pluralism_eval")
    else:
        (site / "pluralism_eval" / broken).write_text("def (\n")
    done = python("import lm_eval.models; print(lm_eval.models.value)", site)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)


@pytest.mark.parametrize(
    "raised", ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()", "BaseException()"]
)
@pytest.mark.parametrize("at", ["__init__.py", "_hook.py", "plugin.py"])
def test_a_foreign_folder_of_our_name_stops_neither_python_nor_lm_eval(
    site: Path, tmp_path: Path, at: str, raised: str
) -> None:
    foreign = Path(
        shutil.copytree(site / "pluralism_eval", tmp_path / "foreign" / "pluralism_eval")
    )
    (foreign / at).write_text(f"raise {raised}\n")
    first = f"sys.path.insert(0, {str(foreign.parent)!r}); site.addsitedir({str(site)!r})\n"
    done = python(first + "import lm_eval.models; print(lm_eval.models.value)")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    said = f"its names are missing from lm-eval: {raised}"
    assert (said in done.stderr) == (at == "plugin.py")


def test_an_error_of_ours_is_said_once_and_lm_eval_goes_on(site: Path) -> None:
    (site / "pluralism_eval" / "plugin.py").write_text("def register_models(): 1 / 0\n")
    done = python("import lm_eval.models; print(lm_eval.models.value)", site)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr.count("its names are missing from lm-eval: ZeroDivisionError") == 1


def test_an_error_of_lm_evals_stays_lm_evals(site: Path) -> None:
    (site / "lm_eval" / "models" / "__init__.py").write_text("1 / 0\n")
    done = python("import lm_eval.models", site)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "names are missing" not in done.stderr
