"""Numbers that are none, docs that are odd, answers that say nothing: one clear error, or a counted, visible case."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from lm_eval import simple_evaluate

from pluralism_eval import readouts, scoring, uncertainty
from pluralism_eval.api.replies import Choice
from pluralism_eval.data.docs import build_docs, load_docs, oddities
from pluralism_eval.distribution import check_weights, likeliest, mean_read, modes, read
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.hf import HFLLM
from pluralism_eval.llm.openai_scores import from_top
from pluralism_eval.metrics import bounds, classification, options, statistics
from pluralism_eval.metrics.metric import tie_break
from pluralism_eval.metrics.summary import StandardError, interval
from pluralism_eval.presets import get_preset
from pluralism_eval.schema import OptionScores
from pluralism_eval.settings import parse, read_weights
from pluralism_eval.utilisation import Shape
from tests.conftest import ScriptedLM

NAN, INF = float("nan"), float("inf")
N = 40
GLOBAL: dict[str, Any] = {
    "question": "Question: {}?\nOptions: A. Yes B. No C. Both\nAnswer:", "options": ["Yes", "No", "Both"],
    "attribute": "Japan", "gold_distribution": [0.6, 0.3, 0.1],
}  # fmt: skip
TASK = "pluralism_distributional_globalopinionqa"


def items(n: int = N, **changes: Any) -> list[dict[str, Any]]:
    base = {**GLOBAL, **changes}
    return [{**deepcopy(base), "id": i, "question": base["question"].format(i)} for i in range(n)]


@pytest.fixture
def run(
    scripted: type[ScriptedLM], monkeypatch: pytest.MonkeyPatch, task_manager: Any, tmp_path: Path
) -> Callable[..., tuple[dict[str, float], dict[str, float]]]:
    """Runs vanilla on :func:`items` with a model whose numbers or words are given → (scores, rates)."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # a second a run

    def go(
        number: Callable[[int, str], float] | None = None,
        word: Any = "",
        data: list[dict[str, Any]] | None = None,
        **settings: Any,
    ) -> tuple[dict[str, float], dict[str, float]]:
        (tmp_path / "distributional_test_globalopinionqa.json").write_text(
            json.dumps(data or items())
        )

        def loglikelihood(self: Any, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
            assert number is not None
            asked = [re.search(r"Question: (\d+)\?\n", r.args[0]) for r in requests]
            return [
                (number(int(m[1]), r.args[1].strip()) if m else -1.0, False)  # else: the probe
                for m, r in zip(asked, requests, strict=True)
            ]

        monkeypatch.setattr(ScriptedLM, "loglikelihood", loglikelihood)
        monkeypatch.setattr(ScriptedLM, "reply", staticmethod(lambda prompt: word))
        found = simple_evaluate(
            model="vanilla",
            model_args={"llm": "scripted", "transcript": str(tmp_path / "t.jsonl"), **settings},
            tasks=[TASK],
            task_manager=task_manager(
                data=str(tmp_path), **{k: v for k, v in settings.items() if k == "orders"}
            ),
            bootstrap_iters=0,
        )
        assert found is not None
        scores = {k.removesuffix(",none"): v for k, v in found["results"][TASK].items()}
        return scores, found["config"]["pluralism"]["rates"][TASK]

    return go


# ---------------------------------------------------------------------- what a model may answer


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("NaN for one letter of one doc", lambda i, letter: NAN if (i, letter) == (3, "B") else -2.0),
        ("NaN for all letters of one doc", lambda i, letter: NAN if i == 3 else -2.0),
        ("NaN everywhere", lambda i, letter: NAN),
        ("infinite", lambda i, letter: INF if (i, letter) == (3, "B") else -2.0),
        ("above 0", lambda i, letter: 1.5 if (i, letter) == (3, "B") else -2.0),
        ("probabilities for log-probabilities", lambda i, letter: 0.3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("readout", ["options", "harness"])
def test_numbers_that_are_no_log_probabilities_are_one_error(
    name: str, number: Any, readout: str, run: Any
) -> None:
    with pytest.raises(PluralismError, match=r"scripted.*no log-probabilities for \d+ of \d+") as e:
        run(number, readout=readout)
    assert f" of {N} prompts" in str(e.value) if readout == "options" else True


@pytest.mark.parametrize("least", [-INF, -9999.0, -800.0])
def test_no_mass_at_all_is_the_uniform_answer_counted_and_never_right(
    least: float, run: Any
) -> None:
    scores, rates = run(lambda i, letter: least)
    assert (scores["unparsed"], scores["option_mass"]) == (1, 0)
    assert scores["match"] == scores["mode_match"] == 0
    assert scores["jsd"] == pytest.approx(scores["jsd_uniform"])
    assert rates["min_option_mass"] == 0
    assert "tied_answers" not in rates, "what was not read ties with nothing"


def test_one_doc_without_mass_is_counted_among_the_others(run: Any) -> None:
    scores, rates = run(lambda i, letter: -INF if i == 7 else -1.0 if letter == "A" else -9.0)
    assert scores["unparsed"] == 1 / N
    assert scores["match"] == scores["mode_match"] == 1 - 1 / N
    assert rates["min_option_mass"] == 0


def test_an_option_without_mass_has_none(run: Any) -> None:
    scores, _ = run(lambda i, letter: -INF if letter == "C" else -2.0)
    assert scores["unparsed"] == 0
    assert scores["option_mass"] == pytest.approx(4 * math.exp(-2))


def test_equal_scores_are_drawn_by_the_doc_and_counted_instead_of_being_option_a(run: Any) -> None:
    scores, rates = run(lambda i, letter: -2.0)
    assert rates["tied_answers"] == 1
    assert scores["jsd"] == pytest.approx(scores["jsd_uniform"])
    assert 0.1 < scores["match"] < 0.6, "people say A on every doc: the first of equals would be 1"
    assert run(lambda i, letter: -2.0)[0]["match"] == scores["match"], "the same in every run"


def test_the_reference_takes_the_first_of_equals_as_the_authors_do() -> None:
    docs = build_docs("globalopinionqa", items(), {"input": "x", "preset": "reference"}, "x")
    assert {tie_break(doc) for doc in docs} == {0}
    paper = build_docs("globalopinionqa", items(), {"input": "x", "preset": "paper"}, "x")
    assert len({tie_break(doc) % 3 for doc in paper}) == 3
    switched = [
        {**doc, "pluralism": {**doc["pluralism"], "preset": "paper+ties=first"}} for doc in paper
    ]
    assert {tie_break(doc) for doc in switched} == {0}


def test_a_tie_of_stances_is_drawn_as_well() -> None:
    vk = [
        {"id": i, "situation": f"S{i}", "vrd": "Care", "label": "A", "input": "Q"} for i in range(N)
    ]
    docs = build_docs("vk", vk, {"input": "x", "preset": "paper"}, "x")
    said = [classification.vk(doc, [(-1.0, False)] * 3)["acc"][1] for doc in docs]
    assert set(said) == {0, 1, 2}
    nothing = [classification.vk(doc, [(-INF, False)] * 3) for doc in docs]
    assert {s["acc"][1] for s in nothing} == {classification.UNPARSED}
    assert {s["unparsed"] for s in nothing} == {1.0}


@pytest.mark.parametrize(
    ("values", "equal"),
    [([0.5, 0.5], [0, 1]), ([0.2, 0.4, 0.4], [1, 2]), ([0.1 + 0.2, 0.3, 0.4], [2]),
     ([0.1 + 0.2, 0.3], [0, 1]), ([1.0], [0]), ([0.5, 0.5 - 1e-9], [0])],
)  # fmt: skip
def test_what_ties(values: list[float], equal: list[int]) -> None:
    assert modes(values) == equal
    assert {likeliest(values, draw) for draw in range(12)} == set(equal)
    assert likeliest(values) == equal[0]


def test_masses_above_one_are_counted(run: Any) -> None:
    scores, rates = run(lambda i, letter: -0.8)  # each possible, all three together are not
    assert rates["masses_above_1"] == 1
    assert scores["option_mass"] > 1
    assert run(lambda i, letter: -3.0)[1]["masses_above_1"] == 0


def test_rounding_above_zero_is_rounded_down() -> None:
    class LLM:
        name = "m"

        def option_logprobs(self, *_: Any) -> list[OptionScores]:
            return [OptionScores((0.004, -5.0), 0)]

    query = SimpleNamespace(readout="letters", options=("A", "B"))
    (found,) = readouts.option_scores(LLM(), [query], ["p"], get_preset("paper"), 1)  # type: ignore[arg-type, list-item]
    assert found.logprobs == (0.0, -5.0)


@pytest.mark.parametrize("word", [None, "", "  \n", "Zebra", "A or B", "\ud800"])
@pytest.mark.parametrize("readout", ["generated", "sampled", "verbalised"])
def test_words_that_say_nothing_are_counted_as_unread(word: Any, readout: str, run: Any) -> None:
    scores, rates = run(word=word, readout=readout, readout_samples=2, data=items(3))
    assert rates["unread_replies"] == 1
    assert scores["unparsed"] == 1
    assert scores["match"] == 0
    assert scores["jsd"] == pytest.approx(scores["jsd_uniform"])


class Few:
    """An lm-eval model that loses an answer."""

    def generate_until(self, requests: list[Any]) -> list[str]:
        return ["a"] * (len(requests) - 1)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        return [(-1.0, False)] * (len(requests) - 1)


def test_lost_answers_are_an_error() -> None:
    llm = HarnessLLM(Few(), "few")
    with pytest.raises(PluralismError, match="few gave 1 answers to 2 requests"):
        llm.generate(["p", "q"], {})
    with pytest.raises(PluralismError, match="few gave 1 answers to 2 requests"):
        llm.continuation_logprobs(["p"], [["a", "b"]])


# ---------------------------------------------------------------------- logits of a model in process


class Tokenizer(list[str]):
    all_special_ids: ClassVar = [4]
    pad_token_id = 4

    def batch_decode(self, ids: list[list[int]]) -> list[str]:
        return [self[i] for (i,) in ids]

    def decode(self, token: int) -> str:
        return self[token]

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(text), 3] for text in texts]}


