"""The benchmark of the benchmark: its truths are true, a wrong interval and a wrong test are found out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test

from pluralism_eval import cli
from pluralism_eval.control import simulate, tables
from pluralism_eval.control.scores import SCORES, Score, measured
from pluralism_eval.control.simulate import Simulated, measure
from pluralism_eval.control.worlds import Floats
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import statistics
from pluralism_eval.metrics.classification import METRICS
from pluralism_eval.metrics.summary import interval
from pluralism_eval.tasks import headlines

GLOBAL = next(s for s in SCORES if "GlobalOpinionQA" in s.title)
BALANCED = next(s for s in SCORES if s.balanced)
ONE_EACH = next(s for s in SCORES if s.mcnemar)


def met(row: simulate.Row, benchmarks: int) -> bool:
    return row.met(Simulated(benchmarks, 0, [row], []))


def test_every_headline_score_is_simulated() -> None:
    assert {c.title for c in headlines()} <= {s.title for s in SCORES}
    assert {c.title for c in headlines() if c.number} == {s.title for s in SCORES if s.in_family}


@pytest.mark.parametrize("score", SCORES, ids=lambda s: s.title)
def test_the_truth_of_every_method_is_the_mean_of_very_many_docs(score: Score) -> None:
    rng = np.random.default_rng(0)
    docs, count = 1000, 400
    design = score.world.design(docs, rng)
    assert len(design) == docs
    assert set(np.diff(design)) <= {0, 1}
    for method in (score.unlike, score.better):
        (one, other), labels = score.world.benchmarks((method, score.method), count, design, rng)
        for scores, truth in ((one, method.truth), (other, score.method.truth)):
            values = simulate._values(score, scores, labels)
            error = values.std(ddof=1) / count**0.5
            assert abs(values.mean() - truth) < 4 * error + 1e-4
        assert one.min() >= 0
        assert one.max() <= 1
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.1
    assert score.unlike.truth == pytest.approx(score.method.truth)


def test_docs_of_a_cluster_are_alike() -> None:
    rng = np.random.default_rng(0)
    design = np.repeat(np.arange(100), 2)
    (scores, _), _ = GLOBAL.world.benchmarks((GLOBAL.method, GLOBAL.method), 50, design, rng)
    together = np.corrcoef(scores[:, ::2].ravel(), scores[:, 1::2].ravel())[0, 1]
    apart = np.corrcoef(scores[:, 1:-1:2].ravel(), scores[:, 2::2].ravel())[0, 1]
    assert together > 0.75
    assert abs(apart) < 0.1


def test_an_interval_of_half_the_width_misses_the_goal() -> None:
    def half(scores: Floats, clusters: list[int], seed: int) -> Floats:
        whole, middle = simulate.intervals(scores, clusters, seed), scores.mean(axis=1)[:, None]
        return np.asarray(middle + (whole - middle) / 2)

    row, _ = measure(SCORES[0], 50, 200, intervals=half)  # type: ignore[arg-type]
    assert row.held < 0.8
    assert row.held_difference is not None
    assert row.held_difference < 0.8
    assert not met(row, 200)


def test_a_test_that_takes_docs_for_independent_is_found_out() -> None:
    def naive(a: Floats, b: Floats, clusters: list[int], seed: int) -> Floats:
        return statistics.sign_flips(a - b, 499, seed)

    row, _ = measure(GLOBAL, 100, 200, test=naive)  # type: ignore[arg-type]
    assert row.false_alike is not None
    assert row.false_alike > simulate.most_false(200)
    assert not met(row, 200)
    honest, _ = measure(GLOBAL, 100, 200)
    assert honest.false_alike is not None
    assert honest.false_alike <= simulate.most_false(200)


def test_few_unequal_clusters_need_the_correction() -> None:
    row, _ = measure(GLOBAL, 50, 400)
    assert row.held_plain < 0.92  # 0.95 is promised; 400 benchmarks know this to 0.01
    assert row.held > row.held_plain + 0.02
    assert row.first > 0.7
    assert row.better_by == pytest.approx(-0.03)


def test_balanced_accuracy_has_the_interval_of_reports() -> None:
    rng = np.random.default_rng(3)
    design = BALANCED.world.design(60, rng)
    pair = BALANCED.method, BALANCED.method
    (_, right), labels = BALANCED.world.benchmarks(pair, 3, design, rng)
    found, _ = simulate._balanced(right, labels, design.tolist(), 0)
    summary = next(m.summary for m in METRICS if m.name == "balanced_acc")
    for ends, own, gold in zip(found, right.astype(int), labels, strict=True):
        items = [(g, g if r else (g + 1) % 3) for g, r in zip(gold.tolist(), own, strict=True)]
        assert tuple(ends) == pytest.approx(interval(summary, items, design.tolist()))


def test_many_tests_at_once_are_those_of_compare() -> None:
    rng = np.random.default_rng(4)
    design = GLOBAL.world.design(40, rng)
    (a, b), _ = GLOBAL.world.benchmarks((GLOBAL.better, GLOBAL.method), 3, design, rng)
    found = simulate.p_values(a, b, design.tolist(), 0)
    one = [statistics.compare(x, y, design.tolist()).p_value for x, y in zip(a, b, strict=True)]
    assert found.tolist() == pytest.approx(one)
    right, wrong = (a > 0.3).astype(float), (b > 0.3).astype(float)
    exact = [statistics.compare(x, y).p_value for x, y in zip(right, wrong, strict=True)]
    assert simulate.mcnemar_p_values(right, wrong, [], 0).tolist() == pytest.approx(exact)


@pytest.mark.parametrize("n", [5, 30])
def test_flipped_signs_give_scipys_p_value(n: int) -> None:
    sums = np.random.default_rng(n).normal(0.3, 1, n)
    scipys = permutation_test(
        (sums,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9999, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    tolerance = 1e-12 if n == 5 else 0.02
    assert statistics.sign_flips(sums[None])[0] == pytest.approx(scipys, abs=tolerance)


def test_the_correction_by_hand() -> None:
    from scipy.stats import norm, t

    by_hand = 1 - 2 * norm.cdf(t.ppf(0.025, 9) * (10 / 9) ** 0.5)
    assert statistics.widened(0.95, [3] * 10) == pytest.approx(by_hand)
    assert statistics.widened(0.95, [3] * 10) < statistics.widened(0.95, [1] * 9 + [21])
    assert statistics.widened(0.95, np.full((10, 2), 3.0)) == pytest.approx(
        1 - 2 * norm.cdf(t.ppf(0.025, 18) * (10 / 9) ** 0.5)
    )
    assert statistics.widened(0.95, np.eye(2)) == 0.95
    assert statistics.widened(0.95, [1] * 10**6) == pytest.approx(0.95, abs=1e-5)


def test_the_command_is_reproducible_by_its_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, seed: int) -> str:
        folder = tmp_path / name
        given = ["--benchmarks", "4", "--docs", "12", "--seed", str(seed), "--json"]
        assert cli.main(["control", "simulate", *given, "--output", str(folder)]) == 0
        text = (folder / "simulated.md").read_text()
        assert f"--benchmarks 4 --docs 12{f' --seed {seed}' if seed else ''} --output" in text
        result = json.loads((folder / "simulated.json").read_text())["result"]
        assert json.loads(capsys.readouterr().out) == result
        return json.dumps(result["rows"])

    assert run("a", 0) == run("b", 0) != run("c", 1)


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["control", "simulate", "--docs", "many"]) == 2
    assert "whole numbers joined by commas" in capsys.readouterr().err
    for benchmarks, docs in ((1, (50,)), (5, (1,)), (5, ())):
        with pytest.raises(PluralismError, match="at least two"):
            simulate.simulate(benchmarks, docs)


def test_how_docs_hang_together_is_counted_from_inputs() -> None:
    found = measured("sample")
    for own in found.values():
        assert sum(int(size) * n for size, n in own["docs of a cluster"].items()) > 0
    assert set(found["vk"]["gold labels"]) <= {"A", "B", "C"}


def test_the_table_says_what_missed() -> None:
    row, _ = measure(ONE_EACH, 20, 10)
    bad = Simulated(10, 0, [replace(row, held=0.5)], [simulate.Family(20, 0.0, {"x": 1.0})])
    text = tables.document(bad, "cmd")
    assert f"Goals missed: {row.score} at 20 docs." in text
    assert "`cmd`" in text
    assert "McNemar" in text
    assert "missed" in tables.table(bad)
