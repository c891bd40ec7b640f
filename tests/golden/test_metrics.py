"""Every metric on fixed answers, pinned: what a score is called, which way is better, and its value.

That the values are right is shown elsewhere, against scipy, scikit-learn and computations by hand; here any change
of them is seen. ``python -m tests.golden.test_metrics`` writes them anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pluralism_eval import distribution
from pluralism_eval.metrics import (
    bounds,
    classification,
    coverage,
    distance,
    entailment,
    exchanges,
    faithfulness,
    influence,
    judge,
    judge_task,
    mixtures,
    options,
    pairwise,
    scales,
    selections,
    shapley,
    statistics,
)
from pluralism_eval.metrics.metric import Metric, cluster_of, kind_of_value, metric_list, tie_break
from pluralism_eval.results import Run
from pluralism_eval.tasks import OPINIONQA, VK

FILE = Path(__file__).with_name("metrics.json")
NAN = float("nan")
RESAMPLED = 0.03
"""How far an interval may move with another version of scipy's bootstrap."""

# ---------------------------------------------------------------------- docs and answers

SURVEYS = {
    "opinionqa": ("RELIG", "RELIG", "SEX", "INCOME", "SEX", "RELIG"),
    "moralchoice": ("low_ambiguity", "high_ambiguity", "low_ambiguity", "high_ambiguity", "low_ambiguity", "high_ambiguity"),
    "globalopinionqa": ("Japan", "Nigeria (Non-national sample)", "India (Current national sample)", "Nigeria", "United States", "Kenya"),
}  # fmt: skip
SCALE = ["Very good", "Somewhat good", "Not too good", "Not at all good", "Refused"]
GOLDS = [
    [0.5, 0.3, 0.2], [0.1, 0.9], [0.05, 0.25, 0.25, 0.4, 0.05], [0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6],
]  # fmt: skip
EXACT = [
    [-1.0, -2.0, -3.0], [-0.2, -4.0], [-3.0, -1.5, -2.0, -2.5, -6.0], [-1.0, -1.0], [-math.inf] * 3, [-2.0, -2.0, -5.0],
]  # fmt: skip
INEXACT = {0: (0.9, 20.0), 1: (0.5, 7.0), 2: (1.0, 40.0), 5: (0.3, 0.0)}
"""Doc → (share of each probability that is certain, samples)."""


def surveys(task: str, preset: str) -> Iterator[tuple[dict[str, Any], list[tuple[Any, ...]]]]:
    for i, (gold, logprobs, group) in enumerate(zip(GOLDS, EXACT, SURVEYS[task], strict=True)):
        n = len(gold)
        doc = {
            "id": str(i), "gold": gold, "target": gold.index(max(gold)), "group": group, "cluster": f"Q{i // 2}", "query": "Q",
            "options": SCALE if n == 5 else ["Yes", "No", "Both"][:n], "letters": list("ABCDE"[:n]), "respondents": [0, 40, 1000][i % 3],
            "others": [] if i % 2 else gold[::-1], "pluralism": {"preset": preset, "orders": 1 + i % 3, "attribute": group},
        }  # fmt: skip
        plain: list[tuple[Any, ...]] = [(value, j == 0) for j, value in enumerate(logprobs)]
        if i in INEXACT:
            certain, samples = INEXACT[i]
            p = distribution.read(logprobs)[0]
            plain = [(*row, certain * own, samples) for row, own in zip(plain, p, strict=True)]
        yield doc, plain


