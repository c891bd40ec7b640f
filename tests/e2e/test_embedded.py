"""The real model: exactness of what is shared, batched, mixed and stored."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from pluralism_eval import plugin, utilisation
from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.llm import embedded, load
from pluralism_eval.llm.load import load_llm
from pluralism_eval.metrics import nli_embedded
from pluralism_eval.metrics.entailment import read_pairs
from pluralism_eval.settings import parse
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs

pytestmark = pytest.mark.model
LIMIT = int(os.environ.get("PLURALISM_EVAL_TEST_LIMIT", "1"))
TOKENS = 8
FOREIGN = Path(__file__).parent / "foreign"


@pytest.fixture(scope="module")
def llm() -> Any:
    """One model for the module; the methods find it again by its settings."""
    return load_llm(parse("vanilla", {}), batch_size=1)


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("messages"))


def plain_logprobs(llm: Any, prompt: str) -> torch.Tensor:
    """One prompt, no batch, no padding, no cache."""
    ids = llm.inner.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return llm.inner.model(input_ids=ids).logits[0, -1].log_softmax(-1)


def plain_distribution(llm: Any, prompt: str, letters: list[str]) -> np.ndarray:
    """Option letters, both spellings, over the full vocabulary."""
    p = plain_logprobs(llm, prompt).exp()
    encode = llm.inner.tokenizer.encode
    mass = np.array([float(p[encode(x)[0]] + p[encode(" " + x)[0]]) for x in letters])
    return mass / mass.sum()


def test_harness_readout_equals_hf_to_the_last_digit(
    llm: Any, task_manager: Callable[..., Any]
) -> None:
    metadata = {"data": "sample", "nli": "embedded"}
    paths = [str(plugin.task_folder()), str(FOREIGN)]
    tasks = TaskManager(include_path=paths, include_defaults=False, metadata=metadata)
    names = ["foreign_choice", "foreign_text", "pluralism_distributional_moralchoice"]

    def run(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = simple_evaluate(
            model=model,
            model_args=arguments,
            tasks=names,
            task_manager=tasks,
            limit=3,
            bootstrap_iters=0,
            batch_size=2,
            device="cpu",
        )
        return found

    bare = run("hf", {"pretrained": embedded.locate(), "dtype": "float32"})
    ours = run("vanilla", {"readout": "harness"})
    for name in names:
        assert [s["resps"] for s in ours["samples"][name]] == [
            s["resps"] for s in bare["samples"][name]
        ]
        assert json.dumps(ours["results"][name]) == json.dumps(bare["results"][name])


def test_requests_of_any_settings_are_answered_in_their_order(llm: Any) -> None:
    """Greedy ones by our own engine, a sampled one as ``HFLM`` draws it."""
    ways = [{"max_gen_toks": 3}, {"max_gen_toks": 4, "do_sample": True, "temperature": 1.0}]
    ways.append({"max_gen_toks": 5, "until": ["\n"]})
    asked = [
        Instance("generate_until", {}, (f"{start} is", ways[way]), i)
        for i, (start, way) in enumerate([("Rome", 2), ("Oslo", 1), ("Bern", 0), ("Kiev", 2)])
    ]
    torch.manual_seed(1)
    expected = llm.inner.generate_until(asked)
    torch.manual_seed(1)
    before, worked = llm.usage.calls, utilisation.snapshot()
    assert llm.generate_until(asked) == expected
    assert llm.usage.calls == before + len(asked)
    assert utilisation.since(worked)["responses"].decoded > 0
    torch.manual_seed(1)
    assert llm.generate_until(asked, bare=True) == expected
    assert llm.option_logprobs([], []) == llm.generate_until([]) == []


def test_messages_do_not_depend_on_the_batch_and_leave_the_llm_alone(llm: Any) -> None:
    prompt = "Please comment: helping a stranger move house.\nComment:"
    before = plain_logprobs(llm, prompt)
    members = adapters.resolve_all(load_pool("embedded"))
    engine = LoraEngine("embedded", members, llm)
    jobs = [Job(f"{name}{i}", name, prompt + " well" * i, seed=i) for i, name in enumerate(members)]
    sampling = Sampling(max_tokens=TOKENS)

    def texts(batch: int) -> dict[str, str]:
        return {
            job.key: out.text
            for start in range(0, len(jobs), batch)
            for job, out in engine.generate(jobs[start : start + batch], sampling)
        }

    together = texts(6)
    assert together == texts(1)
    assert len(set(together.values())) == len(jobs)
    assert torch.equal(plain_logprobs(llm, prompt), before)


def test_a_seed_repeats_and_another_differs(llm: Any) -> None:
    members = adapters.resolve_all(load_pool("embedded")[:1])
    engine = LoraEngine("embedded", members, llm)
    name = next(iter(members))

    def text(seed: int) -> str:
        ((_, out),) = engine.generate([Job("k", name, "Comment:", seed)], Sampling(TOKENS))
        return out.text

    assert text(1) == text(1) != text(2)


@needs_authors_inputs
@pytest.mark.parametrize("method", plugin.METHODS)
def test_all_tasks_on_the_authors_inputs(
    method: str, llm: Any, messages: str, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    """Distributions against a plain unbatched computation; metrics against scipy and scikit-learn."""
    transcript = tmp_path / "transcript.jsonl"
    results = simple_evaluate(
        model=method,
        model_args={
            "messages": messages,
            "message_max_tokens": TOKENS,
            "transcript": str(transcript),
            "readout": "options",
            "chat": False,
        },
        tasks=["pluralism"],
        task_manager=task_manager(data=str(AUTHORS_INPUTS), nli="embedded"),
        limit=LIMIT,
        gen_kwargs={"max_gen_toks": 16},
        bootstrap_iters=0,
    )
    assert results is not None
    entries = {
        (e["task"], e["doc_id"]): e for e in map(json.loads, transcript.read_text().splitlines())
    }
    assert len(entries) == 5 * LIMIT
    for task, samples in results["samples"].items():
        golds, found = [], []
        for sample in samples:
            entry = entries[task, sample["doc_id"]]
            if task == "pluralism_overton_nli":
                assert sample["resps"][0][0] == entry.get("response")
                continue
            prompts = [s["prompt"] for s in entry["sent"] if s["round"] == "respond"]
            orders = [r["order"] for r in entry.get("readings", [])] or [[]]
            texts = [entry["query"], _swapped(entry["query"])][: len(orders)]
            assert len(orders) == (2 if task == "pluralism_distributional_moralchoice" else 1)
            if method == "modular_pluralism" and "distributional" in task:
                line = (
                    f"You are from the country of {entry['attribute']}.\n"
                    if entry["attribute"]
                    else ""
                )
                expected = [
                    f"Passage: {_quoted(m['text'])}\n\n{line}{texts[i // 6]}"
                    for i, m in enumerate(entry["messages"])
                ]
                assert prompts == expected
            each = len(prompts) // len(orders)
            read = [plain_distribution(llm, p, entry["options"]) for p in prompts]
            listed = [d[::-1] if orders[i // each] == [1, 0] else d for i, d in enumerate(read)]
            plain = np.mean(listed, axis=0)
            np.testing.assert_allclose(entry["distribution"], plain, atol=1e-4)
            golds.append(sample["doc"].get("gold") or sample["doc"]["target"])
            found.append(entry["distribution"])
        _check_metrics(task, results["results"][task], golds, found)


def test_options_in_words_are_read_as_a_plain_loop_reads_them(
    llm: Any, messages: str, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    """The embedded LLM's default: its chat template, the question without options, each option's text in turn."""
    transcript = tmp_path / "transcript.jsonl"
    tasks = ["pluralism_steerable_vk", "pluralism_distributional_globalopinionqa"]
    results = simple_evaluate(
        model="modular_pluralism",
        model_args={
            "messages": messages,
            "message_max_tokens": TOKENS,
            "transcript": str(transcript),
        },
        tasks=tasks,
        task_manager=task_manager(data="sample"),
        limit=LIMIT,
        bootstrap_iters=0,
    )
    assert results is not None
    for entry in map(json.loads, transcript.read_text().splitlines()):
        sent = [s for s in entry["sent"] if s["round"] == "respond"]
        options = results["samples"][entry["task"]][entry["doc_id"]]["doc"]["options"]
        assert all(s["prompt"].endswith("<|im_start|>assistant\n") for s in sent)
        assert not any(f"B. {options[1]}" in s["prompt"] for s in sent)
        plain = np.mean([plain_cloze(llm, s["prompt"], options) for s in sent], axis=0)
        np.testing.assert_allclose(entry["distribution"], plain, atol=1e-4)


def plain_cloze(llm: Any, prompt: str, options: list[str]) -> np.ndarray:
    encode = llm.inner.tokenizer.encode
    begin, sums = encode(prompt), []
    for option in options:
        whole = encode(prompt + option)
        with torch.inference_mode():
            logprobs = llm.inner.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        sums.append(sum(float(logprobs[i - 1, whole[i]]) for i in range(len(begin), len(whole))))
    shares = np.exp(np.array(sums) - max(sums))
    return shares / shares.sum()


def _quoted(text: str) -> str:
    """A passage of several lines."""
    return "\n".join(
        line if i == 0 else f"> {line}".strip() for i, line in enumerate(text.split("\n"))
    )


def _swapped(question: str) -> str:
    """A MoralChoice question with its two actions in the other order."""
    *before, first, second, answer = question.split("\n")
    return "\n".join([*before, f"A. {second[3:]}", f"B. {first[3:]}", answer])


def _check_metrics(
    task: str, scores: dict[str, Any], golds: list[Any], found: list[list[float]]
) -> None:
    if task == "pluralism_steerable_vk":
        labels = [int(np.argmax(d)) for d in found]
        assert scores["acc,none"] == pytest.approx(accuracy_score(golds, labels))
        assert scores["balanced_acc,none"] == pytest.approx(balanced_accuracy_score(golds, labels))
        expected = f1_score(golds, labels, labels=[0, 1, 2], average="macro", zero_division=0)
        assert scores["macro_f1,none"] == pytest.approx(expected)
    elif task == "pluralism_steerable_opinionqa":
        assert scores["match,none"] == np.mean(
            [np.argmax(d) == np.argmax(g) for d, g in zip(found, golds, strict=True)]
        )
    elif task.startswith("pluralism_distributional"):
        expected = np.mean([jensenshannon(d, g) for d, g in zip(found, golds, strict=True)])
        assert scores["jsd,none"] == pytest.approx(expected)
        uniform = np.mean([jensenshannon(np.full(len(g), 1 / len(g)), g) for g in golds])
        assert scores["jsd_uniform,none"] == pytest.approx(uniform)


@needs_authors_inputs
def test_a_second_run_writes_no_message(
    llm: Any, messages: str, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    def run() -> dict[str, Any]:
        results = simple_evaluate(
            model="modular_pluralism",
            model_args={
                "messages": messages,
                "message_max_tokens": TOKENS,
                "transcript": str(tmp_path / "t.jsonl"),
            },
            tasks=["pluralism_distributional_moralchoice"],
            task_manager=task_manager(data=str(AUTHORS_INPUTS)),
            limit=LIMIT,
            bootstrap_iters=0,
        )
        assert results is not None
        return results

    task = "pluralism_distributional_moralchoice"
    first, second = run(), run()
    rates = second["config"]["pluralism"]["rates"][task]
    assert (rates["messages"], rates["messages_generated"]) == (2 * 6 * LIMIT, 0)  # both orders
    assert json.dumps(first["results"][task]) == json.dumps(second["results"][task])


def test_chat_template_is_the_models_own(
    llm: Any, messages: str, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    simple_evaluate(
        model="prompting",
        model_args={"transcript": str(path), "readout": "options"},
        tasks=["pluralism_distributional_moralchoice"],
        task_manager=task_manager(data="sample"),
        limit=1,
        num_fewshot=1,
        system_instruction="Answer with a letter.",
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        bootstrap_iters=0,
    )
    prompt = json.loads(path.read_text())["sent"][0]["prompt"]
    assert prompt.startswith("<|im_start|>system\nAnswer with a letter.<|im_end|>")
    assert prompt.count("<|im_start|>user") == 2
    assert prompt.count("Make sure your response reflects diverse values") == 1
    assert prompt.endswith("<|im_start|>assistant\n")


def test_every_shipped_adapter_knows_its_own_community_best() -> None:
    """Held-out perplexity of 3 pieces: always below the base's; so few may sound like a neighbour (more: `make adapters`)."""
    from pluralism_eval.train import perplexity_matrix

    folder = Path(adapters.__file__).parent / "embedded"
    corpora = {path.stem: path for path in (folder / "corpora").glob("*.jsonl")}
    table = perplexity_matrix(
        {name: folder / "adapters" / name for name in corpora}, corpora, "embedded", pieces=3
    )
    assert len(corpora) == 6
    columns = {name: {row: values[name] for row, values in table.items()} for name in corpora}
    assert all(column[name] < column["base"] for name, column in columns.items()), columns
    best = [
        min(column, key=lambda row, c=column: c[row]) == name for name, column in columns.items()
    ]
    assert sum(best) >= 5, columns


