"""Imports point down, modules stay readable, and every shipped task loads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from pluralism_eval import plugin
from tests.conftest import ROOT

LAYERS = [
    {
        "errors",
        "secrets",
        "schema",
        "distribution",
        "cache",
        "checksums",
        "files",
        "stores",
        "usage",
        "utilisation",
        "ranks",
        "progress",
        "behind",
        "onednn",
        "ram",
        "recorded",
        "trackers",
        "plugin",
        "yaml_files",
        "json_files",
        "prompt_texts",
        "bounded",
        "bounded_worker",
        "_hook",
        "__init__",
    },
    {"api"},
    {
        "presets",
        "chat_date",
        "settings",
        "prompts",
        "context",
        "passages",
        "replies",
        "variants",
        "cloze",
        "heard",
        "uncertainty",
        "results",
    },
    {"llm"},
    {"readouts"},
    {"requests", "answers", "transcript", "selecting"},
    {"communities"},
    {"data", "metrics", "tasks", "corpora", "listening"},
    {"train", "voices", "report", "messages", "scoring", "people", "study", "planning"},
    {"reproduce", "doctor", "serving", "leaderboard", "exports", "hijack"},
    {"control"},
    {"commands"},
    {"demo"},
    {"cli"},
]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
UPWARD = {("data", "metrics"), ("metrics", "data")}  # one layer: a scorer is checked when docs load


def modules() -> list[Path]:
    return sorted(p for p in (ROOT / "pluralism_eval").rglob("*.py") if "sample" not in p.parts)


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(ROOT / "pluralism_eval").parts[0].removesuffix(".py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("pluralism_eval")
        ):
            names = [
                f"{node.module}.{a.name}" if node.module == "pluralism_eval" else node.module
                for a in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("pluralism_eval")]
        for name in names:
            target = part_of(name)
            assert target != "model_wrappers", f"{path} imports a wrapper"
            if target in LEVEL and target != own and (own, target) not in UPWARD:
                assert LEVEL[target] <= LEVEL[own], f"{own} imports {target}, which is above it"


def test_plugin_entry_points_and_tasks_agree() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for name, target in plugin.METHODS.items():
        assert f"{name} = {target}" in text
    group = yaml.safe_load((ROOT / "task_configs" / "pluralism.yaml").read_text(encoding="utf-8"))
    assert tuple(group["task"]) == plugin.AUTOMATIC


def test_every_task_has_the_tag_and_its_aggregations() -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(plugin.task_folder()),
        include_defaults=False,
        metadata={"data": "sample", "nli": "embedded"},
    )
    assert set(manager.match_tasks(["pluralism_*"])) == {*plugin.TASKS, "pluralism_eval"}
    tasks = manager.load(["pluralism_eval"])["tasks"]
    assert set(tasks) == set(plugin.TASKS)
    for task in tasks.values():
        assert set(task.aggregation()) == {m["metric"] for m in task.config.metric_list}