class Logits:
    """What :class:`HFLLM` needs of an ``HFLM``: five tokens, given logits for every prompt."""

    device = "cpu"
    prefix_token_id, add_bos_token = 4, None

    def __init__(self, rows: list[list[float]]) -> None:
        texts = ["A", " A", "B", "x", "</s>"]
        self.rows = rows
        self.tokenizer = Tokenizer(texts)

        self.model = self
        self._pluralism_shape = Shape(1, 1, 1, 1, 4, ("cpu", "float32"))

    def __call__(self, input_ids: Any, **_: Any) -> Any:
        import torch

        return SimpleNamespace(
            logits=torch.tensor([[self.rows[int(row[-2])]] for row in input_ids])
        )

    def get_output_embeddings(self) -> None:
        return None

    def modules(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("bad", "rows"),
    [
        (1, [[NAN, 0, 0, 0, 0], [0.0] * 5]),
        (1, [[0.0] * 5, [0, INF, 0, 0, 0]]),
        (2, [[NAN] * 5, [-INF] * 5]),
    ],
)
def test_logits_that_are_none_are_an_error_that_counts_the_prompts(
    bad: int, rows: list[list[float]]
) -> None:
    llm = HFLLM(Logits(rows), "broken")
    with pytest.raises(PluralismError, match=f"broken returned NaN or infinite.* {bad} of 2"):
        llm.option_logprobs(["0", "1"], [["A", "B"]] * 2)


