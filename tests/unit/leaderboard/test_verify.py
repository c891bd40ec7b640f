"""Every way of tampering with a submission is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file, long_name
from pluralism_eval.leaderboard import board, inputs, samples, schema, submit
from pluralism_eval.leaderboard.checks import How
from pluralism_eval.leaderboard.recompute import rescored
from pluralism_eval.leaderboard.verify import verify
from pluralism_eval.metrics import coverage
from pluralism_eval.plugin import AUTOMATIC
from pluralism_eval.results import read_run
from pluralism_eval.scoring import summarise
from pluralism_eval.tasks import TASKS
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs
from tests.unit.leaderboard.runs import FAST, MC, OVK, call, make_run


def test_a_good_submission_is_verified_and_says_what_is_not_proven(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", str(good)) == 0
    out = capsys.readouterr().out
    assert "=> verified" in out
    assert "coverage by the recorded verdicts" in out
    assert "What this cannot prove" in out
    assert (
        "the first 5 of 40, golds and questions equal to distributional_test_moralchoice.json (sample)"
        in out
    )


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
                row |= {k: own[k] for k in TASKS[task].logged}
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
    ("the input", place("tasks", MC, "input", "blob", value=TASKS["moralchoice"].blob), r"input\.is_authors: expected True, found False"),
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
    run = make_run(tmp_path / "run", TASKS, 8, bounds=True)
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
    assert [v.status for v in seen.values()] == ["not verified", "verified"]
    (reason,) = seen[None].reasons()
    assert f"docs {MC}: items not checked: the input is not at hand; give --data FOLDER" in reason
    titles = [board.build([v]).sections[0].title for v in seen.values()]
    assert titles == ["The authors' inputs, complete", "Other input files, complete"]
    assert not [r for r in board.build([seen[None]]).sections[0].rows if r.kind != "paper"]


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
