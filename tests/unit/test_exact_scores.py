"""Scores to the last bit: golds that nearly sum to 1, predictions equal to gold, the authors' argmax, VK's errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pluralism_eval import scoring
from pluralism_eval.data.docs import build_docs
from pluralism_eval.distribution import read, to_logprobs
from pluralism_eval.metrics import classification, distance, options
from pluralism_eval.metrics.metric import metric_list
from pluralism_eval.metrics.statistics import widened


def survey(gold: list[float], number: int = 0, **more: Any) -> dict[str, Any]:
    attribute = more.pop("attribute", "Japan")
    return {
        "question": f"Q{number}?", "options": [f"option {i}" for i in range(len(gold))], "attribute": attribute,
        "gold_distribution": gold, "id": number, **more,
    }  # fmt: skip


def score(folder: Path, task: str, items: list[dict[str, Any]], preset: str = "paper") -> Any:
    file = folder / "answers.json"
    file.write_text(json.dumps(items))
    return scoring.score_file(file, task, preset)


@pytest.mark.parametrize("excess", [9e-10, 2e-12, -9e-10, 1e-3])
def test_a_gold_that_nearly_sums_to_1_is_normalised_and_has_two_halves(excess: float) -> None:
    item = survey([0.3, 0.7 + excess, 0.0], respondents=1000)
    (doc,) = build_docs("globalopinionqa", [item], {"input": "x", "preset": "paper"}, "f")
    assert math.fsum(doc["gold"]) == pytest.approx(1, abs=1e-15)
    assert 0 < options.split_half(doc)[0] < 0.1
    raw = {**doc, "gold": item["gold_distribution"]}  # as a run of an older version logged it
    assert 0 < options.split_half(raw)[0] < 0.1


def test_predictions_equal_to_gold_are_at_distance_0(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    golds = [rng.dirichlet(np.full(1 + i % 5, [0.01, 1, 20][i % 3])).tolist() for i in range(300)]
    golds += [[1e-300, 1 - 1e-16], [0.33, 0.33, 0.33], [1 / 3] * 3, [1.0, 0.0]]
    items = [survey(g, i, pred_distribution=g) for i, g in enumerate(golds)]
    samples = score(tmp_path, "globalopinionqa", items).samples
    for name in ("jsd", "jsd_base2", "total_variation", "jsd_lower", "jsd_upper"):
        assert {sample[name] for sample in samples} == {0.0}, name
    for gold in (g for g in golds if len(g) > 1 and abs(sum(g) - 1) < 1e-12):
        p, _ = read(to_logprobs(gold, 0.37))
        assert distance.wasserstein(p, gold, range(len(gold))) == 0
        assert distance.kl_divergence(p, gold, smoothing=0) == 0
    near = distance.js_distance([0.5 + 1e-5, 0.5 - 1e-5], [0.5, 0.5])
    assert near == pytest.approx(1e-5 / math.sqrt(2), rel=1e-3), "small is not equal"


def neighbours() -> list[list[float]]:
    """Distributions whose largest values are a bit or less than 1e-12 apart."""
    rng = np.random.default_rng(1)
    found = []
    for i in range(300):
        top = rng.uniform(0.05, 0.33)
        steps = rng.permutation([top, np.nextafter(top, 1), np.nextafter(top, 0)]).tolist()
        if i % 3 == 0:
            steps = [top, top + 4e-13, top - 2e-13]
        found.append([*steps, 1 - math.fsum(steps)] if i % 2 else steps)
    return found


@pytest.mark.parametrize("preset", ["reference", "paper+ties=first"])
def test_the_first_of_ties_is_numpys_argmax_to_the_last_bit(tmp_path: Path, preset: str) -> None:
    predictions = [p for p in neighbours() if 0.9 <= sum(p) <= 1.1]
    assert len(predictions) > 150
    rng = np.random.default_rng(2)
    golds = [rng.dirichlet(np.ones(len(p))).tolist() for p in predictions]
    items = [
        survey(g, i, pred_distribution=p, attribute="SEX_Male")
        for i, (g, p) in enumerate(zip(golds, predictions, strict=True))
    ]
    samples = score(tmp_path, "opinionqa", items, preset).samples
    theirs = [float(np.argmax(p) == np.argmax(g)) for p, g in zip(predictions, golds, strict=True)]
    assert [sample["match"] for sample in samples] == theirs
    run = [to_logprobs(p, 0.4) for p in neighbours()]  # what a method hands to lm-eval
    assert [int(np.argmax(r)) for r in run] == [int(np.argmax(p)) for p in neighbours()]


def test_vks_accuracies_have_the_interval_and_the_error_of_a_mean() -> None:
    rng = np.random.default_rng(3)
    items = [
        {"id": i, "situation": f"S{i // 3}", "vrd": "Care", "label": "ABC"[rng.integers(3)], "input": "Q"}
        for i in range(120)
    ]  # fmt: skip
    docs = build_docs("vk", items, {"input": "x", "preset": "paper"}, "x")
    said = [[(float(v), False) for v in np.log(rng.dirichlet([2, 1, 1]))] for _ in docs]
    samples = [
        {"doc_id": i, "doc": doc, **classification.vk(doc, result)}
        for i, (doc, result) in enumerate(zip(docs, said, strict=True))
    ]
    found = {s.name: s for s in scoring.summarise("vk", samples)}
    errors = {row["metric"]: row["aggregation"] for row in metric_list(classification.METRICS)}
    for name, kept in (("acc", (0, 1, 2)), ("acc_binary", (0, 1))):
        rows = [(i // 3, float(g == p)) for i, (g, p, *_) in enumerate(s[name] for s in samples) if g in kept]  # fmt: skip
        groups = [[v for c, v in rows if c == own] for own in dict.fromkeys(c for c, _ in rows)]
        own = np.random.default_rng(0)
        sums, sizes = np.array([sum(g) for g in groups]), np.array([len(g) for g in groups])
        draws = own.integers(0, len(groups), (5000, len(groups)))
        means = sums[draws].sum(1) / sizes[draws].sum(1)
        mean = sums.sum() / sizes.sum()
        residuals = sums - mean * sizes
        n = len(groups)
        error = math.sqrt((residuals**2).sum() * n / (n - 1)) / sizes.sum()
        assert found[name].value == pytest.approx(mean)
        tail = (1 - widened(0.95, sizes)) / 2
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])), abs=1e-9)  # fmt: skip
        assert found[name].stderr == pytest.approx(error)
        logged = errors[f"{name}_stderr"]([s[f"{name}_stderr"] for s in samples])
        assert logged == pytest.approx(error)
