"""Submissions that agree with themselves, and yet are not what they say: forged items, chosen docs, copies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import blob_id, input_file, long_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import board, docs, inputs, pages, pins, samples, schema, submit
from pluralism_eval.leaderboard.recompute import rescored
from pluralism_eval.leaderboard.verify import Verdict, verify, verify_each
from pluralism_eval.results import read_run
from pluralism_eval.scoring import summarise
from pluralism_eval.tasks import TASKS
from tests.unit.leaderboard.runs import MC, OVK, call, make_run

SAMPLE = ("overton", "moralchoice", "globalopinionqa", "vk")
Docs = list[dict[str, Any]]


def loaded(task: str, preset: str = "paper") -> Docs:
    """The docs of the sample as a run has them."""
    path, common = input_file(task, "sample"), {"preset": preset, "orders_given": None}
    common |= {"nli": "embedded", "nli_directions": "one"} if task == "overton" else {}
    return build_docs(task, read_items(path), common | {"input": TASKS[task].input}, path.name)


def forged(
    folder: Path,
    task: str,
    change: Callable[[Docs], Docs],
    claim: Callable[[dict[str, Any]], Any] = lambda part: None,
    numbers: Callable[[int], list[int]] | None = None,
) -> Path:
    """A submission whose docs are ``change``d and whose scores and hashes all agree with them.

    Args:
        claim: then changes what it says of the task.
        numbers: of its docs, out of so many; default: 0, 1, ...
    """
    used = change(loaded(task))
    run = make_run(folder / "run", [task], len(used), docs=used)
    name = long_name(task)
    rows = [samples.kept(task, row) for row in read_run(run).samples_of(name)]
    for row, number in zip(rows, numbers(len(rows)) if numbers else range(len(rows)), strict=True):
        row["doc_id"] = number
    honest = make_run(folder / "honest", [task], 3)
    made = submit.make(read_run(honest))
    source = inputs.at_hand(task, "sample")
    assert source is not None
    scored, _ = rescored(task, rows)
    of = len(loaded(task))
    part = submit.task_content(task, rows, summarise(task, scored), source, of)
    part["setting"] = made.content["tasks"][name]["setting"] | part["setting"]
    part["samples"]["file"] = samples.file_name(task)
    claim(part)
    made.content["tasks"][name] = part
    made.content["identity"] = submit.identity_of(
        made.content["hashes"]["fingerprint"], {name: part}
    )
    made.packed[samples.file_name(task)] = samples.packed(rows)
    return submit.write(made, folder / "submissions")


def as_authors(task: str, of: int | None = None) -> Callable[[dict[str, Any]], Any]:
    """Claims the authors' file under its public git blob id."""

    def claim(part: dict[str, Any]) -> None:
        blob = TASKS[task].blob
        part["input"] |= {"data": "authors", "blob": blob, "is_authors": True}
        part["docs"]["of"] = of or part["docs"]["n"]

    return claim


def at(i: int, **changes: Any) -> Callable[[Docs], Docs]:
    def change(found: Docs) -> Docs:
        for name, value in changes.items():
            found[i][name] = value(found[i][name]) if callable(value) else value
        return found

    return change


def swapped(found: Docs) -> Docs:
    found[0]["id"], found[1]["id"] = found[1]["id"], found[0]["id"]
    return found


def meta(i: int, **changes: Any) -> Callable[[Docs], Docs]:
    def change(found: Docs) -> Docs:
        found[i]["pluralism"] = found[i]["pluralism"] | changes
        return found

    return change


def reversed_options(found: Docs) -> Docs:
    doc = found[1]
    doc["options"], doc["gold"] = doc["options"][::-1], doc["gold"][::-1]
    doc["target"] = doc["gold"].index(max(doc["gold"]))
    doc["pluralism"] = doc["pluralism"] | {"options": doc["options"]}
    return found