def test_logits_of_minus_infinity_are_no_probability_and_equal_ones_tie() -> None:
    llm = HFLLM(Logits([[0, 0, -INF, 0, 0], [-INF, -INF, -INF, 0, 0], [0.0] * 5]), "m")
    masked, nothing, equal = llm.option_logprobs(["0", "1", "2"], [["A", "B"]] * 3)
    assert read(masked.logprobs) == ([1.0, 0.0], pytest.approx(0.5))
    assert read(nothing.logprobs) == ([0.5, 0.5], 0.0)
    assert read(equal.logprobs)[0] == pytest.approx([2 / 3, 1 / 3])


def test_the_authors_rule_without_a_letter_is_counted_and_equal() -> None:
    llm = HFLLM(Logits([[-50, -50, -50, 0, 0]]), "m")
    (found,) = llm.option_logprobs(["0"], [["A", "B"]], top_tokens=2)
    assert found.uniform_fallback
    assert read(found.logprobs)[0] == [0.5, 0.5]


# ---------------------------------------------------------------------- many options, one option

LETTERS = [chr(65 + i) for i in range(26)]


@pytest.mark.parametrize("n", [27, 100])
def test_options_beyond_the_letters_are_an_error(n: int) -> None:
    many = items(1, options=[f"option {i}" for i in range(n)], gold_distribution=[1 / n] * n)
    with pytest.raises(PluralismError, match=f"{n} options; at most 26 have letters"):
        build_docs("globalopinionqa", many, {"input": "x", "preset": "paper"}, "x")


