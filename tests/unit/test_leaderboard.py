"""Submissions: what they say, every way of tampering with one, and how the leaderboard ranks them."""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from pluralism_eval.commands import leaderboard as leaderboard_command
from pluralism_eval.commands import submit as submit_command
from pluralism_eval.commands import verify as verify_command
from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import INPUTS, input_file, long_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import board, inputs, pages, reported, samples, schema, submit
from pluralism_eval.leaderboard.checks import How
from pluralism_eval.leaderboard.recompute import rescored
from pluralism_eval.leaderboard.verify import Verdict, verify, verify_each
from pluralism_eval.metrics import classification, coverage, options
from pluralism_eval.plugin import AUTOMATIC
from pluralism_eval.report.tabular import Column, Number
from pluralism_eval.reproduce import paper
from pluralism_eval.results import read_run
from pluralism_eval.scoring import summarise
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs

SCORES: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "overton": coverage.overton, "vk": classification.vk, "opinionqa": options.opinionqa,
    "moralchoice": options.moralchoice, "globalopinionqa": options.globalopinionqa,
}  # fmt: skip
OVK, MC = "pluralism_overton_nli", "pluralism_distributional_moralchoice"
FAST = ("overton", "moralchoice")
MODULES = (submit_command, verify_command, leaderboard_command)


def make_run(
    folder: Path,
    tasks: Iterable[str] = FAST,
    n: int = 5,
    seed: int = 0,
    data: str = "sample",
    preset: str = "paper",
    bounds: bool = False,
    docs: list[dict[str, Any]] | None = None,
    **ours: Any,
) -> Path:
    """What lm-eval leaves of a run, with answers drawn at random.

    Args:
        bounds: responses of a server that hides a tenth of every probability, from 50 samples.
        docs: instead of those that the input file gives.
    """
    method = "vanilla"
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    results: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for task in tasks:
        path, common = input_file(task, data), {"preset": preset, "orders_given": None}
        common |= {"nli": "embedded", "nli_directions": "one"} if task == "overton" else {}
        common |= {"input": path.stem.removesuffix("_small")}
        used = (docs or build_docs(task, read_items(path), common, path.name))[:n]
        logged = [_sample(task, i, doc, rng, bounds) for i, doc in enumerate(used)]
        name, of = long_name(task), "coverage" if task == "overton" else "none"
        sizes[name] = len(used)
        lines = "".join(json.dumps(row) + "\n" for row in logged)
        (folder / f"samples_{name}_2026-01-02.jsonl").write_text(lines)
        results[name] = {"alias": name}
        for s in summarise(task, logged):
            results[name][f"{s.name},{of}"] = s.value
            results[name][f"{s.name}_stderr,{of}"] = "N/A" if s.baseline else s.stderr
    config = {
        "model": method, "model_args": {"llm": "scripted", "seed": 7, "transcript": "/home/someone/t.jsonl"},
        "limit": n, "gen_kwargs": {"max_gen_toks": 64},
        "pluralism": {"method": method, "llm": "scripted(model=ORG/tiny)", "version": "0.1.0", "rates": {MC: {"docs": sizes.get(MC, 0)}},
                      "fingerprint": f"{seed:064x}", "preset": "paper", **ours},
    }  # fmt: skip
    raw = {
        "results": results, "config": config, "date": 1767312000.0 + seed, "lm_eval_version": "0.4.13",
        "configs": {name: {"metadata": {"data": data, "version": 1.0}} for name in results},
        "versions": dict.fromkeys(results, 1.0), "n-shot": dict.fromkeys(results, 0), "pretty_env_info": "PyTorch version: 2.6\n",
    }  # fmt: skip
    (folder / "results_2026-01-02.json").write_text(json.dumps(raw))
    return folder


def _sample(
    task: str, i: int, doc: dict[str, Any], rng: np.random.Generator, bounds: bool
) -> dict[str, Any]:
    if task == "overton":
        response = f"This is answer {i}. It has two sentences."
        resps, results = [[response]], [verdict(doc, response, rng)]
        filtered: Any = [repr(results[0])]
    else:
        values = np.log(rng.dirichlet(np.ones(len(doc["letters"]))) * 0.9).tolist()
        more = [(math.exp(v) * 0.9, 50.0) if bounds else () for v in values]
        results = [(v, False, *m) for v, m in zip(values, more, strict=True)]
        filtered = [[str(part) for part in result] for result in results]
        resps = [[texts] for texts in filtered]
    scores = SCORES[task](doc, results)
    return {"doc_id": i, "doc": doc, "resps": resps, "filtered_resps": filtered,
            "filter": "coverage" if task == "overton" else "none", **scores}  # fmt: skip


def verdict(doc: dict[str, Any], response: str, rng: np.random.Generator) -> dict[str, Any]:
    n = len(doc["explanations"])

    def reading(pairs: int) -> dict[str, Any]:
        chance = rng.random(n)
        return {"covered": [bool(p > 0.5) for p in chance], "entailment": chance.tolist(), "pairs": pairs, "unread": 0}  # fmt: skip

    own = {"nli": "embedded", "nli_check": (0.5, 66), **reading(2 * n), "reversed": None}
    return {"response": response, "n_sentences": 2, "nli": "embedded", "nli_check": (0.5, 66),
            "scorers": [own], "echo": reading(n)}  # fmt: skip


def call(*argv: str) -> int:
    """The commands as the command line calls them; its exit status."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for module in MODULES:
        module.add(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.action(arguments)
    except SystemExit as stop:
        return int(str(stop.code))
    return 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good submission of two tasks."""
    folder = tmp_path_factory.mktemp("made")
    made = submit.make(read_run(make_run(folder / "run")), by="us")
    return submit.write(made, folder / "submissions")


