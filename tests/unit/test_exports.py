"""Exports state what a run has, at full precision, the same bytes each time; hostile text does no harm."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pluralism_eval import scoring
from pluralism_eval.data.docs import build_docs
from pluralism_eval.errors import PluralismError
from pluralism_eval.exports import card, every_eval, facts, hub, writing
from pluralism_eval.exports.facts import Facts, cleaned, facts_of
from pluralism_eval.exports.items import items_of
from pluralism_eval.metrics import classification, options
from pluralism_eval.results import Run, read_run

VK, MORAL = "pluralism_steerable_vk", "pluralism_distributional_moralchoice"
SHORT = {VK: "vk", MORAL: "moralchoice"}
HOSTILE = "\0 \ud800 <script>alert(1)</script> --> | ``` \u202e"
LOGPROBS = {VK: [[-0.5, -1.5, -3.0], [-2.0, -0.4, -2.5]], MORAL: [[-0.3, -1.6], [-0.9, -0.7]]}


def _docs(task: str, words: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]]
    if task == VK:
        items = [
            {"id": 1, "situation": f"S{words}", "vrd": "Care", "label": "A", "label_text": "Supports", "input": f"S{words} A. B. C."},
            {"id": 2, "situation": "T", "vrd": "Duty", "label": "C", "label_text": "Either", "input": "T A. B. C."},
        ]  # fmt: skip
    else:
        both = {"options": ["I stay.", "I leave."], "pred_distribution": None}
        items = [
            {**both, "id": "L1", "question": f"A{words}\nA. I stay.\nB. I leave.\nAnswer:", "attribute": "low_ambiguity", "gold_distribution": [1, 0]},
            {**both, "id": "H1", "question": "B.\nA. I stay.\nB. I leave.\nAnswer:", "attribute": "high_ambiguity", "gold_distribution": [0.5, 0.5]},
        ]  # fmt: skip
    common = {"input": f"{SHORT[task]}_input", "preset": "paper"}
    return build_docs(SHORT[task], items, common, "test")


def _samples(task: str, words: str) -> list[dict[str, Any]]:
    score = {VK: classification.vk, MORAL: options.moralchoice}[task]
    rows = []
    for i, (doc, logprobs) in enumerate(zip(_docs(task, words), LOGPROBS[task], strict=True)):
        results = [(value, False) for value in logprobs]
        rows.append(
            {
                "doc_id": i, "doc": doc, "target": str(doc["target"]), "doc_hash": f"{task}{i}",
                "arguments": {f"gen_args_{j}": {"arg_0": doc["query"], "arg_1": f" {a}"} for j, a in enumerate(doc["letters"])},
                "resps": [[[str(v), "False"]] for v in logprobs], "filtered_resps": [[str(v), "False"] for v in logprobs],
                **score(doc, results),
            }
        )  # fmt: skip
    return rows


def _line(task: str, row: dict[str, Any], words: str) -> dict[str, Any]:
    messages = [
        {"community": c, "text": f"{c} says{words}", "n_tokens": 3, "stopped": True, "attempts": 1, "reused": False, "imported": False}
        for c in ("left", "right")
    ]  # fmt: skip
    select = task == VK
    asked = [{"round": "select", "prompt": f"Which?{words}"}] if select else []
    return {
        "task": task, "doc_id": row["doc_id"], "messages": messages,
        "selections": [{"community": "right", "raw": f" 2{words}", "fallback": False}] if select else [],
        "sent": [*asked, {"round": "respond", "prompt": f"Passage: {words}\n{row['doc']['query']}"}],
    }  # fmt: skip


def save(
    folder: Path, tasks: tuple[str, ...] = (MORAL,), words: str = "", ours: bool = True
) -> Path:
    """A run as lm-eval and the transcript leave it; ``words`` stand in every text."""
    inner, stamp = folder / "m", "2026-01-02T03-04-05.6"
    inner.mkdir(parents=True)
    samples = {task: _samples(task, words) for task in tasks}
    config: dict[str, Any] = {"model": "hf", "model_args": {"pretrained": "owner/model-1b"}, "limit": 2, "random_seed": 7}  # fmt: skip
    if ours:
        lines = [_line(task, row, words) for task, rows in samples.items() for row in rows]
        (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        config |= {
            "model": "modular_pluralism",
            "pluralism": {
                "method": "modular_pluralism", "llm": "hf(pretrained=owner/model-1b)", "version": "9.9", "transcript": "t.jsonl",
                "communities": [{"name": "left", "adapter": "a/left"}, {"name": "right", "adapter": "a/right"}],
                "rates": {tasks[0]: {"docs": 2, "prompts": 4, "messages": 4, "messages_generated": 4, "empty_messages": 0.25}},
                "usage": {"llm": {"calls": 4, "prompt_tokens": 40, "new_tokens": 4}, "communities": {"calls": 4, "prompt_tokens": 9, "new_tokens": 8}},
            },
        }  # fmt: skip
    results = {
        "results": {task: {"alias": task} for task in tasks}, "config": config, "versions": dict.fromkeys(tasks, 1.0),
        "n-samples": {task: {"original": 50, "effective": 2} for task in tasks}, "date": 1767323045.5,
        "lm_eval_version": "0.4.13", "git_hash": "abc1234", "total_evaluation_time_seconds": "12.5",
        "configs": {task: {"metadata": {"version": 1.0, "data": "sample"}} for task in tasks},
    }  # fmt: skip
    (inner / f"results_{stamp}.json").write_text(json.dumps(results))
    for task, rows in samples.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (inner / f"samples_{task}_{stamp}.jsonl").write_text(text)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Two tasks; the intervals of one take seconds."""
    return facts_of(read_run(save(tmp_path_factory.mktemp("run") / "run", (VK, MORAL))))