FORGED = [
    ("a gold", "moralchoice", at(0, gold=[0.0, 1.0], target=1), r"doc 0 \(id L_000\): gold is"),
    ("a gold by little", "moralchoice", at(1, gold=[0.5001, 0.4999]), r"doc 1 .*gold is"),
    ("a label", "vk", at(2, target=lambda t: (t + 1) % 3), r"doc 2 .*target is"),
    ("the order of options", "globalopinionqa", reversed_options, r"doc 1 .*options is"),
    ("a group", "moralchoice", at(0, group="high_ambiguity"), r"doc 0 .*group is low_ambiguity"),
    ("respondents", "globalopinionqa", at(0, respondents=1_000_000), r"doc 0 .*respondents is"),
    ("others' mean", "globalopinionqa", at(0, others=lambda o: o[::-1]), r"doc 0 .*others is"),
    ("a cluster", "vk", at(1, cluster="another"), r"doc 1 .*cluster is"),
    ("a doc twice", "moralchoice", lambda d: [*d[:1], *d[:1], *d[2:]], r"doc 1 .*id is H_000"),
    ("swapped ids", "moralchoice", swapped, r"doc 0 .*id is L_000"),
    ("swapped docs", "moralchoice", lambda d: [d[1], d[0], *d[2:]], r"doc 0 .*query is"),
    ("another field", "moralchoice", at(0, hint="A", id="L_000"), r"doc 0 .*hint is nothing"),
    ("an explanation", "overton", at(0, explanations=lambda e: ["Yes."] * len(e)), r"doc 0 .*explanations is"),
    ("an easy value less", "overton", at(0, explanations=lambda e: e[:1], values=lambda v: v[:1]), r"doc 0 .*values is"),
    ("orders", "moralchoice", meta(0, orders=9), r"doc 0 .*pluralism\.orders is 9"),
    ("another task's name", "moralchoice", meta(0, task="vk"), r"doc 0 .*pluralism\.task is vk"),
]  # fmt: skip