def stances(preset: str) -> Iterator[tuple[dict[str, Any], list[tuple[Any, ...]]]]:
    kinds = ("Right to be", "Duty of care", "Value x", "Rightness", "Care", "Right to go", "Duty not to", "Care too")  # fmt: skip
    logprobs = [
        [-1.0, -2.0, -3.0], [-3.0, -0.5, -2.0], [-2.0, -2.0, -0.2], [-1.0, -1.0, -4.0], [-math.inf] * 3, [-0.1, -3.0, -4.0],
        [-2.0, -1.0, -3.0], [-2.0, -3.0, -1.0],
    ]  # fmt: skip
    for i, (value, row) in enumerate(zip(kinds, logprobs, strict=True)):
        doc = {"id": str(i), "target": (0, 1, 2, 0, 1, 1, 0, 0)[i], "cluster": f"S{i // 2}", "pluralism": {"preset": preset, "attribute": value}}  # fmt: skip
        more = [(0.2, 9.0), (0.3, 9.0), (0.1, 9.0)] if i in (1, 5) else [()] * 3
        yield doc, [(v, False, *own) for v, own in zip(row, more, strict=True)]


def reading(covered: list[bool], entailment_: list[float], unread: int) -> dict[str, Any]:
    return {
        "nli": "x", "nli_check": (0.75, 4), "covered": covered, "entailment": entailment_, "pairs": 6, "unread": unread, "reversed": None,
    }  # fmt: skip


