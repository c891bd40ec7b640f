"""Submissions: what they say of a run, and what cannot become one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import samples, schema, submit
from pluralism_eval.leaderboard.verify import verify
from pluralism_eval.results import read_run
from tests.unit.leaderboard.runs import MC, OVK, call, make_run


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
