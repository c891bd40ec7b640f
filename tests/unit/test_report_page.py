"""The report page as a file: what it carries, what it counts, what it leaves out and says so."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.registry import model_registry

from pluralism_eval import plugin
from pluralism_eval.data.sources import input_file
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import coverage, entailment
from pluralism_eval.report import page
from pluralism_eval.report.page import examples, facts, irregular, markup, packing
from pluralism_eval.report.page.entailed import TASK, entailed
from pluralism_eval.report.tabular import Column, Number, Row, Table
from pluralism_eval.results import Run
from pluralism_eval.study import RunSpec, StudyLLM, execute
from pluralism_eval.tasks import TASKS
from tests.conftest import NAMES, ScriptedLM

METHODS = ("vanilla", "prompting", "moe", "modular_pluralism")
DOCS = 4
STEERABLE = "pluralism_steerable"


class WordScorer:
    """A premise entails a hypothesis that shares a word of seven letters or more with it."""

    lot = 500

    def __init__(self, name: str) -> None:
        self.identity = f"words:{name}"

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        shared = [_long_words(a) & _long_words(b) for a, b in pairs]
        return np.array([[0.8, 0.1, 0.1] if words else [0.1, 0.8, 0.1] for words in shared])

    def truncated(self, pairs: Sequence[tuple[str, str]]) -> int:
        return 0


def _long_words(text: str) -> set[str]:
    return set(re.findall(r"\w{7,}", text.lower()))


def _reply(prompt: str) -> str:
    """What the scripted LLM says: the second community, or none it could be asked for."""
    if not prompt.endswith("Number:"):
        return "Neighbors have privacy. Everybody values security and independence.\nA third thing."
    return "all of them" if "yogurt" in prompt else "2"


def scripted_runs(folder: Path) -> dict[str, Run]:
    """Label → a real run of every method on four docs of every task, with an LLM whose answers are scripted."""
    plugin.register_models()
    if "scripted" not in model_registry:
        model_registry.register("scripted", target=ScriptedLM)
    messages = folder / "messages"
    messages.mkdir(parents=True)
    for task, name in ((t.short, t.input) for t in TASKS.values()):
        items = json.loads(input_file(task, "sample").read_text(encoding="utf-8"))
        for community in NAMES:
            texts = {
                str(
                    item.get("id", i)
                ): f"{community}: neighbors matter for {task} {i}. Security comes first."
                for i, item in enumerate(items)
            }
            texts[str(items[1].get("id", 1))] = "" if community == "news_left" else "short"
            (messages / f"{name}_mistral-{community}.json").write_text(json.dumps(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entailment, "cache_root", lambda: folder / "cache")
        patch.setattr(entailment, "load_scorer", WordScorer)
        patch.setattr(coverage, "scorer_problems", lambda names: [])
        patch.setattr(ScriptedLM, "reply", staticmethod(_reply))
        return {
            method: execute(
                RunSpec(
                    method, method, StudyLLM("scripted", "scripted"), plugin.AUTOMATIC,
                    settings={"communities": "embedded", "messages": str(messages)} if method in METHODS[2:] else {},
                    metadata={"data": "sample", "nli": "embedded"}, limit=DOCS,
                ),
                folder / "runs",
            )
            for method in METHODS
        }  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A stand-in for a figure."""

    name: str = "bars"
    title: str = "Coverage <b>"
    caption: str = "A caption & more."
    alt: str = 'Bars "of" coverage'
    svg: str = (
        '<svg viewBox="0 0 9 9"><rect style="fill: var(--c0)" width="3" height="9"></rect></svg>'
    )

    @property
    def rows(self) -> list[list[str]]:
        return [["run", "coverage"], ["moe", "0.123"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return scripted_runs(tmp_path_factory.mktemp("page"))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every scorer is a :class:`WordScorer`, through the real store."""
    monkeypatch.setattr(entailment, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(entailment, "load_scorer", WordScorer)


def write(path: Path, runs: dict[str, Run], **given: Any) -> page.Written:
    table = Table("t", "T", (Column("c"),), (Row("moe", (Number(0.5),)),))
    paired = [["score", "p"], ["a − b", "0.5"]]
    content: dict[str, Any] = {
        "tables": [table],
        "figures": [Drawn()],
        "paired": paired,
        "verdicts": {},
    }
    return page.write(path, "A <title>", runs, **(content | given))


def unpacked(text: str) -> Any:
    """The inverse of :func:`packing.packed`, by the standard library."""
    values = {sign: i for i, sign in enumerate(packing._SIGNS)}
    words = [text[i : i + 5] for i in range(1, len(text), 5)]
    numbers = [
        sum(values[c] * 85**p for c, p in zip(w, (4, 3, 2, 1, 0), strict=True)) for w in words
    ]
    content = b"".join(n.to_bytes(4, "big") for n in numbers)
    content = content[: len(content) - values[text[0]]]
    return json.loads((bz2 if content[:2] == b"BZ" else gzip).decompress(content))


def carried(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the index of a page, the details of its examples)."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<script type="text/plain" id="(\w+)">([^<]*)</script>', text)
    assert found[0][0] == "index"
    return unpacked(found[0][1]), [row for _, chunk in found[1:] for row in unpacked(chunk)]


def whole(query: str, detail: dict[str, Any], pieces: Sequence[int]) -> str:
    """A prompt put together again."""
    texts = [query, *detail["texts"]]
    return "".join(texts[i] if isinstance(texts[i], str) else texts[i][0] for i in pieces)


# ---------------------------------------------------------------------- what the page carries


@settings(max_examples=60, deadline=None)
@given(st.text(), st.booleans())
def test_what_is_packed_comes_out_again_and_holds_no_markup(text: str, small: bool) -> None:
    found = packing.packed(packing.as_json([text]), small)
    assert unpacked(found) == [re.sub("[\ud800-\udfff]", "\ufffd", text)]
    assert set(found) <= set(packing._SIGNS)
    assert not set(packing._SIGNS) & set("<>&\"'`\\ \n")


@settings(max_examples=100, deadline=None)
@given(st.text(), st.lists(st.text(max_size=60), max_size=5), st.data())
def test_a_prompt_in_pieces_is_the_same_prompt(query: str, messages: list[str], data: Any) -> None:
    parts = data.draw(
        st.lists(st.one_of(st.text(max_size=20), st.sampled_from([query, *messages])), max_size=8)
    )
    prompt = "".join(parts)
    texts = packing.Texts(query)
    places = [texts.ref(message) for message in messages]
    pieces = texts.pieces(prompt, sorted({query, *messages}, key=len, reverse=True))
    assert "".join(texts.kept[i] for i in pieces) == prompt
    assert len({*texts.kept}) == len(texts.kept)
    assert [texts.kept[i] for i in places] == messages


def test_prompts_do_not_store_messages_again() -> None:
    texts = packing.Texts("What do you think of it?")
    message = "A message of some length. " * 20
    place = texts.ref(message)
    pieces = texts.pieces(
        f"Passage: {message}\n\nWhat do you think of it?", [message, "What do you think of it?"]
    )
    assert pieces == [texts.ref("Passage: "), place, texts.ref("\n\n"), 0]


def test_a_long_text_is_cut_and_counted() -> None:
    texts = packing.Texts("q" * (packing.LONGEST + 1))
    place = texts.ref("x" * 1_000_000)
    texts.ref("y" * packing.LONGEST)
    assert texts.kept[0] == ["q" * packing.LONGEST, 1]
    assert texts.kept[place] == ["x" * packing.LONGEST, 1_000_000 - packing.LONGEST]
    assert texts.cut == 2


def test_inert_json_begins_no_markup() -> None:
    text = packing.inert({"a": "</script><!-- \u2028 &amp;"})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"a": "</script><!-- \u2028 &amp;"}


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_chunks_take_all_in_order_and_stay_below_the_limit(sizes: list[int], limit: int) -> None:
    chunks = list(examples.chunked(sizes, limit))
    assert [i for chunk in chunks for i in chunk] == list(range(len(sizes)))
    assert all(len(chunk) == 1 or sum(sizes[i] for i in chunk) <= limit for chunk in chunks)


# ---------------------------------------------------------------------- examples


def test_every_doc_of_every_run_is_there_as_the_run_has_it(
    tmp_path: Path, runs: dict[str, Run]
) -> None:
    written = write(tmp_path / "page.html", runs)
    assert (written.examples, written.left_out, written.texts_cut) == (
        DOCS * len(plugin.AUTOMATIC),
        0,
        0,
    )
    assert written.megabytes == pytest.approx(written.path.stat().st_size / 1e6)
    index, details = carried(written.path)
    columns = index["columns"]
    assert len(details) == written.examples == sum(index["chunks"])
    for i, detail in enumerate(details):
        task = plugin.AUTOMATIC[columns["task"][i]]
        query = index["queries"][columns["query"][i]]
        assert [a["run"] for a in detail["answers"]] == [0, 1, 2, 3]
        for answer, run in zip(detail["answers"], runs.values(), strict=True):
            sample = run.samples[task][columns["doc"][i]]
            assert sample["doc"]["query"] == query
            line = run.transcript_of(task)[columns["doc"][i]]
            sent = [s["prompt"] for s in line["sent"]]
            assert [whole(query, detail, s["prompt"]) for s in answer["sent"]] == sent
            if "distribution" in line:
                assert answer["distribution"] == [round(p, 3) for p in line["distribution"]]
                assert answer["top"] == int(np.argmax(line["distribution"]))
            else:
                assert whole(query, detail, [answer["response"]]) == line["response"]
            said = [(NAMES[m["community"]], whole(query, detail, [m["text"]]))
                    for m in detail["messages"] if answer["run"] in m["runs"]]  # fmt: skip
            assert set(said) == {(m["community"], m["text"]) for m in line.get("messages", [])}
            chosen = [
                (NAMES[c], whole(query, detail, [raw]), bool(f))
                for c, raw, f in answer["selections"]
            ]
            assert chosen == [
                (s["community"], s["raw"], s["fallback"]) for s in line.get("selections", [])
            ]


def test_scores_are_those_of_the_run(tmp_path: Path, runs: dict[str, Run]) -> None:
    index, details = carried(write(tmp_path / "page.html", runs).path)
    headline = {
        TASK: "coverage,coverage",
        f"{STEERABLE}_vk": "acc,none",
        f"{STEERABLE}_opinionqa": "match,none",
    }
    for number, run in enumerate(runs.values()):
        for t, task in enumerate(plugin.AUTOMATIC):
            rows = zip(details, index["columns"]["task"], strict=True)
            own = [detail["answers"][number]["score"] for detail, other in rows if other == t]
            wanted = run.results[task][headline.get(task, "jsd,none")]  # lm-eval's own mean
            assert np.mean(own) == pytest.approx(wanted, abs=0.0005)


def test_disagreement_is_the_largest_total_variation_or_the_spread_of_scores(
    tmp_path: Path, runs: dict[str, Run]
) -> None:
    index, _ = carried(write(tmp_path / "page.html", runs).path)
    columns = index["columns"]
    for i, t in enumerate(columns["task"]):
        task, doc = plugin.AUTOMATIC[t], columns["doc"][i]
        if task == TASK:
            scores = [run.samples[task][doc]["coverage"] for run in runs.values()]
            assert columns["measure"][i] == pytest.approx(max(scores) - min(scores), abs=0.0005)
            continue
        answers = [np.array(run.transcript_of(task)[doc]["distribution"]) for run in runs.values()]
        widest = max(np.abs(a - b).sum() / 2 for a in answers for b in answers)
        assert columns["measure"][i] == pytest.approx(widest, abs=0.0005)
        assert columns["differ"][i] == (len({int(a.argmax()) for a in answers}) > 1)


def test_what_is_irregular_can_be_found(tmp_path: Path, runs: dict[str, Run]) -> None:
    index, details = carried(write(tmp_path / "page.html", runs).path)
    columns, sets = index["columns"], index["sets"]

    def kinds(i: int) -> set[str]:
        return {index["kinds"][k] for k in sets[columns["kinds"][i]]}

    for i, doc in enumerate(columns["doc"]):
        mixed = index["tasks"][columns["task"][i]]["name"] in (
            "overton",
            "moralchoice",
            "globalopinionqa",
        )
        if doc == 1 and mixed:  # the second item of every file has an empty message of news_left
            assert "empty message" in kinds(i)
            assert 0 in sets[columns["odd"][i]]
    unread = [i for i in range(len(details)) if "selection not readable" in kinds(i)]
    fallbacks = [
        (line["task"], line["doc_id"]) for run in runs.values() for line in run.transcript
        if any(s["fallback"] for s in line.get("selections", []))
    ]  # fmt: skip
    assert unread
    assert {(plugin.AUTOMATIC[columns["task"][i]], columns["doc"][i]) for i in unread} == set(
        fallbacks
    )


def test_what_the_llm_answers_to_each_message_alone(tmp_path: Path, runs: dict[str, Run]) -> None:
    index, details = carried(write(tmp_path / "page.html", runs).path)
    for i, detail in enumerate(details):
        name = index["tasks"][index["columns"]["task"][i]]["name"]
        shares = [a["shares"] for a in detail["answers"] if "shares" in a]
        if name not in ("moralchoice", "globalopinionqa"):
            assert not shares
            continue
        (own,) = shares
        assert [c for c, _ in own] == list(range(6))
        mean = np.mean([values for _, values in own], axis=0)  # uniform priors, all were read
        assert mean == pytest.approx(np.array(detail["answers"][3]["distribution"]), abs=0.01)


def test_what_entails_what(tmp_path: Path, runs: dict[str, Run], words: None) -> None:
    verdicts = {label: entailed(run, "embedded") for label, run in runs.items()}
    index, details = carried(write(tmp_path / "page.html", runs, verdicts=verdicts).path)
    seen = 0
    for i, detail in enumerate(details):
        if plugin.AUTOMATIC[index["columns"]["task"][i]] != TASK:
            continue
        query = index["queries"][index["columns"]["query"][i]]
        for answer in detail["answers"]:
            found = answer["entailed"]
            texts = [whole(query, detail, [s]) for s in found["sentences"]]
            assert len(texts) == 3
            for sentence, values, by in zip(texts, found["values"], found["by"], strict=True):
                reasons = [whole(query, detail, [e]) for e in detail["explanations"]]
                assert values == [
                    v for v, e in enumerate(reasons) if _long_words(e) & _long_words(sentence)
                ]
                own = [
                    (m["community"], whole(query, detail, [m["text"]]))
                    for m in detail["messages"]
                    if answer["run"] in m["runs"]
                ]
                assert by == [c for c, text in own if _long_words(text) & _long_words(sentence)]
                seen += len(by)
            # one rule decides here and in the run's own verdict
            covered = {v for values in found["values"] for v in values}
            assert [v in covered for v in range(len(detail["values"]))] == [
                bool(c) for c in answer["coverage"][0]["covered"]
            ]
    assert seen


def test_a_run_without_a_transcript_still_has_its_verdicts(
    runs: dict[str, Run], words: None
) -> None:
    (found,) = entailed(replace(runs["moe"], transcript=[]), "embedded").values()
    assert all(not e.communities and len(e.covers) == len(e.sentences) == 3 for e in found.values())
    assert entailed(replace(runs["moe"], samples={}), "embedded") == {}


def test_runs_over_other_docs_are_examples_of_their_own(
    tmp_path: Path, runs: dict[str, Run]
) -> None:
    samples = [
        {**s, "doc": {**s["doc"], "query": "Something else?"}} for s in runs["moe"].samples[TASK]
    ]
    other = replace(runs["moe"], samples={TASK: samples})
    index, details = carried(
        write(tmp_path / "p.html", {"vanilla": runs["vanilla"], "other": other}).path
    )
    overton = [
        d
        for d, t in zip(details, index["columns"]["task"], strict=True)
        if index["tasks"][t]["name"] == "overton"
    ]
    assert [[a["run"] for a in d["answers"]] for d in overton] == [[0], [1]] * DOCS


def test_samples_of_other_tasks_and_models_are_shown_as_well(tmp_path: Path) -> None:
    foreign = {
        "doc_id": 0, "doc": {"question": "2 + 2?"}, "arguments": {"gen_args_0": {"arg_0": "Q: 2 + 2?"}},
        "resps": [["four"]], "filtered_resps": ["four"],
    }  # fmt: skip
    run = Run("hf", tmp_path / "results.json", {"model": "hf"}, {}, {"gsm8k": [foreign]}, [])
    index, (detail,) = carried(write(tmp_path / "p.html", {"hf": run}, paired=[]).path)
    assert index["queries"] == ["Q: 2 + 2?"]
    assert whole("", detail, [detail["answers"][0]["response"]]) == "four"
    assert index["tasks"][0]["title"] == "gsm8k"


# ---------------------------------------------------------------------- size


def many(runs: dict[str, Run], times: int) -> dict[str, Run]:
    """The same docs again and again, under other numbers and with other questions."""
    return {
        label: replace(run, transcript=[], samples={
            task: [
                {**s, "doc_id": n * DOCS + s["doc_id"], "doc": {**s["doc"], "query": f"{n} {s['doc']['query']}"}}
                for n in range(times) for s in samples
            ]
            for task, samples in run.samples.items()
        })
        for label, run in runs.items()
    }  # fmt: skip


def test_too_many_examples_are_left_out_of_every_task_alike_and_it_says_so(
    tmp_path: Path, runs: dict[str, Run]
) -> None:
    lots = many(runs, 60)
    full = write(tmp_path / "full.html", lots)
    empty = write(tmp_path / "few.html", many(runs, 1))
    limit = (full.megabytes + empty.megabytes) / 2
    some = write(tmp_path / "some.html", lots, max_megabytes=limit)
    assert some.megabytes <= limit < full.megabytes
    assert some.examples + some.left_out == full.examples == 60 * DOCS * 5
    index, details = carried(some.path)
    per_task = np.bincount(index["columns"]["task"])
    assert len(details) == per_task.sum() == some.examples
    assert per_task.max() - per_task.min() <= 1
    assert 0.3 < some.examples / full.examples < 0.7
    text = some.path.read_text(encoding="utf-8")
    assert f"{some.examples:,} of {full.examples:,} examples are on this page" in text
    assert "examples are on this page" not in full.path.read_text(encoding="utf-8")
    again = write(tmp_path / "again.html", lots, max_megabytes=limit)
    assert again.path.read_bytes() == some.path.read_bytes()


def test_a_cut_text_is_counted_on_the_page(tmp_path: Path, runs: dict[str, Run]) -> None:
    samples = {TASK: [*runs["vanilla"].samples[TASK]]}
    samples[TASK][0] = {**samples[TASK][0], "filtered_resps": [
        {**page.entailed.verdict_of(samples[TASK][0]), "response": "long " * 100_000}]}  # fmt: skip
    written = write(tmp_path / "p.html", {"v": replace(runs["vanilla"], samples=samples)})
    assert written.texts_cut == 1
    assert "1 text is longer than 20,000 characters" in written.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("page.txt", {}, "ending in .html"),
        ("page.html", {"runs": {}}, "at least 1 run"),
        ("page.html", {"max_megabytes": 0.01}, "raise it"),
        ("taken/page.html", {}, "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_one_error(
    tmp_path: Path, runs: dict[str, Run], name: str, given: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    content: dict[str, Any] = {
        "runs": runs,
        "tables": [],
        "figures": [],
        "paired": [],
        "verdicts": {},
    }
    with pytest.raises(PluralismError, match=complaint):
        page.write(tmp_path / name, "t", **(content | given))
    assert not (tmp_path / "page.html").exists()


# ---------------------------------------------------------------------- what stands on the page


def test_the_policy_allows_just_what_is_there(tmp_path: Path, runs: dict[str, Run]) -> None:
    import hashlib

    text = write(tmp_path / "page.html", runs).path.read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert 'style="' not in text
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "<title>A &lt;title&gt;</title>" in text
    assert "Coverage &lt;b&gt;" in text
    assert 'aria-label="Bars &quot;of&quot; coverage"' in text


def test_tables_say_what_is_best_and_what_stands_apart() -> None:
    table = Table(
        "t", "Scores", (Column("Match", True), Column("J-S", False)),
        (
            Row("a_b", (Number(0.25, 0.1, 0.4, 7, "*", True), Number(math.nan)), section="M"),
            Row("uniform", (Number(0.5), None), "baseline", "M"),
            Row("paper's", (Number(0.75), None), "paper", "N"),
        ),
        ("* significant",),
    )  # fmt: skip
    text = markup.scores_table(table)
    assert (
        '<strong>0.250</strong><span class="sr"> (best)</span><sup>*</sup> <span class="interval">[0.10, 0.40]</span>'
        in text
    )
    assert 'data-value="0.25" title="7 docs"' in text
    assert text.count("<tbody>") == 2
    assert text.count('scope="rowgroup"') == 2
    assert "higher is better" in text
    assert "lower is better" in text
    assert '<tr class="row-baseline">' in text
    assert " (paper)" in text
    assert "<li>* significant</li>" in text
    assert text.count("no value") == 3


@given(st.text())
def test_text_is_escaped_and_shows_what_is_invisible(value: str) -> None:
    found = markup.text(value)
    assert not set(found) & set("<>\"'")
    assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e\u2066-\u2069]", found)


def test_controls_are_shown_by_their_signs() -> None:
    assert markup.text("a\x00b\u202ec\x7f\ufeff") == "a␀b[U+202E]c␡[U+FEFF]"


def test_irregularities_tell_zero_from_not_zero(runs: dict[str, Run]) -> None:
    text = irregular.irregularities(runs)
    rate = runs["modular_pluralism"].ours["rates"][TASK]["empty_messages"]
    assert 0 < rate < 1
    assert f'<td class="number some"><span>{rate:.1%}'.replace("%", " %") in text
    assert '<td class="number zero">0</td>' in text
    assert "does not apply" in text  # vanilla has no messages
    api = {"requests": 12, "rate_limited": 3, "models": {"m": 12}}
    served = replace(runs["vanilla"], config={"pluralism": {"api": api, "rates": {}}})
    both = irregular.irregularities({"served": served, "moe": runs["moe"]})
    assert "Requests to servers" in both
    assert "rate limited" in both
    assert "m × 12" in both
    assert "keep no rates" in irregular.irregularities({"hf": replace(served, config={})})


def test_provenance_names_versions_hashes_and_communities(runs: dict[str, Run]) -> None:
    run = runs["modular_pluralism"]
    text = facts.provenance(runs)
    results = json.loads(run.path.read_text())
    for wanted in (
        run.ours["fingerprint"], results["lm_eval_version"], results["transformers_version"],
        *results["task_hashes"].values(), *NAMES, str(run.ours["seed"]),
    ):  # fmt: skip
        assert str(wanted) in text
    assert str(run.path.parent) not in text  # the transcript by its name alone
    gone = facts.provenance({"moved": replace(run, path=Path("gone.json"))})
    assert run.ours["fingerprint"] in gone


def _contrast(first: str, second: str) -> float:
    """Of two colours ``#rrggbb``, as the Web Content Accessibility Guidelines define it; from 1 to 21."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(first), light(second)))
    return (high + 0.05) / (low + 0.05)


def test_text_is_readable_by_day_and_by_night() -> None:
    css = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r"\{([^{}]*--ink:[^{}]*)\}", css)
    ]
    assert len(schemes) == 3
    assert schemes[1] == schemes[2] != schemes[0]  # dark by the system, dark by the button
    for colours in schemes:
        for ink in ("ink", "soft", "accent", "good"):
            for ground in ("paper", "card", "shade"):
                assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert _contrast(colours["on-some"], colours["some"]) >= 4.5
        for ground in ("paper", "card"):  # bars and the sign of what is irregular
            assert min(_contrast(colours[c], colours[ground]) for c in ("c0", "c1", "bar")) >= 3