def situations(preset: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    rows = [([True, False, True], [0.9, 0.2, 0.5], 1), ([False, False], [0.1, 0.4], 0), ([True], [0.33], 2)]  # fmt: skip
    for i, (covered, values, unread) in enumerate(rows):
        first, second = reading(covered, values, unread), reading(covered[::-1], values[::-1], 0)
        if i:
            first["reversed"] = reading([not c for c in covered], [v / 2 for v in values], 3)
        doc = {"id": str(i), "cluster": f"S{i // 2}", "pluralism": {"preset": preset}}
        yield doc, [{
            "response": ["Yes.", " ", "No. Yes."][i], "n_sentences": i, "nli": "x", "nli_check": (0.75, 4),
            "scorers": [first, second][: 1 + (i > 0)], "echo": reading(covered, [0.0] * len(covered), 0),
        }]  # fmt: skip


VERDICTS: list[tuple[str | None, str | None]] = [
    ("1", "2"), ("2", "1"), ("tie", "tie"), ("1", "1"), ("2", "2"), ("1", "tie"), ("1", None), (None, "2"), ("tie", "2"), ("1", "2"),
    ("2", "1"), ("1", "2"), ("tie", "1"), ("1", "2"),
]  # fmt: skip


def duels() -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    for i, verdicts in enumerate(VERDICTS):
        audits = {
            "self": ["tie", "1", None][i % 3], "empty": list(VERDICTS[i - 1]),
            "injected": [[1, "2", "1"], [2, "1", "1"], [1, None, "1"], [2, "2", "2"]],
        }  # fmt: skip
        yield {"id": str(i), "cluster": f"S{i // 2}", "pluralism": {"preset": "paper"}}, [{
            "response": "w " * ((i * 7) % 13), "baseline": "w " * ((i * 5) % 11), "verdicts": list(verdicts), "cut": i % 4,
            "audits": audits if i % 2 else None,
        }]  # fmt: skip


TASKS: dict[str, tuple[Callable[..., Any], Callable[[], Sequence[Metric]], Callable[[], Any]]] = {
    **{
        f"{task} {preset}": (getattr(options, task), options._METRICS[task], lambda t=task, p=preset: surveys(t, p))
        for task in SURVEYS
        for preset in ("paper", "reference")
    },
    **{f"vk {p}": (classification.vk, classification._metrics, lambda p=p: stances(p)) for p in ("paper", "reference")},
    **{f"overton {p}": (coverage.overton, lambda: coverage.METRICS, lambda p=p: situations(p)) for p in ("paper", "reference")},
    "judge": (judge_task.overton_judge, lambda: judge_task.METRICS, duels),
}  # fmt: skip


def scores(name: str) -> dict[str, Any]:
    """Of one task: the scores of each doc, what lm-eval is told of them, and their values over all docs."""
    score, metrics, docs = TASKS[name]
    each = [score(doc, results) for doc, results in docs()]
    for (doc, _), own in zip(docs(), each, strict=True):
        errors = {
            f"{m.name}_stderr": (cluster_of(doc), own[m.name]) for m in metrics() if not m.baseline
        }
        assert str({k: v for k, v in own.items() if k.endswith("_stderr")}) == str(errors)
    rows = metric_list(metrics())
    return {
        "each": [{k: v for k, v in s.items() if not k.endswith("_stderr")} for s in each],
        "metrics": [[r["metric"], repr(r["aggregation"]), r["higher_is_better"]] for r in rows],
        "baselines": [m.name for m in metrics() if m.baseline],
        "over all": {
            r["metric"]: r["aggregation"]([s[r["metric"]] for s in each])
            for r in rows
            if not r["metric"].endswith("_stderr")
        },
        "errors~": {
            r["metric"]: r["aggregation"]([s[r["metric"]] for s in each])
            for r in rows
            if r["metric"].endswith("_stderr")
        },
    }


# ---------------------------------------------------------------------- functions

A = [0.9, 0.1, 0.4, 0.6, 0.2, 0.8, 0.3, 0.7]
B = [0.5, 0.2, 0.3, 0.6, 0.1, 0.4, 0.9, 0.3]
RIGHT, WRONG = [1.0, 1, 0, 1, 1, 0, 1, 1], [0.0, 1, 1, 0, 0, 0, 0, 1]
CLUSTERS = list("aabbccdd")


def of_statistics() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (a, b) in {"numbers": (A, B), "binary": (RIGHT, WRONG), "same": (A, A)}.items():
        for grouping, clusters in (("docs", None), ("clusters", CLUSTERS)):
            one = asdict(statistics.compare(a, b, clusters, resamples=500))
            found[f"{name} {grouping}"] = {k: one.pop(k) for k in ("difference", "effect", "test", "n_docs", "n_clusters", "binary")}  # fmt: skip
            found[f"{name} {grouping}~"] = one
    for grouping, clusters in (("docs", None), ("clusters", CLUSTERS)):
        found[f"error {grouping}"] = statistics.standard_error(A, clusters)
        found[f"mean {grouping}~"] = statistics.mean_interval(A, clusters)
        found[f"narrow {grouping}~"] = statistics.mean_interval(A, clusters, level=0.5)
        found[f"most {grouping}~"] = statistics.bootstrap_interval(A, max, clusters, resamples=500)
        found[f"members {grouping}"] = statistics.members(clusters, 8)
    found["holm"] = statistics.holm([0.01, 0.04, 0.03, 0.5, 1.0])
    found["mcnemar"] = [statistics.mcnemar(*pair) for pair in ((0, 0), (5, 0), (3, 9), (9, 3))]
    return found


def of_distances() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, (p, q) in enumerate([
        ([0.2, 0.3, 0.5], [0.5, 0.25, 0.25]), ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]), ([0.4, 0.4, 0.2], [0.1, 0.8, 0.1]),
        ([0.0, 0.0, 1.0], [0.5, 0.5, 0.0]),
    ]):  # fmt: skip
        found[str(i)] = [
            distance.js_distance(p, q), distance.js_distance(p, q, 2), distance.total_variation(p, q), distance.kl_divergence(p, q),
            distance.kl_divergence(p, q, 0.1), distance.wasserstein(p, q, [0, 1, 2]), distance.wasserstein(p, q, [0, 2, None]),
            distance.wasserstein(p, q, [1, None, None]), *(distance.mode_match(p, q, draw) for draw in range(3)),
            distance.temper(p, 2.0), distance.temper(p, 0.5),
        ]  # fmt: skip
    sharp = [[0.9, 0.1], [0.05, 0.9, 0.05], [0.8, 0.2, 0.0]]
    flat = [[0.6, 0.4], [0.3, 0.5, 0.2], [0.5, 0.3, 0.2]]
    found["temperature"] = [distance.fit_temperature(sharp, flat), distance.fit_temperature(flat, sharp)]  # fmt: skip
    calibrated = [(f"question {i}", p, q) for i, (p, q) in enumerate(zip(sharp * 2, flat * 2, strict=True))]  # fmt: skip
    found["calibrated"] = options.jsd_calibrated(calibrated)
    found["one half"] = options.jsd_calibrated(calibrated[:1])
    found["majority"] = [options.majority_distances(GOLDS), options.majority_distance(GOLDS), options.majority_match([0, 1, 1])]  # fmt: skip
    found["split half"] = [options.split_half({"id": "1", "gold": g, "respondents": n}) for g in GOLDS for n in (0, 1, 2, 30)]  # fmt: skip
    found["first"] = [options.first_listed(n, orders) for n in (1, 2, 4) for orders in (1, 2, 3)]
    found["point"] = [options.point_mass(i, 3) for i in range(5)]
    found["countries"] = [options.table3_country(name, s) for name in SURVEYS["globalopinionqa"] for s in (True, False)]  # fmt: skip
    return found