def wanted(made: Facts) -> dict[str, float]:
    """Task/score → value of every headline, from the one source of figures."""
    found = scoring.scores_of(made.run)
    return {
        f"{task}/{c.metric}": next(s.value for s in found[task] if s.name == c.metric)
        for task in found
        for c in made.headlines(task)
    }


def test_facts_are_the_runs_own(run: Facts) -> None:
    assert (run.model, run.method, run.seconds) == ("owner/model-1b", "modular_pluralism", 12.5)
    assert run.date.isoformat() == "2026-01-02T03:04:05.500000+00:00"
    assert (run.size(VK), run.dataset(VK), run.version(VK)) == ((2, 50), "vk_input (sample)", "1.0")
    assert run.lacks == ()
    assert len(wanted(run)) == 3


def test_items_say_who_was_selected_what_was_said_and_what_is_right(run: Facts) -> None:
    first, second = items_of(run, VK)
    assert (first.answer, first.target, first.correct, second.correct) == ("A", ["A"], True, False)
    assert first.scores["acc"] == 1
    assert "Selected community: right (the LLM said ' 2')" in first.explanation
    assert [m["community"] for m in first.messages] == ["left", "right"]
    low, high = items_of(run, MORAL)
    assert low.scores["jsd"] == run.run.samples[MORAL][0]["jsd"]
    assert sum(low.probabilities) == pytest.approx(1)
    assert "Target: A 1.000, B 0.000" in low.explanation
    assert (low.name, high.attribute) == ("L1", "")


