"""Edges of metrics that no run of the paper's tasks reaches, and the embedded scorer on a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pluralism_eval import utilisation
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import embedded
from pluralism_eval.metrics import (
    classification,
    entailment,
    exchanges,
    influence,
    judge,
    judge_task,
    mixtures,
    nli_embedded,
    selections,
    shapley,
    statistics,
)
from pluralism_eval.metrics.entailment import read_pairs
from pluralism_eval.metrics.metric import groups, means
from pluralism_eval.metrics.responses import Responses, key_of, read_responses
from pluralism_eval.metrics.summary import Mean, MeanOf, Of, StandardError, interval, macro
from pluralism_eval.results import Run
from pluralism_eval.usage import Usage
from tests.golden.test_metrics import GLOBAL, NAMES, line, mixed_run, selecting_run, talking_run

# ---------------------------------------------------------------------- the embedded scorer


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Over a Llama of random weights in the embedded model's place: what is computed, not how well."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    texts = [text for pair, _ in read_pairs("nli_calibration.jsonl") for text in pair]
    words = sorted({w for t in [*texts, "In other words, It is not true that a b c"] for w in t.replace(",", " ,").split()})  # fmt: skip
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(["<unk>", *words])}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    folder = tmp_path / "tiny"
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words) + 1, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, initializer_range=1.0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    monkeypatch.setattr(embedded, "locate", lambda: str(folder))
    monkeypatch.setattr(nli_embedded, "cache_root", lambda: tmp_path / "cache")
    return nli_embedded.EmbeddedScorer


PAIRS = [("a b c a", "b c"), ("c", "a"), ("a b", "b c"), ("b", "c a b a")]


def by_hand(scorer: Any, head: str, tail: str) -> float:
    """Mean log-probability of ``tail`` after ``head``: one row, no padding."""
    before, after = (scorer._tokenizer(text)["input_ids"] for text in (head, " " + tail))
    with torch.inference_mode():
        logits = scorer._model(torch.tensor([[*before, *after]])).logits[0].float()
    logprobs = logits.log_softmax(-1)[len(before) - 1 : -1]
    return float(logprobs[range(len(after)), after].mean())


def test_the_readings_of_a_pair_are_likelihoods_by_hand(scorer: Any) -> None:
    own = scorer()
    found = own.readings(PAIRS)
    for row, (premise, hypothesis) in zip(found, PAIRS, strict=True):
        affirmed = by_hand(own, f"{premise} In other words,", hypothesis)
        denied = by_hand(own, f"{premise} It is not true that", hypothesis)
        alone = by_hand(own, "In other words,", hypothesis)
        expected = [affirmed, alone, affirmed - denied, affirmed - alone]
        assert row == pytest.approx(expected, abs=1e-4)
    assert own.truncated(PAIRS) == 0
    assert own.lot == 64


def test_calibration_is_done_once_and_depends_on_the_model_and_its_wording(
    scorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scorer()
    assert first.identity.startswith("embedded-nli:tiny:")
    assert len(first.identity) == len("embedded-nli:tiny:") + 16
    probabilities = first.probabilities(PAIRS)
    assert probabilities.shape == (4, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    calibration = read_pairs("nli_calibration.jsonl")
    readings = first.readings([pair for pair, _ in calibration])
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(readings)
    fit = LogisticRegression(C=0.1, max_iter=1000).fit(scale.transform(readings), [label for _, label in calibration])  # fmt: skip
    expected = fit.predict_proba(scale.transform(first.readings(PAIRS)))
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "_likelihood", lambda *_: pytest.fail("read again"))
        again = scorer()
    assert again.identity == first.identity
    np.testing.assert_allclose(again.probabilities(PAIRS), probabilities, atol=1e-5)
    assert len(again._calibration([])) == 66
    monkeypatch.setattr(scorer, "_ALONE", "Say:")
    assert scorer().identity != first.identity


def test_equal_hypotheses_are_read_alone_once(scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = scorer()
    seen: list[list[str]] = []
    real = own._trees
    monkeypatch.setattr(
        own, "_trees", lambda heads, tails: seen.append(list(tails)) or real(heads, tails)
    )
    own.prepare([*PAIRS, ("x", "a")])
    assert seen == [["b c", "a", "c a b a"]]
    own.prepare(PAIRS)
    assert len(seen) == 1


@pytest.mark.parametrize("longest", [1, 20, 10_000])
def test_a_premise_is_computed_once_for_its_hypotheses(
    scorer: Any, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    """Rows of any length give what pairs give one by one, and count what was saved."""
    own = scorer()
    pairs = [(p, h) for p in ("a b c a b c b", "c a", "b") for h in ("a", "b c", "c a b a", "b b")]
    alone = np.array([own.readings([pair])[0] for pair in pairs])
    monkeypatch.setattr(nli_embedded, "_LONGEST", longest)
    monkeypatch.setattr(nli_embedded, "tokens_of_a_pass", lambda device: 2 * longest)
    before = utilisation.snapshot()
    np.testing.assert_allclose(own.readings(pairs), alone, atol=1e-4)
    (work,) = utilisation.since(before).values()
    tokens = own._tokenizer
    whole = sum(
        len(tokens(head.format(premise=p) + " " + h)["input_ids"])
        for p, h in pairs
        for head in (own._AFFIRMED, own._DENIED)
    )
    assert work.prefilled + work.reused == whole
    assert (work.reused > whole / 3) == (longest == 10_000)


# ---------------------------------------------------------------------- summaries


def test_summaries_say_what_they_are() -> None:
    assert [repr(s) for s in (Mean(), Mean("x"), Of(macro), MeanOf(sorted), StandardError(Mean()))] == [
        "mean", "mean of x", "macro", "mean sorted", "standard error of the mean",
    ]  # fmt: skip
    (one,) = means("x")
    assert (one.name, one.higher_is_better, one.baseline) == ("x", False, False)
    (grouped,) = groups("p", {"n": "N"})
    assert (grouped.name, grouped.higher_is_better) == ("p_n", False)
    assert grouped.summary([("N", 1.0), ("M", 5.0)]) == 1.0


def test_a_mean_of_a_group_knows_its_docs() -> None:
    items = [("a", 1.0), ("b", 2.0), ("a", math.nan), ("a", 4.0)]
    assert Mean("a").numbers(items) == [(0, 1.0), (3, 4.0)]
    assert Mean("a")(items) == 2.5
    assert math.isnan(Mean("z")(items))
    assert MeanOf(lambda rows: [float(r) for r in rows]).numbers([3, 4]) == [(0, 3.0), (1, 4.0)]
    assert math.isnan(MeanOf(lambda rows: [])([]))
    assert Of(max).numbers([1]) is None
    assert macro([("a", 1.0), ("a", 3.0), ("b", 4.0)]) == 3.0
    assert math.isnan(macro([]))


def test_errors_of_scores_that_are_no_mean_resample_whole_clusters() -> None:
    items = [(cluster, value) for cluster, value in zip("aabbccdd", [0, 0, 1, 1, 0, 0, 1, 1], strict=True)]  # fmt: skip
    share = Of(lambda values: sum(values) / len(values))
    error = StandardError(share)(items)
    assert error == pytest.approx(math.sqrt(0.25 / 4), rel=0.25), "four clusters, not eight docs"
    low, high = interval(share, [v for _, v in items], [c for c, _ in items])
    assert (low, high) == (0.0, 1.0)
    assert StandardError(share)(items) == error, "seeded"


# ---------------------------------------------------------------------- constants and rules


def test_constant_answers() -> None:
    assert classification._first_label([2, 2]) == 0
    assert classification._majority_label([2, 1, 2]) == 2
    assert classification._majority_label([]) == 0
    ruled = [(0, 0, "reference"), (1, 3, "reference"), (2, 2, "reference"), (1, 2, "reference")]
    assert classification.macro_f1_by_rule(ruled) == pytest.approx((1 + 0 + 2 / 3 + 0) / 4)
    assert classification.macro_f1_binary(ruled) == pytest.approx((1 + 0 + 0) / 3)
    paper = [(g, p, "paper") for g, p, _ in ruled]
    assert classification.macro_f1_by_rule(paper) == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert classification.macro_f1_binary(paper) == pytest.approx((1 + 0) / 2)
    assert classification.binary_pairs(ruled) == [(0, 0), (1, 3)]
    assert classification.binary_pairs(paper) == [(0, 0), (1, 3), (1, 2)]


def test_one_cluster_claims_nothing_however_many_docs_it_has() -> None:
    found = statistics.compare([0.1, 0.9, 0.5], [0.0, 0.2, 0.1], ["a"] * 3)
    assert (found.p_value, found.n_docs, found.n_clusters) == (1.0, 3, 1)
    assert found.effect == pytest.approx(0.4 / np.std([0.1, 0.7, 0.4], ddof=1))


# ---------------------------------------------------------------------- damaged and foreign runs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.update(mode="overton"), "messages are not those of a, b, c"), (lambda e: e["messages"].pop(), "messages are not those"),
        (lambda e: e["sent"].pop(), "does not hold 3 readings of 2 options"), (lambda e: e["sent"][0]["scores"]["logprobs"].append(-1), "3 readings of 2"),
        (lambda e: e["sent"][1].update(scores=None), "3 readings of 2"), (lambda e: e["sent"][0]["scores"].update(logprobs=[math.nan, -1]), "0 or less"),
        (lambda e: e["sent"][0]["scores"].update(logprobs=[0.5, -1]), "0 or less"), (lambda e: e["sent"][0]["scores"].update(logprobs=["x", -1]), "ValueError"),
        (lambda e: e.pop("sent"), "KeyError 'sent'"), (lambda e: e.update(readings=[{"order": [0, 5]}]), "IndexError"), (lambda e: e.update(options=3), "TypeError"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(change: Any, words: str) -> None:
    entry = line(0, GLOBAL)
    change(entry)
    with pytest.raises(PluralismError, match=f"{GLOBAL} doc 0: .*{words}.*run again"):
        mixtures.mixtures([entry], NAMES, [0.5, 0.3, 0.2])


def test_a_transcript_of_another_run_is_refused() -> None:
    run = mixed_run(GLOBAL)
    run.samples[GLOBAL][2]["jsd"] += 1e-5
    with pytest.raises(
        PluralismError, match=r"on 1 of 4 docs \(doc 2: off by 1e-05, allowed 1e-06"
    ):
        influence.distributional(run, GLOBAL, NAMES)
    run.samples[GLOBAL][2]["jsd"] -= 1e-5
    run.transcript[1]["distribution"][0] = math.nan
    with pytest.raises(PluralismError, match=r"on 1 of 4 docs \(doc 1"):
        influence.distributional(run, GLOBAL, NAMES)
    del run.samples[GLOBAL][0]
    with pytest.raises(PluralismError, match="3 samples and 4 transcript lines, of other docs"):
        influence.distributional(run, GLOBAL, NAMES)
    empty = exchanges.Entailed(("a",), (False,), np.zeros((1, 0), dtype=bool), 0, 0)
    with pytest.raises(PluralismError, match="all 1 responses are empty"):
        influence.overton("t", [empty], ["s"], NAMES)


def test_skipped_docs_have_no_mixture_and_are_the_uniform_answer() -> None:
    entry = {**line(0, GLOBAL), "skipped": "too long", "sent": [], "messages": []}
    mixed = mixtures.mixtures([line(1, GLOBAL), entry], NAMES, [0.5, 0.3, 0.2])
    answers = mixed.answers(np.ones((1, 3), dtype=bool))[0]
    assert answers[1].tolist() == [0.5, 0.5]
    assert mixed.read[:, 1].sum() == 0


def test_selections_need_their_own_transcript() -> None:
    task = "pluralism_steerable_vk"
    for change, words in (
        (lambda e: e.update(selections=[]), "doc 3 has no selection of one of a, b, c"),
        (lambda e: e["selections"][0].update(community="z"), "doc 3 has no selection"),
        (lambda e: e.update(mode="overton"), "doc 3 has no selection"),
    ):
        run = selecting_run(task)
        change(run.transcript[3])
        with pytest.raises(PluralismError, match=words):
            selections.selections(run, task, NAMES)
    run = selecting_run(task)
    run.transcript[3]["skipped"] = "too long"
    assert selections.selections(run, task, NAMES).total.selections == 9


def test_exchanges_need_a_run_with_messages_of_its_pool() -> None:
    run = talking_run()
    run.transcript[0]["messages"][0]["community"] = "stranger"
    with pytest.raises(PluralismError, match="has messages of stranger, the run's pool is a, b, c"):
        exchanges.exchanges(run)
    vanilla = Run("vanilla", Path("r"), {"pluralism": {"method": "vanilla"}}, {}, {}, [])
    with pytest.raises(PluralismError, match="Allowed: runs of modular_pluralism, moe"):
        exchanges.exchanges(vanilla)
    with pytest.raises(PluralismError, match="Allowed: runs of x"):
        exchanges.check_method(Run("other", Path("r"), {}, {}, {}, []), ("x",))


def test_the_scorer_of_a_run_is_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    run = talking_run()
    monkeypatch.delenv("PLURALISM_EVAL_NLI", raising=False)
    monkeypatch.setattr(exchanges, "scoring", lambda name, directions, _: {"nli": f"{name} {directions}"})  # fmt: skip
    run.samples[exchanges.TASK] = [{"doc": {"pluralism": {"nli": "vitaminc+embedded"}}}]  # type: ignore[index]
    own = "tals/albert-xlarge-vitaminc-mnli one"
    assert exchanges.chosen_scorer(run, None, None) == own
    assert exchanges.chosen_scorer(run, "embedded", None) == "embedded one"
    assert exchanges.chosen_scorer(run, None, "reference") == "microsoft/deberta-v2-xlarge-mnli one"
    assert exchanges.chosen_preset(run, None).name == "paper"
    assert exchanges.chosen_preset(run, "reference").splitter == "sentence_splitter"
    with pytest.raises(
        PluralismError, match=r"'a\+b' names 2 scorers, one is used; give one of a, b"
    ):
        exchanges.chosen_scorer(run, "a+b", None)


# ---------------------------------------------------------------------- the judged task's plan and docs


def plan(**metadata: Any) -> judge_task.Plan:
    return judge_task.read_plan({"judge": "embedded", "llm": "embedded", **metadata})


def test_a_plan_is_read_and_every_problem_of_it_is_named() -> None:
    found = plan(pairs="12", audits=0, data="sample", version=1, config_source="x", nli="embedded")
    assert (found.judge, found.baseline, found.pairs, found.pairs_seed, found.audits) == ("embedded", "vanilla", 12, 1234, 0)  # fmt: skip
    assert found.llm is not None
    assert found.llm.llm == "embedded"
    assert (plan().pairs, plan().audits) == (600, 100)
    assert plan(baseline="runs/x", nonsense=1).llm is None
    with pytest.raises(PluralismError, match="4 problem") as e:
        plan(pairs=0, pairs_seed=-1, audits=True, nonsense=1)
    for words in ("pairs=0 is wrong. Allowed: a whole number, 1 or more", "pairs_seed=-1 is wrong", "0 or more", "audits=True",
                  "baseline=vanilla needs the run's LLM", "nonsense"):  # fmt: skip
        assert words in str(e.value)
    with pytest.raises(PluralismError, match="pluralism_overton_judge: 1 problem"):
        plan(judge="no-such-model-anywhere", baseline="x")


def test_judged_docs_are_a_seeded_sample_that_the_baseline_has_answered(tmp_path: Path) -> None:
    given = {"judge": "embedded", "llm": "embedded", "data": "sample"}
    docs = judge_task.load_judge_docs(**given, pairs=5, audits=2)["test"]
    assert [doc["audited"] for doc in docs] == [True, True, False, False, False]
    more = judge_task.load_judge_docs(**given, pairs=9, audits=2)["test"]
    assert [d["id"] for d in more][:5] == [d["id"] for d in docs]
    other = judge_task.load_judge_docs(**given, pairs=5, pairs_seed=7)["test"]
    assert [d["id"] for d in other] != [d["id"] for d in docs]
    answered = [{"id": d["id"], "situation": d["situation"], "output": "Fine."} for d in docs]
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(answered))
    same = judge_task.load_judge_docs(**given, pairs=5, baseline=str(path))["test"]
    assert len(same) == 5
    path.write_text(json.dumps(answered[1:]))
    with pytest.raises(PluralismError, match=rf"no response to 1 of the 5 situations \(ids {docs[0]['id']}\)"):  # fmt: skip
        judge_task.load_judge_docs(**given, pairs=5, baseline=str(path))
    path.write_text(json.dumps(answered[:1]))
    with pytest.raises(PluralismError, match=r"no response to 25 of the 26 situations \(ids [^,]+(, [^,]+){9}, \.\.\.\)"):  # fmt: skip
        judge_task.load_judge_docs(**given, pairs=600, baseline=str(path))


def test_responses_by_id_and_situation(tmp_path: Path) -> None:
    assert key_of({"id": 3, "situation": "S", "x": 1}) == ("3", "S")
    path = tmp_path / "r.json"
    path.write_text(json.dumps([{"id": 1, "situation": "S", "output": "a"}, {"id": 1, "situation": "T", "output": ""}]))  # fmt: skip
    assert read_responses(path) == Responses("r", {("1", "S"): "a", ("1", "T"): ""})
    rows = [{"id": i, "situation": "S", "output": None} for i in range(12)] + [{"id": 1}, {"id": 99, "situation": "S", "output": "x"}] * 2  # fmt: skip
    path.write_text(json.dumps(rows))
    with pytest.raises(PluralismError, match=r"responses in .*r\.json") as e:
        read_responses(path)
    assert "item 0: output None is not text" in str(e.value)
    assert "and 5 more" in str(e.value)
    path.write_text(json.dumps(rows[13:]))
    with pytest.raises(PluralismError, match="item 2: id '99' occurs twice"):
        read_responses(path)
    logged = tmp_path / "samples_x.jsonl"
    logged.write_text('{"doc": {"id": 1, "situation": "S"}, "resps": [["a\u2028b"]]}\n')
    assert read_responses(logged).texts == {("1", "S"): "a\u2028b"}
    logged.write_text('{"doc": {"id": 1}, "resps": [["a"]]}\n{"doc": {"id": 1, "situation": "S"}, "resps": []}\n')  # fmt: skip
    with pytest.raises(
        PluralismError, match=r"no Overton sample of lm-eval \(KeyError[^$]*IndexError"
    ):
        read_responses(logged)
    for name, words in (("gone.json", "does not exist"), ("empty.jsonl", "has no responses")):
        if name.startswith("empty"):
            (tmp_path / name).write_text("")
        with pytest.raises(PluralismError, match=words):
            read_responses(tmp_path / name)
    logged.write_text("{")
    with pytest.raises(PluralismError, match="cannot be read as JSON lines"):
        read_responses(logged)


class Writing:
    """An LLM that writes its prompt in capitals."""

    name = identity = "shouting"

    def __init__(self) -> None:
        self.usage = Usage()
        self.asked: list[tuple[list[str], dict[str, Any]]] = []

    def render(self, turns: Any, add_generation_prompt: bool = True) -> str:
        return f"<{turns[-1]['content']}>"

    def generate(self, prompts: list[str], settings: Any) -> list[str]:
        self.asked.append((prompts, dict(settings)))
        return [prompt.upper() for prompt in prompts]


def instances(n: int, chat: bool = False, **settings: Any) -> list[Any]:
    from lm_eval.api.instance import Instance

    from pluralism_eval.requests import encode_chat

    found = []
    for i in range(n):
        doc = {"id": i, "situation": f"s{i}", "audited": i == 0}
        prompt = encode_chat([{"role": "user", "content": f"q{i}"}], True) if chat else f"q{i}"
        one = Instance("generate_until", doc, (prompt, {"until": ["."], **settings}), i)
        one.resps = [f"response {i}"]
        found.append(one)
    return found


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Writing:
    writing = Writing()
    monkeypatch.setattr(judge_task, "shared_llm", lambda settings: writing)
    monkeypatch.setattr(judge_task, "cache_root", lambda: tmp_path / "cache")
    return writing


def test_a_baseline_is_written_once_as_the_run_was(llm: Writing, caplog: Any) -> None:
    settings = plan().llm
    assert settings is not None
    name, texts = judge_task._vanilla(settings, instances(70, max_gen_toks=9))
    assert name == "vanilla of shouting"
    assert texts == [f"Q{i}" for i in range(70)]
    assert [len(prompts) for prompts, _ in llm.asked] == [64, 6]
    assert llm.asked[0][1] == {"until": ["."], "max_gen_toks": 9}
    assert "shouting writes 70 responses, 0 are known" in caplog.text
    again = judge_task._vanilla(settings, instances(72, max_gen_toks=9))[1]
    assert again == [f"Q{i}" for i in range(72)]
    assert llm.asked[2:] == [(["q70", "q71"], {"until": ["."], "max_gen_toks": 9})]
    judge_task._vanilla(settings, instances(1, max_gen_toks=8))
    assert llm.asked[3][0] == ["q0"], "another length is another response"
    for _ in range(2):
        judge_task._vanilla(settings, instances(1, do_sample=True, temperature=1.0))
    assert len(llm.asked) == 6, "samples are drawn anew"
    judge_task._vanilla(settings, instances(1, chat=True))
    assert llm.asked[6][0] == ["<q0>"]
    reference = plan(preset="reference").llm
    assert reference is not None
    judge_task._vanilla(reference, instances(1))
    assert llm.asked[7][1]["temperature"] == 0.1


def test_the_task_judges_all_its_docs_at_once(
    llm: Writing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judged: list[Any] = []

    def judge_pairs(judge: Any, pairs: Any) -> list[dict[str, Any]]:
        judged.append((judge, pairs))
        return [{"response": pair.response} for pair in pairs]

    monkeypatch.setattr(judge_task, "Judge", lambda name: name)
    monkeypatch.setattr(judge_task, "judge_pairs", judge_pairs)
    file = tmp_path / "base.json"
    file.write_text(json.dumps([{"id": i, "situation": f"s{i}", "output": f"base {i}"} for i in range(2)]))  # fmt: skip
    for baseline, name, texts in (
        (str(file), "base", ["base 0", "base 1"]),
        ("vanilla", "vanilla of shouting", ["Q0", "Q1"]),
    ):
        own = instances(2)
        metadata = {"judge": "embedded", "llm": "embedded", "baseline": baseline}
        task: Any = SimpleNamespace(config=SimpleNamespace(metadata=metadata), instances=own)
        judge_task.JudgeTask.apply_filters(task)
        assert judged.pop() == (
            "embedded",
            [
                judge.Pair("s0", "response 0", texts[0], True),
                judge.Pair("s1", "response 1", texts[1], False),
            ],
        )
        assert own[1].filtered_resps == {"judge": {"response": "response 1", "baseline_name": name}}


def test_scores_that_are_none_are_counted_before_two_methods_are_compared() -> None:
    with pytest.raises(PluralismError, match=r"^1 of 2 pairs of scores are no finite numbers"):
        statistics.compare([math.nan, 1.0], [0.0, 1.0])
    with pytest.raises(PluralismError, match=r"^scores of 1 and 2 docs"):
        statistics.compare([1.0], [0.0, 1.0])
    with pytest.raises(PluralismError, match=r"^3 clusters for 2 docs"):
        statistics.members(["a"] * 3, 2)


def test_pairs_that_were_cut_or_not_read_are_said(caplog: Any) -> None:
    entailment._warn("vitaminc", 2, "cut", [("a", "b")] * 3)
    entailment._warn("vitaminc", 0, "never said", [("a", "b")])
    assert "nli=vitaminc: 2 of 3 pairs are cut" in caplog.text
    assert "never said" not in caplog.text


def test_errors_of_sampled_orders_stand_by_name() -> None:
    nothing = np.zeros((1, 2))
    sampled = shapley.Solution(nothing, nothing, nothing[:, 0], nothing[:, 0], np.array([0.1, 0.2]))
    assert influence._errors(sampled, ["a", "b"]) == {"a": 0.1, "b": 0.2}
    exact = shapley.Solution(nothing, nothing, nothing[:, 0], nothing[:, 0], None)
    assert influence._errors(exact, ["a", "b"]) is None