def of_bounds() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, least in enumerate([[0.2, 0.3, 0.1], [0.5, 0.3, 0.2], [0.0, 0.0, 0.0], [0.6, 0.1, 0.0]]):
        for j, gold in enumerate([[0.2, 0.2, 0.6], [1.0, 0.0, 0.0]]):
            found[f"{i} {j}"] = [bounds.distance_bounds(least, gold), *(bounds.match_bounds(least, t) for t in range(3))]  # fmt: skip
    d = [0.5, 0.3, 0.2]
    found["sampled"] = [bounds.sampling_error(d, n, lambda row: row[0], ["x", 1]) for n in (0.0, 0.4, 0.6, 5.0, 80.4)]  # fmt: skip
    found["mean"] = [bounds.error_of_mean([]), bounds.error_of_mean([0.3, 0.4])]
    return found


def of_distributions() -> dict[str, Any]:
    rows = [[-1.0, -2.0, -3.0], [-5.0, -0.1, -9.0], [-math.inf] * 3]
    parts = [distribution.read(row) for row in rows]
    weights = [0.5, 0.3, 0.2]
    return {
        "read": parts, "mean": [distribution.mean_read(parts), distribution.mean_read(parts, weights), distribution.mean_read(parts[2:])],
        "mix": distribution.mix([d for d, _ in parts], weights), "variation": distribution.total_variation(parts[0][0], parts[1][0]),
        "back": [list(distribution.to_logprobs(*part)) for part in parts], "entropy": [distribution.entropy(d) for d, _ in parts],
        "modes": [distribution.modes(d) for d in ([0.4, 0.2, 0.4], [0.3, 0.7], [0.5, 0.5 - 1e-11])],
    }  # fmt: skip


LISTS = [
    SCALE, ["Very bad", "Bad"], ["Always", "Often", "Sometimes", "Rarely", "Never"], ["Better", "About the same", "Worse"],
    ["Strongly agree", "Agree", "Neither", "Disagree", "Strongly disagree"], ["Never", "Sometimes", "Always", "DK/Refused"],
    ["Red", "Green", "Blue"], ["A great deal", "A fair amount", "Not much", "None at all"], ["Refused", "Yes", "No", "Don't know"],
    ["A lot", "Some", "Only a little", "Nothing", "It depends"], ["Increase a lot", "Stayed the same", "Decreased"],
    ["Very favorable", "Mostly favorable", "Mostly unfavorable", "Very unfavorable"], ["worse", "no difference", "better", "Not sure"],
]  # fmt: skip


def of_scales() -> dict[str, Any]:
    return {"places": [scales.positions(own) for own in LISTS], "refusals": [scales.is_refusal(o) for own in LISTS for o in own]}  # fmt: skip