def test_every_eval_ever_is_consistent_in_itself(run: Facts) -> None:
    files = every_eval.export(run, every_eval.Source("Us", "third_party")).files
    record_path, samples_path = files
    shape = r"data/modular-pluralism/owner/model-1b/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(shape + r"\.json", record_path)
    record = json.loads(files[record_path])
    rows = [json.loads(line) for line in files[samples_path].decode().splitlines()]
    detail = record["detailed_evaluation_results"]
    assert (detail["file_path"], detail["total_rows"]) == (samples_path, len(rows))
    assert detail["checksum"] == hashlib.sha256(files[samples_path]).hexdigest()
    assert {r["evaluation_id"] for r in rows} == {record["evaluation_id"]}
    results = {r["evaluation_result_id"]: r for r in record["evaluation_results"]}
    assert {name: r["score_details"]["score"] for name, r in results.items()} == wanted(run)
    assert {r["evaluation_result_id"] for r in rows} < set(
        results
    )  # balanced accuracy is of no doc
    distance = results[f"{MORAL}/jsd"]
    assert distance["metric_config"]["lower_is_better"]
    assert float(distance["score_details"]["details"]["baseline: uniform"]) > 0
    score = next(s for s in run.scores[MORAL] if s.name == "jsd")
    interval = distance["score_details"]["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == (score.low, score.high)
    assert "not stated" not in str(every_eval.export(run, every_eval.Source("Us", "third_party")).notes)  # fmt: skip
    assert "--organization" in str(every_eval.export(run).notes)
    with pytest.raises(PluralismError, match=r"'friend' is unknown\. Allowed: first_party"):
        every_eval.export(run, every_eval.Source("Us", "friend"))


def test_hub_results_read_back_and_name_no_dataset_that_does_not_exist(run: Facts) -> None:
    from huggingface_hub import parse_eval_result_entries

    made = hub.export(run)
    (path, content), *_ = made.files.items()
    assert path == "owner_model-1b/.eval_results/pluralism_modular-pluralism.yaml"
    assert content.startswith(b"# Fill in: ")
    entries = parse_eval_result_entries(yaml.safe_load(content))
    assert [e.value for e in entries] == list(wanted(run).values())
    assert {e.dataset_id for e in entries} == {hub.PLACEHOLDER}
    assert "--dataset" in made.notes[0]
    assert "2 of 50 docs of vk_input (sample)" in str(entries[0].notes)
    place = hub.Place("us/benchmark", "https://example.org/report")
    entries = parse_eval_result_entries(yaml.safe_load(next(iter(hub.export(run, place).files.values()))))  # fmt: skip
    assert {(e.dataset_id, e.source_url) for e in entries} == {("us/benchmark", place.url)}
    for bad in (hub.Place("benchmark"), hub.Place("us/b", "example.org")):
        with pytest.raises(
            PluralismError, match=r"--dataset 'benchmark' is no|--source-url 'example"
        ):
            hub.export(run, bad)


def test_a_card_has_the_scores_and_keeps_what_others_wrote(run: Facts, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    (content,) = card.export([run]).files.values()
    parsed = ModelCard(content.decode())
    assert [r.metric_value for r in parsed.data.eval_results or []] == list(wanted(run).values())
    assert "empty messages 25%" in content.decode()
    readme = tmp_path / "README.md"
    before, after = b"---\nlicense: mit\n---\r\n# Mine\r\n", b"\r\nmy last words, no line end"
    readme.write_bytes(before)
    assert card.put_into(readme, [run])
    once = readme.read_bytes()
    assert once.startswith(before)
    assert b"\n" not in once.replace(b"\r\n", b"").removeprefix(b"---\nlicense: mit\n---")
    readme.write_bytes(once + after)
    assert not card.put_into(readme, [run])
    readme.write_bytes((once + after).replace(b"0.500", b"9.999"))
    assert card.put_into(readme, [run])
    assert readme.read_bytes() == once + after


@pytest.mark.parametrize("text", [card.BEGIN, card.END, f"{card.END}{card.BEGIN}", f"{card.BEGIN}{card.END}" * 2])  # fmt: skip
def test_markers_that_are_no_pair_are_an_error(run: Facts, tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(PluralismError, match="leave one pair, or none"):
        card.put_into(readme, [run])
    assert readme.read_text() == text


def test_runs_of_two_models_make_two_cards_and_fit_in_none(tmp_path: Path) -> None:
    saved = read_run(save(tmp_path / "run"))
    runs = [facts_of(saved), facts_of(saved, "other/model")]
    assert list(card.export(runs).files) == ["owner_model-1b.md", "other_model.md"]
    with pytest.raises(PluralismError, match="owner/model-1b, other/model"):
        card.put_into(tmp_path / "README.md", runs)
    with pytest.raises(PluralismError, match="cannot be read"):
        card.put_into(tmp_path / "none.md", runs[:1])


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (facts_of(read_run(save(tmp_path / name))) for name in ("a", "b"))
    assert one.identity == two.identity
    for make in (every_eval.export, hub.export, lambda f: card.export([f])):
        assert make(one).files == make(two).files
    other = facts_of(read_run(save(tmp_path / "c", words="!")))
    assert other.identity != one.identity


def test_hostile_text_survives_or_is_shown(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", words="WORDS")
    for path in folder.rglob("*.json*"):
        path.write_text(path.read_text().replace("WORDS", json.dumps(HOSTILE)[1:-1]))
    made = facts_of(read_run(folder))
    assert cleaned(HOSTILE) == HOSTILE.replace("\0", "␀").replace("\ud800", "\\ud800")
    record, rows = every_eval.export(made).files.values()
    json.loads(record.decode("utf-8"))
    row = json.loads(rows.decode("utf-8").splitlines()[0])
    assert "␀ \\ud800 <script>" in row["input"]["raw"]
    assert "\0" not in json.loads(rows.splitlines()[0])["metadata"]["community_messages"]
    for content in (*hub.export(made).files.values(), *card.export([made]).files.values()):
        assert b"\0" not in content
        content.decode("utf-8")


def test_a_run_of_another_model_gives_what_it_has(tmp_path: Path) -> None:
    made = facts_of(read_run(save(tmp_path / "run", ours=False)))
    assert (made.method, made.model) == ("hf", "owner/model-1b")
    assert any("run of lm-eval's hf: no community LMs" in lack for lack in made.lacks)
    assert any(f"no transcript of {MORAL}" in lack for lack in made.lacks)
    (item, _) = items_of(made, MORAL)
    assert [s["prompt"] for s in item.sent] == [item.query]
    assert len(every_eval.export(made).files) == 2
    (content,) = card.export([made]).files.values()
    assert "- hf: no transcript of" in content.decode()


def test_runs_that_cannot_be_exported_are_one_error(tmp_path: Path) -> None:
    folder = save(tmp_path / "run")
    (results,) = folder.rglob("results_*.json")
    good = json.loads(results.read_text())
    results.write_text(json.dumps({**good, "results": {"hellaswag": {}}}))
    with pytest.raises(PluralismError, match=r"no task that can be exported; it has hellaswag"):
        facts_of(read_run(folder))
    results.write_text(json.dumps({**good, "date": None}))
    with pytest.raises(PluralismError, match="does not say when it was run"):
        facts_of(read_run(folder))
    (samples,) = folder.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    samples.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "jsd"}) + "\n" for r in rows))  # fmt: skip
    results.write_text(json.dumps(good))
    with pytest.raises(PluralismError, match="lack jsd"):
        facts_of(read_run(folder))
    samples.unlink()
    with pytest.raises(PluralismError, match="--log_samples"):
        facts_of(read_run(folder))