def test_twenty_six_options_are_asked_and_scored(run: Any) -> None:
    listed = " ".join(f"{letter}. option {letter}" for letter in LETTERS)
    many = items(
        3, options=[f"option {letter}" for letter in LETTERS], gold_distribution=[1 / 26] * 26,
        question="Question: {}?\nOptions: " + listed + "\nAnswer:",
    )  # fmt: skip
    scores, rates = run(lambda i, letter: -1.0 if letter == "Z" else -99.0, data=many, orders=2)
    assert scores["entropy"] < math.log(26) / 2
    assert scores["jsd"] == pytest.approx(scores["jsd_majority"], abs=0.2)
    assert rates["docs_without_other_orders"] == 0


def test_a_server_that_shows_twenty_of_twenty_six_options_says_what_it_hides() -> None:
    first = tuple((letter, math.log(0.04)) for letter in LETTERS[:20])
    found = from_top(Choice("", "stop", first=first), LETTERS, None)
    assert found.unseen == pytest.approx(0.2)
    least = uncertainty.lower(found)
    assert sum(least) == pytest.approx(0.8)
    low, high = bounds.distance_bounds(least, [0.0] * 25 + [1.0])
    assert low < high


def test_one_hundred_continuations_of_a_foreign_task_are_one_hundred_numbers() -> None:
    llm = HarnessLLM(ScriptedLM(), "scripted")
    (found,) = llm.continuation_logprobs(["p"], [[f" {i}" for i in range(100)]])
    assert len(found.logprobs) == 100


def test_one_option_is_certain_and_counted(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    one = items(3, options=["Yes"], gold_distribution=[1])
    scores, _ = run(lambda i, letter: -5.0, data=one)
    assert (scores["jsd"], scores["match"]) == (0, 1)
    assert "'one_option': 3" in caplog.text


# ---------------------------------------------------------------------- what data may hold


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("gold_distribution", [0.5, 0.1, 0.1], "sums to 0.7"), ("gold_distribution", [NAN, 0.5, 0.5], "holds nan"),
        ("gold_distribution", [-0.5, 1, 0.5], "holds -0.5"), ("gold_distribution", [0.5, 0.5], "3 options and 2 gold"),
        ("gold_distribution", [], "not a list"), ("gold_distribution", None, "not a list"), ("gold_distribution", [INF, 0, 0], "holds inf"),
        ("gold_distribution", [10**400, 0, 0], "probabilities are 0 to 1"), ("gold_distribution", [True, 0, 0], "holds True"),
        ("question", "", "must be text"), ("question", " \n", "must be text"), ("question", None, "must be text"),
        ("options", [], "no options"), ("options", ["Yes", " ", "No"], "must be text"), ("id", None, "id None"), ("id", "", "id ''"),
        ("id", 1.5, "id 1.5"), ("id", NAN, "id nan"), ("id", ["1"], "id"), ("id", True, "id True"), ("attribute", "", "must be text"),
        ("respondents", -1, "respondents"), ("respondents", NAN, "respondents"), ("respondents", 10**30, "respondents"),
    ],
)  # fmt: skip
def test_damaged_items_are_one_error_that_names_them(
    field: str, value: Any, words: str, tmp_path: Path
) -> None:
    bad = items(4)
    bad[2][field] = value
    (tmp_path / "distributional_test_globalopinionqa.json").write_text(json.dumps(bad))
    with pytest.raises(PluralismError, match="1 problem") as e:
        load_docs("globalopinionqa", data=str(tmp_path))
    assert "item 2" in str(e.value)
    assert words in str(e.value)
    del bad[2][field]
    if field != "respondents":
        with pytest.raises(PluralismError, match=f"item 2 .*field '{field}' is missing"):
            build_docs("globalopinionqa", bad, {"input": "x", "preset": "paper"}, "x")


