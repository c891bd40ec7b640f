"""What was made faster says what it said before, and keeps no more in memory than it needs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp as of_scipy
from scipy.stats import bootstrap

from pluralism_eval import distribution, stores
from pluralism_eval.answers import AnswerCache
from pluralism_eval.cache import Store
from pluralism_eval.metrics import statistics
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.summary import Of, StandardError, interval, macro
from pluralism_eval.schema import Answer, Message, Query, Sent
from pluralism_eval.transcript import Transcript

RNG = np.random.default_rng(0)
CLUSTERS = [int(c) for c in RNG.integers(0, 40, 300)]
VALUES = RNG.random((3, 300)).tolist()
GROUPED = [(f"g{i % 7 if i % 50 else 9}", v) for i, v in enumerate(VALUES[0])]


@given(st.lists(st.floats(-800, 0) | st.just(-math.inf), min_size=1, max_size=20))
def test_logsumexp_is_scipys(values: list[float]) -> None:
    assert distribution.logsumexp(values) == float(of_scipy(values))


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=9), st.data())
def test_the_distance_is_scipys(p: list[float], data: st.DataObject) -> None:
    q = data.draw(st.lists(st.floats(1e-6, 1), min_size=len(p), max_size=len(p)))
    a, b = ([v / math.fsum(x) for v in x] for x in (p, q))
    expected = float(
        np.nan_to_num(jensenshannon(a, b))
    )  # its rounding is up to 1e-8 where both are equal
    assert js_distance(a, b) ** 2 == pytest.approx(expected**2, rel=1e-9, abs=1e-15)


def test_intervals_are_scipys_and_shared_resamples_change_none() -> None:
    groups = statistics.members(CLUSTERS, 300)
    together = statistics.mean_intervals(VALUES, CLUSTERS, resamples=700)
    for values, own in zip(VALUES, together, strict=True):
        assert own == pytest.approx(statistics.mean_interval(values, CLUSTERS, resamples=700))
        sums = np.array([sum(values[i] for i in group) for group in groups])
        sizes = np.array([len(group) for group in groups])
        found = bootstrap(
            (sums, sizes), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True, n_resamples=700,
            batch=500, method="percentile", rng=np.random.default_rng(0),
            confidence_level=statistics.widened(0.95, sizes),
        ).confidence_interval  # fmt: skip
        assert own == pytest.approx((float(found.low), float(found.high)), abs=1e-12)


def test_the_fast_macro_is_the_slow_one() -> None:
    fast, slow = Of(macro, statistics.resampled_macro), Of(macro)
    assert repr(fast) == repr(slow) == "macro"
    assert fast.resampled(GROUPED, CLUSTERS, 60) == pytest.approx(
        slow.resampled(GROUPED, CLUSTERS, 60), abs=1e-12
    )
    assert interval(fast, GROUPED, CLUSTERS) == pytest.approx(interval(slow, GROUPED, CLUSTERS))
    rows = list(zip(CLUSTERS, GROUPED, strict=True))
    assert StandardError(fast)(rows) == pytest.approx(StandardError(slow)(rows))
    assert math.isnan(StandardError(fast)([(1, ("a", 1.0))]))


def test_known_is_what_get_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pluralism_eval.cache._AT_ONCE", 3)
    store = Store(tmp_path / "s.sqlite", "t")
    store.put({str(i): {"i": i} for i in range(10)})
    wanted = [str(i) for i in range(5, 15)]
    assert store.known(wanted) == set(store.get(wanted)) == {"5", "6", "7", "8", "9"}
    assert store.known([]) == set()


def answer(text: str) -> Answer:
    message = Message("a", text, 3, True)
    return Answer(logprobs=(-0.1, -2.0), messages=(message,), sent=(Sent("respond", text),))


def query(i: int, **more: Any) -> Query:
    return Query(f"t/{i}", "t", i, str(i), "", "distributional", "letters", f"q{i}", **more)


def test_answers_come_back_as_they_were_kept(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite", "f")
    queries = [query(0), query(1), query(2, generation={"do_sample": True})]
    cache.save(queries, {q.key: answer(q.text) for q in queries})
    assert cache.known([*queries, query(3)]) == {"t/0", "t/1"}
    assert cache.load(queries) == {"t/0": answer("q0"), "t/1": answer("q1")}


def test_rates_read_one_line_at_a_time_and_repeated_ones_once(tmp_path: Path) -> None:
    transcript = Transcript("m", str(tmp_path / "t.jsonl"))
    for i in (1, 0, 1):
        transcript.write([(query(i), answer("\u2028 \x85" if i else ""))])
    entries = transcript.entries()
    assert iter(entries) is entries
    assert [entry["doc_id"] for entry in entries] == [1, 0]
    found = transcript.rates()["t"]
    assert (found["docs"], found["prompts"], found["empty_messages"]) == (2, 2, 0.5)
    line = json.loads(transcript.path.read_text(encoding="utf-8").split("\n")[0])
    assert line["sent"][0]["cuts"] == {}
    assert line["messages"][0]["community"] == "a"


def test_a_row_that_is_no_json_is_an_error() -> None:
    with pytest.raises(TypeError):
        stores.rows.as_text({"x": object()})
