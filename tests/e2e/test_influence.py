"""Influence and faithfulness of real runs through lm-eval, with a model whose answers are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.loggers import EvaluationTracker

from pluralism_eval.cli import main
from pluralism_eval.metrics.distance import js_distance
from tests.conftest import NAMES
from tests.e2e.test_scripted import data, distribution, in_listed_order, run  # noqa: F401 - fixtures

MORAL = "pluralism_distributional_moralchoice"
GLOBAL = "pluralism_distributional_globalopinionqa"
VK = "pluralism_steerable_vk"
OVERTON = "pluralism_overton_nli"


@pytest.fixture
def saved(run: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:  # noqa: F811
    """Runs a task and saves results, samples and transcript, as lm_eval does."""

    def go(method: str, task: str, **settings: Any) -> Path:
        results = run(method, task, **settings)
        lines, samples = results.pop("transcript"), results.pop("samples")
        folder = tmp_path / f"saved_{method}"
        tracker = EvaluationTracker(output_path=str(folder))
        tracker.general_config_tracker.model_name_sanitized = method
        tracker.save_results_aggregated(results=results, samples=samples)
        for name, rows in samples.items():
            tracker.save_results_samples(task_name=name, samples=deepcopy(rows))
        (tmp_path / "t.jsonl").unlink()  # the run was moved: it is found beside the results
        write(folder / "t.jsonl", lines)
        return folder

    return go


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]


def influence(folder: Path, capsys: Any, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["influence", str(folder), "--json", *arguments]) == 0
    tasks: dict[str, Any] = json.loads(capsys.readouterr().out)["tasks"]
    return tasks


def mixture(entry: dict[str, Any], weights: np.ndarray) -> np.ndarray:
    """The answer of a coalition, from the prompts by hand: priors of the others are 0."""
    letters = "".join(entry["options"])
    if not weights.any():
        return np.full(len(letters), 1 / len(letters))
    shown = in_listed_order(entry, [distribution(s["prompt"], letters) for s in entry["sent"]])
    readings = np.array(shown).reshape(-1, len(NAMES), len(letters))
    return np.asarray((weights / weights.sum() @ readings).mean(axis=0))


def by_hand(
    entries: list[dict[str, Any]], golds: list[list[float]], priors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """([n_docs][k] Shapley, leave-one-out): all 6! orders, one after the other."""
    k, found, alone = len(priors), [], []
    for entry, gold in zip(entries, golds, strict=True):
        known: dict[frozenset[int], float] = {}

        def value(
            members: frozenset[int], known: Any = known, entry: Any = entry, gold: Any = gold
        ) -> float:
            if members not in known:
                weights = np.array([priors[i] if i in members else 0.0 for i in range(k)])
                known[members] = -js_distance(mixture(entry, weights).tolist(), gold)
            return float(known[members])

        total = np.zeros(k)
        orders = list(permutations(range(k)))
        for order in orders:
            for place, i in enumerate(order):
                before = frozenset(order[:place])
                total[i] += value(before | {i}) - value(before)
        found.append(total / len(orders))
        everyone = frozenset(range(k))
        alone.append([value(everyone) - value(everyone - {i}) for i in range(k)])
    return np.array(found), np.array(alone)


@pytest.mark.parametrize(
    ("task", "golds", "groups"),
    [
        (MORAL, [[1, 0], [0.5, 0.5]], ["low_ambiguity", "high_ambiguity"]),
        (GLOBAL, [[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]], ["Japan", "Nigeria"]),
    ],
)
def test_distributional_influence_is_the_mixture_recomputed(
    saved: Any, scripted: Any, capsys: Any, task: str, golds: Any, groups: list[str]
) -> None:
    weights = [0.3, 0.2, 0.2, 0.1, 0.1, 0.1]
    folder = saved("modular_pluralism", task, weights=weights)
    scripted.seen.clear()
    found = influence(folder, capsys)[task]
    assert scripted.seen == []  # no model is asked again
    shapley, alone = by_hand(lines_of(folder), golds, np.array(weights))
    total = found["total"]
    np.testing.assert_allclose(
        [total["shapley"][n]["value"] for n in NAMES], shapley.mean(0), atol=1e-9
    )
    np.testing.assert_allclose(
        [total["leave_one_out"][n]["value"] for n in NAMES], alone.mean(0), atol=1e-9
    )
    assert found["priors"] == dict(zip(NAMES, weights, strict=True))
    gained = (
        total["nobody"]["value"] - total["everyone"]["value"]
    )  # of J-S distance: less is better
    assert sum(e["value"] for e in total["shapley"].values()) == pytest.approx(gained)
    (parts,) = found["groups"].values()
    assert [part["name"] for part in parts] == groups
    for part, own in zip(parts, shapley, strict=True):
        np.testing.assert_allclose([part["shapley"][n]["value"] for n in NAMES], own, atol=1e-9)
    assert main(["influence", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"{shapley.mean(0)[0]:+.4f}" in out
    assert "A positive influence lowers it" in out


def test_a_transcript_that_was_changed_is_refused(saved: Any, capsys: Any, tmp_path: Path) -> None:
    folder = saved("modular_pluralism", GLOBAL)
    lines = lines_of(folder)
    write(folder / "t.jsonl", lines[::-1])
    assert main(["influence", str(folder)]) == 2
    assert "t.jsonl was changed after the run" in capsys.readouterr().err
    results = next(folder.rglob("results_*.json"))
    text = json.loads(results.read_text())
    del text["config"]["pluralism"]["transcript_sha256"]  # as of a run of an older version
    results.write_text(json.dumps(text))
    for change, message in (
        (lambda e: e["sent"][0]["scores"].update(logprobs=[-1, -9, -9]), "on 1 of 2 docs (doc 1: off by"),
        (lambda e: e["sent"].pop(), "does not hold 6 readings of 3 options"),
        (lambda e: e["messages"].reverse(), "its messages are not those of news_left"),
        (lambda e: e.update(doc_id=5), "of other docs"),
    ):  # fmt: skip
        changed = deepcopy(lines)
        change(changed[1])
        write(folder / "t.jsonl", changed)
        assert main(["influence", str(folder)]) == 2
        assert message in capsys.readouterr().err
    write(folder / "t.jsonl", lines)
    assert main(["influence", str(folder)]) == 0
    text["config"]["pluralism"]["weights"] = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    results.write_text(json.dumps(text))
    capsys.readouterr()
    assert main(["influence", str(folder)]) == 2
    assert "on 2 of 2 docs" in capsys.readouterr().err
    shutil.rmtree(folder)


def test_steerable_selections_are_counted(
    saved: Any, scripted: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        scripted, "reply", staticmethod(lambda prompt: "3." if "Care" in prompt else "hm")
    )
    folder = saved("modular_pluralism", VK)
    found = influence(folder, capsys, "--task", "vk")[VK]["total"]
    fallen = lines_of(folder)[1]["selections"][0]["community"]
    assert (found["selections"], found["fallbacks"]) == (2, 1)
    right = found["communities"]["news_right"]
    assert (right["count"], right["selected"]["value"], right["selected"]["n"]) == (1, 1.0, 1)
    fallbacks = {name: one["fallbacks"] for name, one in found["communities"].items()}
    assert fallbacks == {name: int(name == fallen) for name in NAMES}
    assert sum(one["right"]["n"] for one in found["communities"].values()) == 2
    assert found["uniformity"]["simulated"]
    assert main(["influence", str(folder)]) == 0
    assert "2 selections, 1 of them could not be read" in capsys.readouterr().out


def test_other_methods_and_tasks_are_one_error(saved: Any, scripted: Any, capsys: Any) -> None:
    folder = saved("moe", MORAL)
    assert main(["influence", str(folder)]) == 2
    assert "Allowed: runs of modular_pluralism" in capsys.readouterr().err
    folder = saved("modular_pluralism", MORAL)
    for asked, message in (("vk", f"no samples of {VK}"), ("poetry", "Allowed: overton, vk")):
        assert main(["influence", str(folder), "--task", asked]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.model
def test_overton_through_the_real_scorer(
    saved: Any, scripted: Any, capsys: Any, monkeypatch: Any
) -> None:
    """What each community accounts for adds up to what is not new content."""
    monkeypatch.setattr(
        scripted, "reply", staticmethod(lambda prompt: "It says something about 1.")
    )
    folder = saved("modular_pluralism", OVERTON)
    assert main(["influence", str(folder)]) == 2
    assert "ask for --task overton" in capsys.readouterr().err
    found = influence(folder, capsys, "--task", "overton")[OVERTON]["total"]
    assert main(["faithfulness", str(folder), "--json"]) == 0
    faithful = json.loads(capsys.readouterr().out)["faithfulness"]
    assert faithful["scorer"] == "embedded"
    assert faithful["pairs"] == 12
    told = 1 - faithful["new_content"]["by_response"]["value"]
    assert found["everyone"]["value"] == pytest.approx(told)
    assert sum(e["value"] for e in found["shapley"].values()) == pytest.approx(told)