@pytest.fixture
def good(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(made, tmp_path / "submissions" / made.name))


# ---------------------------------------------------------------------- submit


def test_a_submission_says_what_its_run_was(good: Path, tmp_path: Path) -> None:
    content = schema.load(good)
    part = content["tasks"][MC]
    rows, _ = samples.read_packed(good / part["samples"]["file"])
    predicted = [np.exp([float(r[0][0]) for r in row["resps"]]) for row in rows]
    byhand = [jensenshannon(p, row["doc"]["gold"]) for p, row in zip(predicted, rows, strict=True)]
    assert part["scores"]["jsd"]["value"] == pytest.approx(np.mean(byhand), abs=1e-9)
    assert part["scores"]["jsd"]["low"] < np.mean(byhand) < part["scores"]["jsd"]["high"]
    assert part["docs"] | {"sha256": ""} == {"n": 5, "of": 40, "clusters": 5, "sha256": ""}
    assert part["input"]["data"] == "sample"
    assert not part["input"]["is_authors"]
    assert content["name"] == "vanilla, tiny"
    assert content["environment"] | {"git_hash": None} == {
        "pluralism_eval": "0.1.0", "lm_eval": "0.4.13", "transformers": None, "torch": "2.6", "python": None,
        "git_hash": None, "date": "2026-01-02T00:00:00Z",
    }  # fmt: skip
    assert "--limit 5" in content["command"]
    assert "/home/someone" not in (good / schema.FILE).read_text()
    assert content["configuration"]["model_args"] == {"llm": "scripted", "seed": 7}


def test_secrets_and_places_of_the_submitter_stay_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "verysecretvalue")
    run = make_run(
        tmp_path / "run", ["moralchoice"], llm="hf(pretrained=/home/someone/models/llama)"
    )
    file = run / "results_2026-01-02.json"
    raw = json.loads(file.read_text())
    raw["config"]["model_args"] |= {
        "llm_args": {"pretrained": "/home/someone/models/llama", "api_key": "sk-aaaaaaaaaaaaaaaaaaaaa"},
        "prompts": "~/mine/prompts.yaml",
    }  # fmt: skip
    file.write_text(json.dumps(raw))
    made = submit.make(read_run(run), note="by verysecretvalue, from /home/someone/x/y")
    text = schema.write(made.content)
    for word in ("someone", "sk-aaaa", "verysecret", "~/mine"):
        assert word not in text
    assert made.content["system"]["llm"] == "hf(pretrained=llama)"
    assert made.content["configuration"]["model_args"]["prompts"] == "prompts.yaml"


def test_the_same_run_gives_the_same_bytes_and_is_taken_once(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    assert call("submit", str(run), "--by", "us", "--output", str(tmp_path / "again")) == 0
    assert "docs: 5 of 26 (partial), data: sample" in capsys.readouterr().out
    folder = tmp_path / "again" / good.name
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in good.iterdir()
    }
    assert (folder / "samples_overton.jsonl.gz").read_bytes()[4:8] == bytes(4)  # gzip's time
    with pytest.raises(PluralismError, match=rf"submitted already.*{good.name}"):
        call("submit", str(run), "--name", "other", "--output", str(tmp_path / "again"))
    assert [p.name for p in (tmp_path / "again").iterdir()] == [good.name]


def test_a_run_that_disagrees_with_its_samples_is_refused_with_every_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = run / "results_2026-01-02.json"
    raw = json.loads(file.read_text())
    raw["results"][MC]["jsd,none"] += 0.01
    raw["results"][OVK]["coverage_stderr,coverage"] = 0.5
    del raw["results"][OVK]["coverage_echo,coverage"]
    file.write_text(json.dumps(raw))
    with pytest.raises(PluralismError) as error:
        submit.make(read_run(run))
    text = str(error.value)
    assert "3 problem(s)" in text
    assert re.search(
        rf"{MC}: jsd,none is 0\.\d+ from the samples, the results file says 0\.\d+", text
    )
    assert re.search(rf"{OVK}: coverage_stderr,coverage is .* says 0\.5", text)
    assert f"{OVK}: the results file has no coverage_echo,coverage" in text


def test_samples_that_disagree_with_their_responses_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = next(run.glob(f"samples_{MC}_*"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[2]["jsd"], rows[3]["entropy"] = 0.0123, 0.5
    del rows[4]["resps"]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(PluralismError, match="doc 4: KeyError 'resps'"):
        submit.make(read_run(run))
    rows[4] = json.loads(json.dumps(rows[3] | {"doc_id": 4}))
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(PluralismError, match=r"doc 2 \(id \w+\): jsd is .* logged 0\.0123"):
        submit.make(read_run(run))


def test_what_cannot_be_submitted_is_one_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for file in run.glob("samples_*"):
        file.unlink()
    with pytest.raises(PluralismError) as error:
        submit.make(read_run(run), name="x" * 200)
    assert "3 problem(s)" in str(error.value)
    assert "--name has 200 characters; at most 120" in str(error.value)
    assert f"{OVK}: no samples; run it with --log_samples" in str(error.value)
    file = run / "results_2026-01-02.json"
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {"results": {"arc": {}}}))
    with pytest.raises(PluralismError, match="no automatic task among arc"):
        submit.make(read_run(run))