def test_a_studys_name_of_the_llm_is_not_the_llms_own() -> None:
    ours = {"llm": "embedded(dtype=float32,pretrained=c/d)"}
    made = Run(
        "name", Path("r.json"), {"model_args": {}, "pluralism": ours}, {}, {}, [], "embedded"
    )
    assert facts.model_of(made) == "c/d"


@pytest.mark.parametrize(
    ("arguments", "llm", "model"),
    [
        ({"pretrained": "a/b"}, "hf(pretrained=a/b)", "a/b"),
        ({"llm_args": {"model": "gpt-x"}}, "openai(model=gpt-x)", "gpt-x"),
        ({"llm_args": {}}, "embedded(dtype=float32,pretrained=c/d)", "c/d"),
        ("pretrained=e/f,dtype=float16", "", "e/f"),
        ({"pretrained": "/home/me/models/mine"}, "", "mine"),
        ({}, "", "name"),
    ],
)
def test_the_llms_own_name(arguments: Any, llm: str, model: str) -> None:
    made = Run("name", Path("r.json"), {"model_args": arguments}, {}, {}, [], llm=llm)
    assert facts.model_of(made) == model


def test_names_that_are_no_paths_stay_inside_the_folder(tmp_path: Path) -> None:
    made = facts_of(read_run(save(tmp_path / "run")), "../../etc:x/a?b")
    for files in (every_eval.export(made).files, hub.export(made).files, card.export([made]).files):
        assert not [path for path in files if ".." in Path(path).parts or Path(path).is_absolute()]


def test_files_are_left_alone_kept_or_replaced(tmp_path: Path) -> None:
    assert writing.write(tmp_path, {"a/b": b"1", "c": b"2"}) == [tmp_path / "a/b", tmp_path / "c"]
    assert writing.write(tmp_path, {"a/b": b"1"}) == []
    with pytest.raises(PluralismError, match=r"a/b would be overwritten.*--force"):
        writing.write(tmp_path, {"d": b"3", "a/b": b"4"})
    assert not (tmp_path / "d").exists()
    assert writing.write(tmp_path, {"a/b": b"4"}, force=True) == [tmp_path / "a/b"]
    assert (tmp_path / "a/b").read_bytes() == b"4"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "c"]
    with pytest.raises(PluralismError, match="cannot be written"):
        writing.write(tmp_path / "c", {"e": b"5"})