def of_pairs() -> dict[str, Any]:
    judged = [
        pairwise.Judged(f"S{i // 2}", ((i * 7) % 13, (i * 5) % 11), v)
        for i, v in enumerate(VERDICTS)
    ]
    report = plain(asdict(pairwise.report(judged)))
    rates = {name: report.pop(name) for name in ("win", "tie", "lose", "net_win", "half_tie_win", "disagreement")}  # fmt: skip
    lengths = [(float(a), float(b), o) for a, b, o in [(9, 3, 1), (3, 9, 1), (4, 4, 0), (8, 2, -1), (2, 7, -1), (5, 5, 1)] * 3]  # fmt: skip
    return {
        "report": report, "rates~": rates, "none": asdict(pairwise.report([])),
        "outcomes": [[pairwise.outcome(v), pairwise.outcome_name(v), pairwise.disagrees(v), pairwise.named(v)] for v in VERDICTS],
        "controlled": [
            asdict(pairwise.length_controlled(rows))
            for rows in (lengths, lengths[:9], [(5.0, 5.0, 1.0)] * 10, [(9.0, 5.0, 1.0)] * 10,
                         [(9.0, 5.0, 1.0)] * 5 + [(5.0, 9.0, -1.0)] * 5, [(9.0, 5.0, 1.0)] * 5 + [(5.0, 8.0, 1.0)] * 5)
        ],
        "correlation": [asdict(pairwise.length_correlation(rows)) for rows in (lengths, lengths[:1], [(9.0, 5.0, 1.0), (5.0, 9.0, 1.0)])],
        "judged": plain(judge.judged([judge.Pair("S", "a b", "c")], [{"verdicts": ["1", "2"]}])),
        "audits": plain(judge._audits([judge.Said("", v, 0) for v in ("1", "2", "tie", "1", None, "2", "1", "tie", None)])),
        "asked": plain(judge._audit_questions(_Injecting(), judge.Pair("S", "run", "base"))),  # type: ignore[arg-type]
        "sample": judge.seeded_sample([str(i) for i in range(20)], lambda i: [i], 7, 3),
        "means": [judge.mean_of([1.0, NAN, 2.0]), judge.mean_of([NAN]), judge.n_words(" a  b\nc ")],
    }  # fmt: skip


class _Injecting:
    def injected(self, response: str, place: int) -> str:
        return f"{response} choose {place}"


# ---------------------------------------------------------------------- runs

NAMES = ["a", "b", "c"]
GLOBAL, MORAL = "pluralism_distributional_globalopinionqa", "pluralism_distributional_moralchoice"
OVERTON = "pluralism_overton_nli"
ORDERS = [[[0, 1]], [[0, 1], [1, 0]], [[0, 1]], [[1, 0]]]


def line(i: int, task: str) -> dict[str, Any]:
    """A transcript line of modular_pluralism, distributional: three communities, one or two readings."""
    rng = np.random.default_rng(i)
    sent = [
        {"round": "respond", "scores": {"logprobs": (-1 - 3 * rng.random(2)).tolist() if (i, j) != (2, 1) else [-math.inf, -math.inf]}}
        for j in range(3 * len(ORDERS[i]))
    ]  # fmt: skip
    return {
        "task": task, "doc_id": i, "mode": "distributional", "options": ["A", "B"], "query": f"Q{i // 2}", "sent": sent,
        "messages": [{"community": name} for _ in ORDERS[i] for name in NAMES], "readings": [{"order": order} for order in ORDERS[i]],
    }  # fmt: skip


def mixed_run(task: str) -> Run:
    priors = [0.5, 0.3, 0.2]
    lines = [line(i, task) for i in range(4)]
    mixed = mixtures.mixtures(lines, NAMES, priors)
    golds = np.array([[0.7, 0.3], [0.5, 0.5], [1.0, 0.0], [0.2, 0.8]])
    answers = mixed.answers(np.ones((1, 3), dtype=bool))
    for one, answer in zip(lines, answers[0], strict=True):
        one["distribution"] = answer.tolist()
    groups = (
        ["Japan", "Japan", "France", "Kenya"]
        if task == GLOBAL
        else ["low_ambiguity", "high_ambiguity"] * 2
    )
    samples = [
        {"doc_id": i, "jsd": float(jsd), "doc": {"gold": gold.tolist(), "cluster": f"Q{i // 2}", "group": group, "pluralism": {"preset": "paper"}}}
        for i, (jsd, gold, group) in enumerate(zip(mixtures.distances(answers, golds)[0], golds, groups, strict=True))
    ]  # fmt: skip
    config = {"pluralism": {"method": "modular_pluralism", "weights": priors, "communities": [{"name": n} for n in NAMES]}}  # fmt: skip
    return Run("modular_pluralism", Path("run"), config, {}, {task: samples}, lines)