@pytest.mark.parametrize("content", ["[]", "{}", "null", "", "[", "1"])
def test_a_file_without_docs_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "distributional_test_globalopinionqa.json").write_text(content)
    with pytest.raises(PluralismError, match=r"at least one item|cannot be read as JSON"):
        load_docs("globalopinionqa", data=str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "n", "change"),
    [
        ("repeated_ids", 1, lambda d: d[1].update(id=d[0]["id"])),
        ("repeated_docs", 1, lambda d: d[1].update(question=d[0]["question"])),
        ("equal_options", 4, lambda d: [i.update(options=["Yes", "Yes", "No"]) for i in d]),
        ("one_option", 1, lambda d: d[0].update(options=["Yes"], gold_distribution=[1.0])),
        ("tied_golds", 4, lambda d: [i.update(gold_distribution=[0.4, 0.4, 0.2]) for i in d]),
        ("rescaled_golds", 2, lambda d: [i.update(gold_distribution=[0.6, 0.3, 0.15]) for i in d[:2]]),
    ],
)  # fmt: skip
def test_odd_docs_are_counted_and_said(
    kind: str, n: int, change: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = items(4)
    change(odd)
    (tmp_path / "distributional_test_globalopinionqa.json").write_text(json.dumps(odd))
    docs = load_docs("globalopinionqa", data=str(tmp_path))["test"]
    assert len(docs) == 4
    assert oddities(odd, list(docs)) == {kind: n}
    assert f"'{kind}': {n}" in caplog.text
    caplog.clear()
    (tmp_path / "distributional_test_globalopinionqa.json").write_text(json.dumps(items(4)))
    load_docs("globalopinionqa", data=str(tmp_path))
    assert not caplog.text


@pytest.mark.parametrize(
    "weights", [[NAN, 1.0], [NAN, NAN], [INF, -INF], [INF, 0.0], [0.5, 0.6], [-0.5, 1.5], []]
)
def test_weights_that_are_none_are_an_error(weights: list[float]) -> None:
    with pytest.raises(PluralismError, match="sum to 1"):
        check_weights(weights)
    if weights:
        with pytest.raises(PluralismError, match="sum to"):
            read_weights(weights, ["a", "b"])
    if any(map(math.isnan, weights)):
        with pytest.raises(PluralismError, match="sum to 1"):
            mean_read([([1.0], 1.0)] * 2, weights)


@pytest.mark.parametrize("value", [NAN, INF, -1.0, "hot"])
def test_temperatures_that_are_none_are_an_error(value: Any) -> None:
    with pytest.raises(PluralismError, match="message_temperature"):
        parse("vanilla", {"message_temperature": value})


# ---------------------------------------------------------------------- what files of answers may hold


def scored(rows: list[dict[str, Any]], folder: Path, **options_: Any) -> scoring.Scored:
    path = folder / "answers.json"
    path.write_text(json.dumps(rows))
    return scoring.score_file(path, "globalopinionqa", **options_)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"pred_distribution": [NAN, 0.5, 0.5]}, "holds nan"), ({"pred_distribution": [INF, 0, 0]}, "holds inf"),
        ({"pred_distribution": [0, 0, 0]}, "sums to 0"), ({"pred_distribution": [10**400, 0, 0]}, "probabilities are 0 to 1"),
        ({"logprobs": [NAN, -1, -1]}, "must be 0 or less"), ({"logprobs": [0.5, -1, -1]}, "must be 0 or less"),
        ({"logprobs": [INF, -1, -1]}, "must be 0 or less"), ({"logprobs": [-1, -1]}, "2 log-probabilities for 3 options"),
        ({"logprobs": [-1, None, -1]}, ""), ({"logprobs": [-1, -1, -1], "inexact": [[NAN, 0]] * 3}, "no \\(least"),
        ({"logprobs": [-1, -1, -1], "inexact": [[0.1, NAN]] * 3}, "no \\(least"), ({"logprobs": [-1, -1, -1], "inexact": [[0.1, 0]]}, ""),
        ({"logprobs": [-1, -1, -1], "others": [0.5, 0.5]}, "others"), ({"logprobs": [-1, -1, -1], "others": "abc"}, "others"),
        ({"logprobs": [-1, -1, -1], "others": [NAN] * 3}, "others"), ({}, "pred_distribution"),
    ],
)  # fmt: skip
def test_answers_that_are_no_numbers_are_an_error_or_counted_failures(
    answer: dict[str, Any], words: str, tmp_path: Path
) -> None:
    rows = [{**item, "pred_distribution": [0.6, 0.3, 0.1]} for item in items(3)]
    del rows[1]["pred_distribution"]
    rows[1] |= answer
    with pytest.raises(
        PluralismError, match=f"1 of 3 answers cannot be scored[^$]*item 1.*{words}"
    ):
        scored(rows, tmp_path)
    found = scored(rows, tmp_path, count_failures=True)
    assert sum(found.failures.values()) == 1
    assert [sample["unparsed"] for sample in found.samples] == [0, 1, 0]
    assert all(math.isfinite(sample["jsd"]) for sample in found.samples)