def test_the_shipped_calibration_is_how_the_model_reads_the_pairs() -> None:
    """Every eighth pair read again (all of them: `make calibration`)."""
    shipped = json.loads(nli_embedded.SHIPPED.read_text())
    pairs = [pair for pair, _ in read_pairs("nli_calibration.jsonl")]
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # nothing is read to calibrate, nor asked of a cache
        patch.setattr(nli_embedded, "Store", lambda *_: pytest.fail("not the package's readings"))
        scorer = nli_embedded.EmbeddedScorer()
    assert len(shipped["readings"]) == len(pairs) == 66
    np.testing.assert_allclose(scorer.readings(pairs[::8]), shipped["readings"][::8], atol=1e-4)


def test_the_scorer_reads_with_the_llms_weights_and_reads_the_same() -> None:
    """Also while adapters are attached to them."""
    pairs = [pair for pair, _ in read_pairs("nli_check.jsonl")][:3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "_alive", {})
        own = nli_embedded.EmbeddedScorer()
        llm = load_llm(parse("vanilla", {}))
        members = adapters.resolve_all(load_pool("embedded"))
        LoraEngine("embedded", members, llm)
        shared = nli_embedded.EmbeddedScorer()
    assert shared._model is llm.inner.model
    assert own._model is not shared._model
    np.testing.assert_array_equal(shared.readings(pairs), own.readings(pairs))