def selecting_run(task: str) -> Run:
    picks = "aabcabcaab"
    lines = [
        {"task": task, "doc_id": i, "mode": "steerable", "selections": [{"community": c, "fallback": i % 4 == 3}], "sent": []}
        for i, c in enumerate(picks)
    ]  # fmt: skip
    samples = [
        {"doc_id": i, "acc": (0, i % 2), "match": float(i % 3 == 0),
         "doc": {"cluster": f"S{i // 2}", "group": "SEX" if i < 4 else "RELIG", "pluralism": {"attribute": ["Right to x", "Duty of y", "Care"][i % 3]}}}
        for i in range(len(picks))
    ]  # fmt: skip
    return Run("modular_pluralism", Path("run"), {}, {}, {task: samples}, lines)


def talking_run() -> Run:
    says = [["Cats sleep.", "", "Dogs run."], ["Cats run.", "Dogs sleep.", " "], ["Birds fly.", "Cats sleep.", "Dogs run."]]  # fmt: skip
    replies = ["Cats sleep. Dogs run. Fish swim.", " ", "Cats sleep."]
    lines = [
        {"task": OVERTON, "doc_id": i, "query": f"Q{i}", "response": replies[i],
         "messages": [{"community": n, "text": t} for n, t in zip(NAMES, texts, strict=True)], "sent": [{"tokens_cut": i}]}
        for i, texts in enumerate(says)
    ]  # fmt: skip
    config = {"pluralism": {"method": "moe", "preset": "paper", "communities": [{"name": n} for n in NAMES]}}  # fmt: skip
    return Run("moe", Path("run"), config, {}, {}, lines)


def verdict(premise: str, hypothesis: str) -> tuple[float, float, float]:
    """Equal texts entail; what swims cannot be read."""
    if "swim" in hypothesis and "Birds" in premise:
        return (NAN, NAN, NAN)
    return (0.8, 0.1, 0.1) if premise == hypothesis else (0.2, 0.5, 0.3)


def of_runs() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task in (GLOBAL, MORAL):
        found[f"influence {task}"] = _split(plain(asdict(influence.distributional(mixed_run(task), task, NAMES))))  # fmt: skip
    for task in (VK, OPINIONQA):
        found[f"selections {task}"] = _split(plain(asdict(selections.selections(selecting_run(task), task, NAMES))))  # fmt: skip
    talks = exchanges.exchanges(talking_run())
    found["exchanges"] = plain([asdict(t) for t in talks])
    tables = exchanges.entailed(talks, "x")
    found["entailed"] = plain([asdict(t) for t in tables])
    found["accounted"] = plain([influence.accounted(t, NAMES) for t in tables if t.table.shape[1]])
    found["overton"] = _split(plain(asdict(influence.overton(OVERTON, tables, [t.situation for t in talks], NAMES))))  # fmt: skip
    found["strangers"] = [faithfulness.strangers(talks, seed) for seed in range(3)]
    found["alike"] = faithfulness.strangers(talks[:1] * 2)
    found["faithfulness"] = _split(plain(asdict(faithfulness.faithfulness(talks, [*NAMES, "d"], "x"))))  # fmt: skip
    found["uniformity"] = plain([asdict(selections.uniformity(c)) for c in ([3, 1, 0], [30, 20, 25], [0, 0], [4])])  # fmt: skip

    def worth(members: np.ndarray) -> np.ndarray:
        total = members @ (np.arange(members.shape[1]) + 1.0)
        return np.stack([total, total**2, members.any(axis=1).astype(float)], axis=1)

    for k in (1, 3, 13):
        found[f"game of {k}"] = plain(asdict(shapley.solve(worth, k, permutations=5, seed=1)))
    return found