def test_samples_of_an_older_version_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["moralchoice"])
    file = next(run.glob("samples_*"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    old = [{k: v for k, v in row.items() if not k.startswith("jsd_lower")} for row in rows]
    file.write_text("".join(json.dumps(r) + "\n" for r in old))
    with pytest.raises(PluralismError, match=r"samples lack jsd_lower.*another version"):
        submit.make(read_run(run))


def test_an_interrupted_submission_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submit.make(read_run(make_run(tmp_path / "run", ["moralchoice"])))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pluralism_eval.leaderboard.submit.os.rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            submit.write(made, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert verify(submit.write(made, tmp_path / "out")).status == "verified"


def test_whoever_is_slower_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = submit.make(read_run(make_run(tmp_path / "run", ["moralchoice"])))
    real = submit.os.rename

    def beaten(scratch: Path, target: Path) -> None:
        shutil.copytree(scratch, target)
        real(scratch, target)

    monkeypatch.setattr("pluralism_eval.leaderboard.submit.os.rename", beaten)
    with pytest.raises(PluralismError, match="submitted already"):
        submit.write(made, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [made.slug]


def test_without_samples_only_whoever_has_them_can_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    assert call("submit", str(run), "--no-samples", "--output", str(tmp_path / "out")) == 0
    (folder,) = submit.folders(tmp_path / "out")
    assert [p.name for p in folder.iterdir()] == [schema.FILE]
    assert call("verify", str(folder)) == 1
    assert "=> not verified" in capsys.readouterr().out
    assert call("verify", str(folder), "--samples", str(run)) == 0
    assert "=> verified" in capsys.readouterr().out
    other = make_run(tmp_path / "other", seed=1)
    assert call("verify", str(folder), "--samples", str(other)) == 1
    assert "=> rejected" in capsys.readouterr().out


# ---------------------------------------------------------------------- verify


def test_a_good_submission_is_verified_and_says_what_is_not_proven(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", str(good)) == 0
    out = capsys.readouterr().out
    assert "=> verified" in out
    assert "coverage by the recorded verdicts" in out
    assert "What this cannot prove" in out
    assert "gold answers included" in out


Rows = dict[str, list[dict[str, Any]]]


def rewrite(folder: Path, change: Callable[[dict[str, Any], Rows], None], forge: bool) -> None:
    """``change``s content and rows; ``forge`` then makes all scores and hashes agree with the rows."""
    content = schema.load(folder)
    rows = {t: samples.read_packed(folder / samples.file_name(t))[0] for t in FAST}
    change(content, rows)
    for task in FAST:
        (folder / samples.file_name(task)).write_bytes(samples.packed(rows[task]))
        if forge:
            scored, _ = rescored(task, rows[task])
            for row, own in zip(rows[task], scored, strict=True):
                row |= {k: own[k] for k in samples.HEADLINE[task]}
            (folder / samples.file_name(task)).write_bytes(samples.packed(rows[task]))
            source = inputs.at_hand(task, "sample")
            assert source is not None
            fresh = submit.task_content(task, rows[task], summarise(task, scored), source, content["tasks"][long_name(task)]["docs"]["of"])  # fmt: skip
            part = content["tasks"][long_name(task)]
            fresh["samples"]["file"] = part["samples"]["file"]
            part |= {k: fresh[k] for k in ("docs", "scores", "baselines", "samples")}
    if forge:
        content["identity"] = submit.identity_of(content["hashes"]["fingerprint"], content["tasks"])
    (folder / schema.FILE).write_text(schema.write(content))


def place(*path: Any, value: Any) -> Callable[[dict[str, Any], Rows], None]:
    """Sets ``content["tasks"]...``; a function of the old value, or a value."""

    def change(content: dict[str, Any], rows: Rows) -> None:
        at = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value(at[path[-1]]) if callable(value) else value

    return change


def in_row(task: str, i: int, *path: Any, value: Any) -> Callable[[dict[str, Any], Rows], None]:
    return lambda content, rows: place(*path, value=value)(rows[task][i], {})


def in_rows(task: str, change: Callable[[list[Any]], Any]) -> Callable[[dict[str, Any], Rows], None]:  # fmt: skip
    def apply(content: dict[str, Any], rows: Rows) -> None:
        rows[task] = change(rows[task])

    return apply


OTHER = "0" * 64
SCORE = ("tasks", MC, "scores", "jsd")
TAMPERED = [
    ("a score", place(*SCORE, "value", value=0.01), r"scores .*moralchoice: 1 wrong.*jsd\.value: expected 0\.\d+, found 0\.01"),
    ("a score by little", place(*SCORE, "value", value=lambda v: v - 0.00001), r"jsd\.value: expected"),
    ("a score is gone", place(*SCORE, "value", value=None), r"jsd\.value: expected 0\.\d+, found nothing"),
    ("an end", place(*SCORE, "low", value=lambda v: v + 0.01), r"jsd\.low: expected"),
    ("the other end", place(*SCORE, "high", value=None), r"jsd\.high: expected 0\.\d+, found nothing"),
    ("a standard error", place(*SCORE, "stderr", value=0.0), r"jsd\.stderr: expected 0\.\d+, found 0"),
    ("a number of docs", place(*SCORE, "n", value=4000), r"jsd\.n: expected 5, found 4000"),
    ("which way is better", place(*SCORE, "higher_is_better", value=True), r"jsd\.higher_is_better: expected False, found True"),
    ("a baseline", place("tasks", MC, "baselines", "jsd_uniform", "value", value=0.8), r"jsd_uniform\.value: expected 0\.\d+, found 0\.8"),
    ("an extra score", place("tasks", MC, "scores", value=lambda s: s | {"beauty": s["jsd"]}), r"beauty: no score of this task"),
    ("a score less", place("tasks", MC, "scores", value=lambda s: {k: v for k, v in s.items() if k != "kl"}), r"kl: expected in scores, found nothing"),
    ("docs", place("tasks", MC, "docs", "n", value=40), r"samples\.rows: expected 40, found 5"),
    ("docs and rows", lambda c, r: [place("tasks", MC, "docs", "n", value=40)(c, r), place("tasks", MC, "samples", "rows", value=40)(c, r)], r"rows: expected 40, found 5"),
    ("docs of the input", place("tasks", MC, "docs", "of", value=5), r"docs\.of: expected 40, found 5"),
    ("clusters", place("tasks", MC, "docs", "clusters", value=4), r"docs\.clusters: expected 5, found 4"),
    ("docs hash", place("tasks", MC, "docs", "sha256", value=OTHER), r"docs\.sha256: expected 0{64}"),
    ("samples hash", place("tasks", MC, "samples", "sha256", value=OTHER), r"sha256: expected 0{64}"),
    ("fingerprint", place("hashes", "fingerprint", value=OTHER[::-1].replace("0", "1")), r"identity: expected"),
    ("identity", place("identity", value=OTHER), r"identity: expected [0-9a-f]{64} \(of its hashes\), found 0{64}"),
    ("what data it is", place("tasks", MC, "input", "data", value="authors"), r"input\.data: expected sample, found authors"),
    ("the input", place("tasks", MC, "input", "blob", value=INPUTS["moralchoice"][1]), r"input\.is_authors: expected True, found False"),
    ("whether it is the authors'", place("tasks", MC, "input", "is_authors", value=True), r"input\.is_authors: expected False, found True"),
    ("the preset", place("tasks", MC, "setting", "preset", value="reference"), r"setting\.preset: expected paper \(its docs\), found reference"),
    ("the scorer", place("tasks", OVK, "setting", "nli", value="vitaminc"), r"setting\.nli: expected embedded \(its docs\), found vitaminc"),
    ("a rate", place("tasks", MC, "rates", "docs", value=6), r"rates .*docs: expected 5, found 6"),
    ("a response", in_row("moralchoice", 2, "resps", 0, 0, 0, value="-0.0001"), r"doc 2 \(id \w+\): jsd is 0\.\d+ from its responses, logged 0\.\d+"),
    ("no log-probability", in_row("moralchoice", 2, "resps", 0, 0, 0, value="nan"), r"doc 2 .* log-probability 'nan' must be 0 or less"),
    ("responses missing", in_row("moralchoice", 2, "resps", value=[]), r"doc 2 .* 0 responses for 2 options"),
    ("a gold answer", in_row("moralchoice", 1, "doc", "gold", value=[0.0, 1.0]), r"doc 1 \(id \w+\): gold is \[0\.5, 0\.5\] in the input file, \[0\.0, 1\.0\] in the sample"),
    ("no gold answer", in_row("moralchoice", 1, "doc", value=lambda d: {k: v for k, v in d.items() if k != "gold"}), r"doc 1 .* KeyError 'gold'"),
    ("a query", in_row("moralchoice", 1, "doc", "query", value="Which?"), r"doc 1 .*query is .*, Which\? in the sample"),
    ("an explanation", in_row("overton", 0, "doc", "explanations", 0, value="It entails all."), r"doc 0 .*explanations is"),
    ("a verdict", in_row("overton", 3, "verdict", "scorers", 0, "covered", 0, value=lambda v: not v), r"doc 3 .*(contradicts its entailment|coverage is)"),
    ("verdicts of another response", in_row("overton", 3, "resps", 0, 0, value="Another one."), r"doc 3 .*the verdicts are about another response"),
    ("verdicts left out", in_row("overton", 3, "verdict", "scorers", value=[]), r"doc 3 .*not of the scorers"),
    ("sentences", in_row("overton", 3, "verdict", "n_sentences", value=9), r"doc 3 .*2 sentences, its verdicts are about 9"),
    ("a row less", in_rows("moralchoice", lambda r: r[:-1]), r"rows: expected 5, found 4"),
    ("a row twice", in_rows("moralchoice", lambda r: [*r, r[0]]), r"row 5: doc 0 occurs twice"),
    ("another order", in_rows("moralchoice", lambda r: r[::-1]), r"row 1: doc 3 comes after doc 4"),
    ("no rows", in_rows("moralchoice", lambda r: []), r"rows: expected 5, found 0"),
    ("a doc that is none", in_row("moralchoice", 4, "doc_id", value=4000), r"doc 4000: .* has 40 docs"),
    ("deep text as resps", in_row("moralchoice", 2, "resps", 0, value="ab"), r"doc 2 .* cannot be scored"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "found"), [t[1:] for t in TAMPERED], ids=[t[0] for t in TAMPERED])  # fmt: skip
def test_tampering_is_found_and_named(
    change: Any, found: str, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(good, change, forge=False)
    assert call("verify", str(good)) == 1
    out = capsys.readouterr().out
    assert "=> rejected" in out
    assert re.search(found, out, re.DOTALL), out


def test_a_gold_answer_forged_with_all_scores_is_found_by_the_input_file_alone(good: Path) -> None:
    def change(content: dict[str, Any], rows: Rows) -> None:
        rows["moralchoice"][1]["doc"] |= {"gold": [0.0, 1.0], "target": 1}

    rewrite(good, change, forge=True)
    found = verify(good)
    assert [c.what for c in found.checks if c.status == "wrong"] == [f"docs {MC}"]
    assert any("gold is [0.5, 0.5] in the input file" in reason for reason in found.reasons())
    unseen = verify(good, How(data=str(good)))  # a folder without input files
    assert unseen.status == "verified"
    assert any(c.what == f"docs {MC}" and c.status == "unchecked" for c in unseen.checks)


def test_a_verdict_forged_with_all_scores_is_found_by_the_scorer_alone(
    made: Path, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = samples.read_packed(made / samples.file_name("overton"))[0]

    def again(self: Any, resps: Any, docs: Any) -> list[Any]:
        assert {d["pluralism"]["nli"] for d in docs} == {"embedded"}
        return [row["verdict"] for row in honest]

    monkeypatch.setattr(coverage.CoverageFilter, "apply", again)

    def change(content: dict[str, Any], rows: Rows) -> None:
        reading = rows["overton"][3]["verdict"]["scorers"][0]
        reading["covered"] = [True] * len(reading["covered"])
        reading["entailment"] = [0.9] * len(reading["entailment"])

    rewrite(good, change, forge=True)
    assert call("verify", str(good)) == 0  # the scorer was not asked, and that is said
    assert "as recorded; --rescore" in capsys.readouterr().out
    assert call("verify", str(good), "--rescore") == 1
    out = capsys.readouterr().out
    assert re.search(r"doc 3 \(id \w+\), value \d+ \(.+\): embedded: covered False by the scorer, True recorded", out)  # fmt: skip
    assert call("verify", str(made), "--rescore") == 0


def test_a_submission_does_not_choose_what_is_loaded_here(good: Path) -> None:
    def change(content: dict[str, Any], rows: Rows) -> None:
        for row in rows["overton"]:
            row["doc"]["pluralism"]["nli"] = row["verdict"]["nli"] = (
                "llm:openai:base_url=http://evil"
            )
            row["verdict"]["scorers"][0]["nli"] = "llm:openai:base_url=http://evil"
        content["tasks"][OVK]["setting"]["nli"] = "llm:openai:base_url=http://evil"

    rewrite(good, change, forge=True)
    (check,) = [c for c in verify(good, How(rescore=True)).checks if c.what.startswith("verdicts")]
    assert check.status == "unchecked"
    assert "if you trust it, give --nli" in check.seen


def test_every_task_is_verified_also_by_what_a_server_hid(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", INPUTS, 8, bounds=True)
    folder = submit.write(submit.make(read_run(run)), tmp_path / "out")
    found = verify(folder)
    assert found.status == "verified", found.reasons()
    assert {task for task, part in found.content["tasks"].items() if part["scores"]} == set(
        AUTOMATIC
    )
    jsd = found.content["tasks"][MC]["baselines"]
    assert jsd["jsd_upper"]["value"] > jsd["jsd_lower"]["value"] + 0.01
    assert jsd["jsd_sampling_error"]["value"] > 0


def test_the_reference_preset_is_verified_by_its_own_rules(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", preset="reference")
    folder = submit.write(submit.make(read_run(run)), tmp_path / "out")
    found = verify(folder)
    assert found.status == "verified", found.reasons()
    scores = found.content["tasks"][OVK]["scores"]
    assert scores["coverage"] == scores["coverage_probability"] != scores["coverage_argmax"]


@needs_authors_inputs
def test_released_inputs_of_another_version_are_other_data(tmp_path: Path) -> None:
    data = str(AUTHORS_INPUTS)
    run = make_run(tmp_path / "run", ["moralchoice"], 10_000, data=data)
    folder = submit.write(submit.make(read_run(run)), tmp_path / "out")
    part = schema.load(folder)["tasks"][MC]
    assert (part["input"]["data"], part["docs"]["n"]) == ("other", part["docs"]["of"])
    assert part["docs"]["n"] == len(read_items(input_file("moralchoice", data)))
    seen = {how.data: verify(folder, how) for how in (How(), How(data=data))}
    assert [v.status for v in seen.values()] == ["verified", "verified"]
    checks = [next(c.status for c in v.checks if c.what == f"docs {MC}") for v in seen.values()]
    assert checks == ["unchecked", "ok"]
    sections = [board.build([v]).sections[0] for v in seen.values()]
    assert [s.title for s in sections] == ["Other input files, complete"] * 2
    assert [board.UNCOMPARED in s.rows[0].cells[0].mark for s in sections if s.rows[0].cells[0]] == [True, False]  # fmt: skip


@needs_authors_inputs
def test_items_that_were_dropped_are_not_missed(tmp_path: Path) -> None:
    data = f"cleaned:{AUTHORS_INPUTS}"
    source = inputs.at_hand("opinionqa", data)
    assert source is not None
    docs = inputs.docs_of(
        "opinionqa",
        source,
        {"input": "steerable_test_opinionqa", "preset": "paper", "orders_given": None},
    )
    whole = read_items(source.path)
    run = make_run(tmp_path / "run", ["opinionqa"], 60, data=str(AUTHORS_INPUTS), docs=docs)
    folder = submit.write(submit.make(read_run(run), data=data), tmp_path / "out")
    part = schema.load(folder)["tasks"]["pluralism_steerable_opinionqa"]
    assert part["docs"]["of"] == len(docs) < len(whole)
    assert part["input"]["damaged_dropped"]
    found = verify(folder, How(data=str(AUTHORS_INPUTS)))
    assert found.status == "verified", found.reasons()
    assert all(c.status == "ok" for c in found.checks if c.what.startswith("docs"))


def test_another_version_is_said_where_scores_differ(good: Path) -> None:
    rewrite(good, place(*SCORE, "value", value=0.01), forge=False)
    assert all(c.what != "version" for c in verify(good).checks)
    rewrite(good, place("environment", "pluralism_eval", value="0.0.9"), forge=False)
    assert any(c.what == "version" and "made by 0.0.9" in c.seen for c in verify(good).checks)


# ---------------------------------------------------------------------- files that are no submissions


def _text(change: Callable[[str], str]) -> Callable[[Path], Any]:
    return lambda folder: (folder / schema.FILE).write_text(change((folder / schema.FILE).read_text()))  # fmt: skip


def _packed(content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / samples.file_name("moralchoice")).write_bytes(content)


def _first(key: str, value: str) -> Callable[[Path], Any]:
    return _text(lambda text: re.sub(rf'"{key}": [^,\n]*', f'"{key}": {value}', text, count=1))


def _link(folder: Path) -> None:
    file = folder / samples.file_name("moralchoice")
    file.rename(folder.parent / "elsewhere.gz")
    file.symlink_to(folder.parent / "elsewhere.gz")


BROKEN: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no object", _text(lambda t: "[1]"), "must be a JSON object"),
    ("a number", _text(lambda t: "1e400"), "must be a JSON object"),
    ("cut off", _text(lambda t: t[:900]), "no JSON"),
    ("deep", _text(lambda t: "[" * 200_000), "no JSON"),
    ("not UTF-8", lambda f: (f / schema.FILE).write_bytes(b"\xff\xfe{}"), "cannot be read"),
    ("NaN", _first("value", "NaN"), "NaN is no JSON number"),
    ("Infinity", _first("value", "-Infinity"), "-Infinity is no JSON number"),
    ("a key twice", _text(lambda t: t.replace('"by"', '"name"', 1)), "'name' stands twice"),
    ("gone", lambda f: (f / schema.FILE).unlink(), "submission.json is missing"),
    ("huge", lambda f: (f / schema.FILE).write_text(" " * (schema.MAX_BYTES + 1)), "bytes; at most"),
    ("a stale version", _first("version", "0"), r"version 0 of the schema is not 2.*submit the run again"),
    ("a later version", _first("version", "3"), "version 3 of the schema is not 2"),
    ("another format", _first("format", '"x"'), "format must be"),
    ("text as a number", _first("value", '"high"'), r"coverage\.value.*'high' is not of type"),
    ("more fields", _first("by", '"x", "rank": 1'), "'rank' was unexpected"),
    ("an unknown task", _text(lambda t: t.replace(MC, "pluralism_other")), "'pluralism_other' was unexpected"),
    ("another folder", _text(lambda t: t.replace("samples_moralchoice.jsonl.gz", "../x/samples_moralchoice.jsonl.gz")), r"samples\.file.*is not valid"),
    ("an absolute path", _text(lambda t: t.replace("samples_moralchoice.jsonl.gz", "/etc/passwd")), r"samples\.file.*is not valid"),
    ("another task's file", _text(lambda t: t.replace("samples_moralchoice.jsonl.gz", "samples_overton.jsonl.gz")), "expected samples_moralchoice.jsonl.gz"),
    ("samples missing", lambda f: (f / samples.file_name("moralchoice")).unlink(), "samples_moralchoice.jsonl.gz is missing"),
    ("samples are a link", _link, "links are not followed"),
    ("samples are no gzip", _packed(b"hello"), "cannot be unpacked: BadGzipFile"),
    ("samples are empty", _packed(b""), "rows: expected 5, found 0"),
    ("samples cut off", lambda f: _packed((f / samples.file_name("moralchoice")).read_bytes()[:-20])(f), "cannot be unpacked: EOFError"),
    ("samples damaged", lambda f: _packed((f / samples.file_name("moralchoice")).read_bytes()[:100] + b"\0" * 50)(f), "cannot be unpacked"),
    ("samples not UTF-8", _packed(gzip.compress(b'{"doc": "\xff"}\n')), "line 1: 'utf-8' codec"),
    ("rows are no objects", _packed(gzip.compress(b"[]\n")), "line 1: no object with a doc"),
    ("rows with NaN", _packed(gzip.compress(b'{"doc_id": 0, "doc": {"gold": [NaN]}}\n')), "line 1: NaN is no JSON number"),
    ("a doc_id that is text", _packed(gzip.compress(b'{"doc_id": "0", "doc": {}}\n')), "doc_id '0' is no whole number"),
    ("rows of nothing", _packed(gzip.compress(b'{"doc_id": 0, "doc": {}}\n')), "cannot be scored"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "found"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damaged_files_are_rejected_with_a_reason(
    damage: Callable[[Path], Any], found: str, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(good)
    assert call("verify", str(good)) == 1
    out = capsys.readouterr().out
    assert "=> rejected" in out
    assert re.search(found, out), out
    listed = board.build(list(verify_each([good])))
    assert [v.folder for v in listed.rejected] == [good]
    assert good.name in pages.as_markdown(listed, good.parent)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


JUNK = [None, 0, -1, 1e308, "", "x", [], {}, True, [[]], {"a": 1}, "nan", 10**30, ["1"], -0.5]


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_change_of_any_row_is_a_verdict_and_no_crash(good: Path, data: st.DataObject) -> None:
    task = data.draw(st.sampled_from(FAST))
    file = good / samples.file_name(task)
    before = file.read_bytes()
    rows = samples.read_packed(file)[0]
    *path, last = data.draw(st.sampled_from(list(places(rows))))
    at: Any = rows
    for key in path:
        at = at[key]
    old, at[last] = at[last], data.draw(st.sampled_from(JUNK))
    assume(json.dumps(old) != json.dumps(at[last]))
    file.write_bytes(samples.packed(rows))
    found = verify(good)
    file.write_bytes(before)
    assert found.status == "rejected"
    assert good.name in pages.as_html(board.build([found]), good.parent)


def test_a_bomb_is_not_unpacked(good: Path) -> None:
    target = good / samples.file_name("moralchoice")
    target.write_bytes(gzip.compress(b"x" * (100 << 20)))
    assert target.stat().st_size < 200_000
    tracemalloc.start()
    found = verify(good)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("longer than 2,097,152 bytes" in reason for reason in found.reasons())
    assert peak < 30 << 20


def test_many_small_rows_are_a_bomb_as_well(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_ROWS", 1000)
    row = b'{"doc_id": 0, "doc": {}}\n'
    (good / samples.file_name("moralchoice")).write_bytes(gzip.compress(row * 2000))
    assert any("more than 1,000 rows" in reason for reason in verify(good).reasons())
    monkeypatch.setattr(samples, "MAX_BYTES", 1000)
    assert any("more than 1,000 bytes" in reason for reason in verify(good).reasons())


def test_a_duplicate_is_rejected_and_the_first_stays(good: Path) -> None:
    copy = Path(shutil.copytree(good, good.parent / "a-copy"))
    text = (copy / schema.FILE).read_text()
    later = text.replace("2026-01-02T00:00:00Z", "2026-02-02T00:00:00Z").replace('"by": "us"', '"by": "me"')  # fmt: skip
    (copy / schema.FILE).write_text(later)
    for order in ([good, copy], [copy, good]):
        verdicts = {v.folder: v for v in verify_each(order)}
        assert verdicts[good].status == "verified"
        assert verdicts[copy].reasons() == [f"identity: duplicate: the same run as {good.name}"]
    assert next(verify_each([copy])).status == "rejected"  # what lies beside it is looked at


def test_what_verify_is_given_is_checked_first(good: Path) -> None:
    with pytest.raises(PluralismError, match="2 problem"):
        call("verify", str(good / schema.FILE), str(good / "nothing"))
    with pytest.raises(PluralismError, match="one at a time"):
        call("verify", str(good), str(good), "--samples", str(good))


# ---------------------------------------------------------------------- the board


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.3)), min_size=2, max_size=8), st.booleans()
)
def test_ranks_leave_open_what_intervals_leave_open(items: list[tuple[float, float]], higher: bool) -> None:  # fmt: skip
    cells: dict[Path, list[Number | None]] = {Path(str(i)): [Number(v, v - w, v + w)] for i, (v, w) in enumerate(items)}  # fmt: skip
    keys = dict.fromkeys(cells, ("same",))
    board._rank(cells, 0, Column("x", higher), keys)
    values = [v if higher else -v for v, _ in items]
    for i, row in enumerate(cells.values()):
        number = row[0]
        assert number is not None
        match = re.search(r"#(\d+)(?:–(\d+))? of (\d+)", number.mark)
        assert match
        first, last, n = int(match[1]), int(match[2] or match[1]), int(match[3])
        better, alike = sum(v > values[i] for v in values), sum(v == values[i] for v in values)
        assert n == len(items)
        assert 1 <= first <= better + 1  # its place by value alone is among those left open
        assert better + alike <= last <= n
        assert number.best == (first == last == 1)


def test_without_intervals_no_rank_is_sure() -> None:
    cells: dict[Path, list[Number | None]] = {Path("a"): [Number(0.9)], Path("b"): [Number(0.1)]}
    board._rank(cells, 0, Column("x", True), dict.fromkeys(cells, ("k",)))
    assert [row[0].mark for row in cells.values() if row[0]] == [" #1–2 of 2"] * 2


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    """Two runs of five docs, one of seven, a complete one, one without samples, a rejected one."""
    folder = tmp_path_factory.mktemp("several")
    out = folder / "submissions"
    for name, tasks, n, seed in (
        ("one", FAST, 5, 1), ("two", FAST, 5, 2), ("seven", ["moralchoice"], 7, 3), ("all", ["moralchoice"], 40, 4),
        ("bad", ["moralchoice"], 5, 5),
    ):  # fmt: skip
        made = submit.make(read_run(make_run(folder / name, tasks, n, seed)), name=name)
        written = submit.write(made, out)
        if name == "bad":
            _first("low", "0.5")(written)
    hidden = submit.make(
        read_run(make_run(folder / "x", ["moralchoice"], 5, 6)), with_samples=False
    )
    submit.write(hidden, out)
    return list(verify_each(submit.folders(out)))


def test_partial_sample_and_complete_runs_are_kept_apart(several: list[Verdict]) -> None:
    found = board.build(several)
    titles = [s.title for s in found.sections]
    assert titles == [
        "The sample data of this package, complete",
        "Partial runs: 7 docs a task of the sample data",
        "Partial runs: 5 docs a task of the sample data",
        "The authors' inputs, complete",
    ]
    systems = {s.title: [r.label for r in s.rows if r.kind == "system"] for s in found.sections}
    assert list(systems.values()) == [["all"], ["seven"], ["one", "two"], []]
    marks = [c.mark for r in found.sections[2].rows if r.kind == "system" for c in r.cells if c]
    assert all(re.search(r"#(1|2|1–2) of 2", mark) for mark in marks)
    alone = [c.mark for r in found.sections[0].rows if r.kind == "system" for c in r.cells if c]
    assert alone == [""]  # nothing to be ranked against
    assert all(row.kind != "paper" for s in found.sections[:3] for row in s.rows)
    assert pages.counts(found) == "6 submissions: 4 verified, 1 not verified, 1 rejected."


def test_baselines_are_those_of_the_same_docs(several: list[Verdict]) -> None:
    found = board.build(several)
    for section, n in ((found.sections[0], 40), (found.sections[2], 5)):
        items = read_items(input_file("moralchoice", "sample"))[:n]
        uniform = np.mean([jensenshannon([0.5, 0.5], i["gold_distribution"]) for i in items])
        row = next(r for r in section.rows if r.label == "uniform")
        (cell,) = [c for c in row.cells if c]
        assert cell.value == pytest.approx(uniform, abs=1e-9)


def test_other_docs_or_scorers_are_not_ranked_together(several: list[Verdict]) -> None:
    one, two = [v for v in several if v.content.get("name") in ("one", "two")]
    other = json.loads(json.dumps(two.content))
    other["tasks"][OVK]["setting"]["nli"] = "vitaminc"
    changed = Verdict(two.folder, other, two.checks)
    section = board.build([one, changed]).sections[0]
    column = next(i for i, c in enumerate(section.columns) if c.task == OVK)
    marks = [r.cells[column].mark for r in section.rows if r.kind == "system" and r.cells[column]]  # type: ignore[union-attr]
    assert sorted(marks) == ["", "^b"]
    assert any("scorer vitaminc" in note for note in section.notes)
    jsd = next(i for i, c in enumerate(section.columns) if c.task == MC)
    assert all(
        "of 2" in r.cells[jsd].mark for r in section.rows if r.kind == "system" and r.cells[jsd]
    )  # type: ignore[union-attr]


def test_reported_rows_are_the_printed_numbers() -> None:
    rows = {row.label: row for row in reported.rows(board.COLUMNS)}
    column = {c.title: i for i, c in enumerate(board.COLUMNS)}

    def cell(label: str, title: str) -> float | None:
        number = rows[label].cells[column[title]]
        return number.value if number else None

    table = paper.tables()
    ours = table["table1"]["data"]["aligned"]["ours"]["chatgpt"]
    label = "modular_pluralism, chatgpt, aligned"
    assert cell(label, "Steerable VK: accuracy") == ours["three_way"]["acc"] / 100
    assert cell(label, "VK binary: macro-F1") == ours["binary"]["maf"] / 100
    assert (
        cell(label, "Steerable OpinionQA: match")
        == table["table2"]["data"]["aligned"]["ours"]["chatgpt"]["avg"] / 100
    )
    assert (
        cell(label, "Distr. GlobalOpinionQA: J-S")
        == table["table3"]["data"]["aligned"]["ours"]["chatgpt"]["Avg"]
    )
    gemma = table["table10"]["data"]["unaligned"]["prompting"]["gemma-7b"]["overall"]
    assert cell("prompting, gemma-7b, unaligned", "Distr. MoralChoice: J-S") == gemma
    big = "modular_pluralism, llama2-70b, alignment not stated"
    assert (
        cell(big, "Overton: value coverage")
        == table["table7"]["data"]["llama2-70b"]["ours"]["O-VK"]
    )
    assert cell(big, "Steerable OpinionQA: match") is None  # Table 7 prints a distance there
    printed = {(m, llm) for t in ("table1", "table8") for llm in paper.models(t) for m in ("vanilla", "prompting", "moe")}  # fmt: skip
    assert all(f"{m}, {llm.replace('/', ', ')}" in rows for m, llm in printed)
    assert not any(math.isfinite(c.low) for row in rows.values() for c in row.cells if c)


# ---------------------------------------------------------------------- pages


class Tags(HTMLParser):
    """Counts tags and keeps attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'|[x](javascript:alert(3)) {{main}} \u2028"


def test_text_of_submissions_is_shown_and_never_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["moralchoice"])
    made = submit.make(read_run(run), name=HOSTILE, by=HOSTILE, note=HOSTILE)
    folder = submit.write(made, tmp_path / "submissions")
    assert re.fullmatch(r"[a-z0-9-]+", folder.name)
    found = board.build(list(verify_each([folder])))
    page = pages.as_html(found, tmp_path)
    parsed = Tags(page)
    names = [tag for tag, _ in parsed.tags]
    assert names.count("script") == 1
    assert "img" not in names
    assert not any(key.startswith("on") or key == "style" for _, a in parsed.tags for key in a)
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert links
    assert all(link == f"submissions/{folder.name}/" for link in links)
    assert "<img src=x onerror=alert(2)>" in parsed.text  # as text
    plain = pages.as_markdown(found, tmp_path)
    assert "<script" not in plain
    assert "[x](javascript" not in plain
    lines = [line for line in plain.splitlines() if line.startswith("|") and "alert" in line]
    header = next(line for line in plain.splitlines() if line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", lines[0])) == header.count("|")


def test_the_pages_are_the_same_again_and_say_what_is_not_ranked(
    several: list[Verdict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, submissions = tmp_path / "results", several[0].folder.parent
    texts = []
    for _ in range(2):
        assert call("leaderboard", "--submissions", str(submissions), "--output", str(out)) == 0
        texts.append({p.name: p.read_text() for p in out.iterdir()})
    assert texts[0] == texts[1]
    assert set(texts[0]) == {"README.md", "leaderboard.html"}
    assert "6 submissions: 4 verified, 1 not verified, 1 rejected." in capsys.readouterr().out
    for text in texts[0].values():
        assert "samples are not included" in text
        assert re.search(r"jsd\.low: expected 0\.\d+, found 0\.5", text)
        assert "4 verified" in text
        assert str(tmp_path) not in text
    page = Tags(texts[0]["leaderboard.html"])
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    heads = [a for tag, a in page.tags if tag == "th" and a.get("scope") == "col"]
    rows = [a for tag, a in page.tags if tag == "th" and a.get("scope") == "row"]
    assert heads
    assert len(rows) > 38
    assert sum(tag == "caption" for tag, _ in page.tags) == 4


def test_a_folder_without_submissions(tmp_path: Path) -> None:
    with pytest.raises(PluralismError, match="is no folder; make a submission first"):
        call("leaderboard", "--submissions", str(tmp_path / "none"), "--output", str(tmp_path))
    (tmp_path / "none").mkdir()
    assert call("leaderboard", "--submissions", str(tmp_path / "none"), "--output", str(tmp_path)) == 0  # fmt: skip
    assert "0 submissions: 0 verified." in (tmp_path / "README.md").read_text()