def test_answers_of_no_mass_and_of_equal_mass_are_visible(tmp_path: Path) -> None:
    rows = [{**item, "logprobs": [-INF] * 3} for item in items(2)]
    rows += [{**item, "id": 10 + item["id"], "pred_distribution": [0.4, 0.4, 0.2]} for item in items(3)]  # fmt: skip
    found = scored(rows, tmp_path)
    assert sum(sample["unparsed"] for sample in found.samples) == 2
    assert found.oddities == {"tied_answers": 3, "repeated_docs": 2}


# ---------------------------------------------------------------------- uncertainty of nothing and of one


def test_one_doc_has_a_score_and_no_interval() -> None:
    docs = build_docs("globalopinionqa", items(1), {"input": "x", "preset": "paper"}, "x")
    sample = {"doc": docs[0], **options.globalopinionqa(docs[0], [(-1.0, False), (-2.0, False), (-3.0, False)])}  # fmt: skip
    for summary in scoring.summarise("globalopinionqa", [sample]):
        assert math.isnan(summary.low), summary.name
        assert math.isnan(summary.high)
        assert math.isnan(summary.stderr)
    assert not math.isnan(sample["jsd"])


@pytest.mark.parametrize("task", ["globalopinionqa", "opinionqa", "moralchoice", "vk", "overton"])
def test_no_docs_have_no_scores(task: str) -> None:
    for summary in scoring.summarise(task, []):
        assert math.isnan(summary.value), summary.name
        assert summary.n == 0


def test_intervals_of_fewer_than_two_clusters_are_none() -> None:
    for n, clusters in ((0, []), (1, ["a"]), (3, ["a", "a", "a"])):
        values = [1.0] * n
        assert all(map(math.isnan, statistics.mean_interval(values, clusters)))
        assert all(map(math.isnan, statistics.bootstrap_interval(values, np.mean, clusters)))
        assert math.isnan(statistics.standard_error(values, clusters))
        metric = next(m for m in classification.METRICS if m.name == "acc")
        pairs = [(0, 0)] * n
        assert all(map(math.isnan, interval(metric.summary, pairs, clusters)))
        assert math.isnan(StandardError(metric.summary)(list(zip(clusters, pairs, strict=True))))


@pytest.mark.parametrize(
    ("first", "second", "clusters", "words"),
    [
        ([NAN, 1.0], [0.0, 1.0], None, "1 of 2 pairs"), ([0.0, 1.0], [INF, NAN], None, "2 of 2 pairs"),
        ([], [], None, "0 and 0 docs"), ([1.0], [0.0, 1.0], None, "1 and 2 docs"), ([0.0, 1.0], [1.0, 1.0], ["a"], "1 clusters for 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_an_error(
    first: list[float], second: list[float], clusters: Any, words: str
) -> None:
    with pytest.raises(PluralismError, match=words):
        statistics.compare(first, second, clusters)


def test_one_doc_is_compared_without_claiming_anything() -> None:
    found = statistics.compare([0.3], [0.1])
    assert found.p_value == 1
    assert math.isnan(found.low)
    assert found.effect == 0