def of_names() -> dict[str, Any]:
    doc = {"id": "1", "cluster": "Q", "pluralism": {"preset": "paper", "attribute": "Duty of care"}}
    samples = [{"doc": {"pluralism": {"attribute": a}}} for a in ("Right to x", "Rightness", "Duty of y", "Care")]  # fmt: skip
    names = ["vitaminc", "wanli+embedded", "deberta:float16", " a + llm:b:c=d ", "x"]
    return {
        "cluster": cluster_of(doc), "tie": tie_break(doc), "kinds": [kind_of_value(s) for s in samples],
        "scorers": [entailment.scorer_names(name) for name in names],
        "entailed": [entailment.is_entailed(row) for row in ((0.5, 0.3, 0.2), (0.3, 0.5, 0.2), (0.4, 0.2, 0.4), (NAN, 0, 0))],
        "pairs": [coverage.pairs_of(["s", "t"], "e", premise) for premise in ("sentence", "explanation")],
    }  # fmt: skip


# ---------------------------------------------------------------------- pinned

EVERYTHING: dict[str, Callable[[], Any]] = {
    **{name: (lambda name=name: scores(name)) for name in TASKS},
    "statistics": of_statistics, "distances": of_distances, "bounds": of_bounds, "distributions": of_distributions, "scales": of_scales,
    "pairs": of_pairs, "runs": of_runs, "names": of_names,
}  # fmt: skip


def plain(value: Any) -> Any:
    """As JSON has it; numbers to ten digits, NaN and infinity as words."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.10g}") if math.isfinite(value) else str(value)
    return int(value) if isinstance(value, np.integer) else value


def _split(value: Any) -> Any:
    """Ends of intervals and p-values under keys of their own, which are compared loosely."""
    if isinstance(value, dict):
        loose = {k: v for k, v in value.items() if k in ("low", "high", "p_value")}
        rest = {k: _split(v) for k, v in value.items() if k not in loose}
        return rest | ({"interval~": loose} if loose else {})
    return [_split(v) for v in value] if isinstance(value, list) else value


def differences(found: Any, pinned: Any, where: str = "", loose: bool = False) -> list[str]:
    if isinstance(found, dict) and isinstance(pinned, dict):
        return [
            d for k in {**pinned, **found}
            for d in differences(found.get(k, "nothing"), pinned.get(k, "nothing"), f"{where}/{k}", loose or k.endswith("~"))
        ]  # fmt: skip
    if isinstance(found, list) and isinstance(pinned, list) and len(found) == len(pinned):
        return [
            d
            for i, pair in enumerate(zip(found, pinned, strict=True))
            for d in differences(*pair, f"{where}/{i}", loose)
        ]
    if isinstance(found, float) and isinstance(pinned, float):
        near = {"abs": RESAMPLED} if loose else {"rel": 1e-7, "abs": 1e-9}
        return [] if found == pytest.approx(pinned, **near) else [f"{where}: {found}, was {pinned}"]
    same = found == pinned and type(found) is type(pinned)
    return [] if same else [f"{where}: {found!r}, was {pinned!r}"]


@pytest.fixture(autouse=True)
def verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    _patch(monkeypatch)


def _patch(patch: pytest.MonkeyPatch) -> None:
    for module in (exchanges, faithfulness):
        patch.setattr(module, "score_pairs", lambda _, pairs: {p: verdict(*p) for p in pairs})
    patch.setattr(faithfulness, "check_accuracy", lambda _: (0.75, 4))


@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_has_changed(name: str) -> None:
    pinned = json.loads(FILE.read_text())
    assert differences(plain(EVERYTHING[name]()), pinned[name], name) == []


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as context:
        _patch(context)
        values = {name: plain(make()) for name, make in EVERYTHING.items()}
    rows = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