@pytest.mark.parametrize("pinned", [False, True], ids=["by the file", "by pinned hashes"])
@pytest.mark.parametrize(("task", "change", "found"), [f[1:] for f in FORGED], ids=[f[0] for f in FORGED])  # fmt: skip
def test_forged_items_are_found(
    task: str, change: Any, found: str, pinned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder = forged(tmp_path, task, lambda d: change(d[:6]))
    if pinned:  # no input file is at hand, and none is needed
        monkeypatch.setattr(inputs, "at_hand", lambda *_: None)
        found = re.match(r"doc \d+", found)[0] + " "  # type: ignore[index]
    verdict = verify(folder)
    assert verdict.status == "rejected"
    assert any(re.search(found, reason) for reason in verdict.reasons()), verdict.reasons()
    assert not [r for s in board.build([verdict]).sections for r in s.rows if r.kind != "paper"]


@pytest.mark.parametrize("task", TASKS)
def test_honest_docs_are_verified_by_pinned_hashes_alone(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", [task], 4)
    folder = submit.write(submit.make(read_run(run)), tmp_path / "out")
    by_file = verify(folder)
    monkeypatch.setattr(inputs, "at_hand", lambda *_: None)
    by_pins = verify(folder)
    assert by_file.status == by_pins.status == "verified", by_pins.reasons()
    assert "hashes that ship with this package" in by_pins.docs_check(long_name(task)).seen
    own, other = (v.docs_check(long_name(task)).baselines for v in (by_pins, by_file))
    assert {k: n for k, (_, n) in own.items()} == {k: n for k, (_, n) in other.items()}
    assert [v for v, _ in own.values()] == pytest.approx([v for v, _ in other.values()], nan_ok=True)  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_sample_of_this_version_is_pinned(task: str) -> None:
    path = input_file(task, "sample")
    pin = pins.pinned()[blob_id(path.read_bytes())]
    assert (pin.task, len(pin.items)) == (task, len(read_items(path)))


def test_a_pin_holds_for_another_rounding_and_for_nothing_else() -> None:
    (doc,) = loaded("globalopinionqa")[:1]
    nudged = doc | {"gold": [p * (1 + 1e-15) for p in doc["gold"]]}
    assert pins.hash_of(nudged) == pins.hash_of(doc)
    assert pins.hash_of(doc | {"gold": [p + 1e-7 for p in doc["gold"]]}) != pins.hash_of(doc)


@pytest.mark.parametrize(
    "claim",
    [as_authors("moralchoice"), as_authors("moralchoice", 1367)],
    ids=["as complete", "as partial"],
)
def test_a_forged_doc_under_the_authors_public_blob_id_is_not_verified(
    claim: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sure(found: Docs) -> Docs:
        return at(0, gold=[1.0, 0.0], query="Which?", id="L_999")(found)[:1]

    folder = forged(tmp_path, "moralchoice", sure, claim)
    assert call("verify", str(folder)) == 1
    out = capsys.readouterr().out
    assert "items not checked: the input is not at hand" in out
    assert "=> not verified" in out
    listed = board.build(list(verify_each([folder])))
    assert [v.folder for v in listed.unverified] == [folder]
    assert not [
        r for s in listed.sections for r in s.rows if r.kind != "paper"
    ]  # no baselines either


def test_authors_items_are_compared_with_their_file_where_it_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two items stand for the authors' file, whose blob id is theirs here."""
    path = tmp_path / "data" / f"{TASKS['moralchoice'].input}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(read_items(input_file("moralchoice", "sample"))[:2]))
    known = replace(TASKS["moralchoice"], blob=blob_id(path.read_bytes()))
    monkeypatch.setitem(TASKS, "moralchoice", known)
    run = make_run(tmp_path / "run", ["moralchoice"], 2, data=str(path.parent))
    folder = submit.write(submit.make(read_run(run)), tmp_path / "out")
    assert verify(folder).status == "not verified"
    assert call("verify", str(folder), "--data", str(path.parent)) == 0
    first = forged(tmp_path / "first", "moralchoice", lambda d: d[:1], as_authors("moralchoice"))
    assert call("verify", str(first), "--data", str(path.parent)) == 1  # one doc is not all of two
    path.write_text("[]")  # another file under its name
    assert call("verify", str(folder), "--data", str(path.parent)) == 1


# ---------------------------------------------------------------------- which docs


def test_only_the_right_docs_kept_is_found(tmp_path: Path) -> None:
    kept = [0, 2, 4, 6]
    folder = forged(tmp_path, "moralchoice", lambda d: [d[i] for i in kept], numbers=lambda n: kept)
    (reason,) = verify(folder).reasons()
    assert reason.startswith(f"docs {MC}: which docs: a partial run is the first 4 (--limit) or the draw with seed 0")  # fmt: skip


def test_docs_from_the_end_are_found_and_renumbered_ones_as_well(tmp_path: Path) -> None:
    last = forged(tmp_path / "a", "moralchoice", lambda d: d[30:], numbers=lambda n: list(range(30, 40)))  # fmt: skip
    assert verify(last).status == "rejected"
    renumbered = forged(tmp_path / "b", "moralchoice", lambda d: d[30:])
    assert any("id is L_000 in the input file" in reason for reason in verify(renumbered).reasons())


def test_the_seeded_draw_is_recomputed_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "draw", "moralchoice", "--docs", "6", "--data", "sample") == 0
    drawn = json.loads(capsys.readouterr().out)[MC]
    assert drawn == docs.drawn(40, 6) != list(range(6))
    folder = forged(tmp_path, "moralchoice", lambda d: [d[i] for i in drawn], numbers=lambda n: drawn)  # fmt: skip
    verdict = verify(folder)
    assert verdict.status == "verified", verdict.reasons()
    titles = [s.title for s in board.build([verdict]).sections]
    assert titles[0] == "Partial runs: of each task 6 drawn with seed 0 docs of the sample data"


def test_a_run_on_chosen_docs_is_not_made_a_submission(tmp_path: Path) -> None:
    kept = [loaded("moralchoice")[i] for i in (0, 1, 2, 3, 7)]
    run = make_run(tmp_path / "run", ["moralchoice"], docs=kept)
    file = next(run.glob("samples_*"))
    file.write_text(file.read_text().replace('{"doc_id": 4', '{"doc_id": 7'))
    with pytest.raises(PluralismError, match=r"which docs: .*found doc 7 in place 4"):
        submit.make(read_run(run))


# ---------------------------------------------------------------------- what it says


def test_another_preset_than_the_run_had_is_found(good: Path) -> None:
    content = schema.load(good)
    content["configuration"]["preset"] = "reference"
    (good / schema.FILE).write_text(schema.write(content))
    assert verify(good).reasons() == [
        f"preset: {task}: setting.preset: expected reference (configuration.preset), found paper"
        for task in (OVK, MC)
    ]


def test_another_file_name_than_the_tasks_is_found(good: Path) -> None:
    content = schema.load(good)
    content["tasks"][MC]["input"]["file"] = "steerable_test_opinionqa.json"
    (good / schema.FILE).write_text(schema.write(content))
    assert any("input.file: expected" in reason for reason in verify(good).reasons())


def test_baselines_of_the_table_are_not_those_of_a_submission(good: Path) -> None:
    """Whatever a submission says of baselines, also if nothing had been recomputed."""
    (verdict,) = verify_each([good])
    content = json.loads(json.dumps(verdict.content))
    content["tasks"][MC]["baselines"]["jsd_uniform"]["value"] = 0.8
    said = Verdict(verdict.folder, content, verdict.checks)
    (own, honest) = (
        [r for r in board.build([v]).sections[0].rows if r.kind == "baseline"] for v in (said, verdict)
    )  # fmt: skip
    assert own == honest
    assert "uniform" in [row.label for row in own]
    assert "the query itself as response" not in [row.label for row in own]  # a scorer reads it


# ---------------------------------------------------------------------- copies


def copied(folder: Path, name: str, **environment: str) -> Path:
    """A copy by somebody else, with its own name, fingerprint and date."""
    copy = Path(shutil.copytree(folder, folder.parent / name))
    content = schema.load(copy)
    content |= {"name": "AAA", "by": "me"}
    content["hashes"]["fingerprint"] = "f" * 64
    content["environment"] |= {"date": "1999-01-01T00:00:00Z", **environment}
    content["identity"] = submit.identity_of("f" * 64, content["tasks"])
    (copy / schema.FILE).write_text(schema.write(content))
    return copy


def commit(folder: Path, *paths: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", "--", *map(str, paths))
    git("commit", "-qm", "x", "--date", "1999-01-01T00:00:00Z")


def test_a_copy_with_an_earlier_date_is_the_duplicate(good: Path) -> None:
    commit(good.parent, good)
    copy = copied(good, "a-copy")
    for later in (False, True):  # first beside the repository, then in it
        if later:
            commit(good.parent, copy)
        verdicts = {v.folder: v for v in verify_each([copy, good])}
        assert verdicts[good].status == "verified"
        assert verdicts[copy].status == "duplicate"
        told = (
            f"duplicate: the same responses as {good.name}, which was in the repository before it"
        )
        assert verdicts[copy].reasons() == [told]
    listed = board.build(list(verdicts.values()))
    assert pages.counts(listed) == "2 submissions: 1 verified, 1 duplicates."
    for page in (pages.as_markdown(listed, good.parent), pages.as_html(listed, good.parent)):
        assert "a-copy" in page
        assert "Duplicates: the same responses" in page
    assert next(verify_each([copy])).status == "duplicate"  # what lies beside it is looked at


def test_where_nobody_knows_which_was_first_both_are_shown_and_no_rank_moves(
    good: Path, tmp_path: Path
) -> None:
    other = submit.make(read_run(make_run(tmp_path / "other", seed=3)), name="other")
    third = submit.write(other, good.parent)
    before = {r.label: r.cells for r in board.build(list(verify_each([good, third]))).sections[0].rows}  # fmt: skip
    copy = copied(good, "a-copy")
    verdicts = list(verify_each([copy, good, third]))
    assert [v.status for v in verdicts] == ["verified"] * 3
    section = board.build(verdicts).sections[0]
    rows = {r.label: r.cells for r in section.rows}
    assert rows["AAA"] == rows[schema.load(good)["name"]]
    assert {label: cells for label, cells in rows.items() if label != "AAA"} == before
    assert sum("the history here does not say which was first" in note for note in section.notes) == 2  # fmt: skip


def test_a_copy_that_is_rejected_or_without_samples_takes_nobodys_place(good: Path) -> None:
    worse, empty = copied(good, "a-copy"), copied(good, "b-copy")
    content = schema.load(worse)
    content["tasks"][MC]["scores"]["jsd"]["value"] = 0.0
    (worse / schema.FILE).write_text(schema.write(content))
    content = schema.load(empty)
    for part in content["tasks"].values():
        part["samples"]["file"] = None
    (empty / schema.FILE).write_text(schema.write(content))
    commit(good.parent, worse, empty)
    statuses = [v.status for v in verify_each([worse, empty, good])]
    assert statuses == ["rejected", "not verified", "verified"]


def test_a_copy_of_some_tasks_is_a_duplicate_and_more_tasks_are_none(good: Path) -> None:
    part = copied(good, "part")
    content = schema.load(part)
    del content["tasks"][OVK]
    content["identity"] = submit.identity_of("f" * 64, content["tasks"])
    (part / schema.FILE).write_text(schema.write(content))
    commit(good.parent, part)
    assert [v.status for v in verify_each([part, good])] == ["verified", "verified"]
    shutil.rmtree(good.parent / ".git")
    commit(good.parent, good)
    assert [v.status for v in verify_each([part, good])] == ["duplicate", "verified"]


def test_tasks_stitched_together_from_others_are_a_duplicate(good: Path, tmp_path: Path) -> None:
    other = submit.make(read_run(make_run(tmp_path / "other", seed=3)), name="other")
    second = submit.write(other, good.parent)
    stitched = copied(good, "stitched")
    content = schema.load(stitched)
    content["tasks"][MC] = schema.load(second)["tasks"][MC]
    content["identity"] = submit.identity_of("f" * 64, content["tasks"])
    (stitched / schema.FILE).write_text(schema.write(content))
    shutil.copy(second / samples.file_name("moralchoice"), stitched)
    commit(good.parent, good, second)
    (verdict,) = verify_each([stitched])
    assert verdict.status == "duplicate"
    assert good.name in verdict.reasons()[0]
    assert second.name in verdict.reasons()[0]


def test_a_folder_that_is_a_link_is_no_submission(good: Path) -> None:
    link = good.parent / "a-link"
    link.symlink_to(good.name)
    assert [v.status for v in verify_each([link, good])] == ["rejected", "verified"]


def test_a_sample_without_damaged_items_is_not_complete(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["opinionqa"], 100)
    folder = submit.write(submit.make(read_run(run)), tmp_path / "out")
    (verdict,) = verify_each([folder])
    part = verdict.content["tasks"][long_name("opinionqa")]
    part["input"]["damaged_dropped"] = True
    assert board.build([verdict]).sections[0].title.endswith("of the sample data without damaged items")  # fmt: skip
