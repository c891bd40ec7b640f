"""The parts of ``python -m tests.faults``, and what it has found."""

from __future__ import annotations

import json
import random
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import study
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.llm.openai_api import OpenAILLM
from pluralism_eval.settings import parse
from tests import openai_server as api
from tests.faults.chaos import damage, outcomes
from tests.faults.chaos.server import FAULTS, Server
from tests.faults.chaos.tally import Tally, line, rows
from tests.faults.chaos.work import Verdict


def ask(server: Server, key: str, **more: Any) -> dict[str, Any]:
    body = {
        "model": "llm",
        "messages": [{"role": "user", "content": key}],
        "max_tokens": 90,
        **more,
    }
    request = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps(body).encode(),
        {"Idempotency-Key": f"{key}-0", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as found:
        return dict(json.loads(found.read()))


def test_replies_follow_from_the_request_and_are_counted() -> None:
    with Server() as server:
        first, again, other = (ask(server, key)["choices"] for key in ("a", "a", "b"))
        assert first == again != other
        assert server.paid == {"a": 2, "b": 1}
        assert ask(server, "a", max_tokens=8)["choices"][0]["message"]["content"] in ("1", "2")
        scored = ask(server, "c", max_tokens=1, logprobs=True, top_logprobs=3)
        assert len(scored["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 3
        assert server.requests == 5
        server.reset()
        assert (server.paid, server.requests) == ({}, 0)


def test_faults_follow_from_the_seed_and_every_request_comes_through() -> None:
    met = []
    with Server() as server:
        for seed in (5, 5, 6):
            server.reset(0.6, seed)
            for n in range(60):
                for _ in range(3):
                    try:
                        if ask(server, f"q{n}")["model"] == "llm":
                            break
                    except (OSError, ValueError, HTTPException):
                        continue
            assert set(server.paid.values()) == {1}
            assert len(server.paid) == 60
            met.append(server.injected)
    assert met[0] == met[1] != met[2]
    assert set(met[0]) == set(FAULTS)


def test_differences_name_the_place() -> None:
    whole = {"scores": {"acc": [1.0, 2.0]}, "table": "a"}
    assert outcomes.differences(whole, whole) == []
    assert outcomes.differences(whole, {"scores": {"acc": [1.0, 3.0]}, "more": 1}) == [
        "scores.acc[1]: '2.0' became '3.0'", "table is missing", "more is new",
    ]  # fmt: skip


def test_harm_changes_a_file_and_says_how(tmp_path: Path) -> None:
    file, data = tmp_path / "file", bytes(range(200))
    seen = set()
    for seed in range(40):
        file.write_bytes(data)
        done = damage.harm(file, random.Random(seed))
        now = file.read_bytes()
        assert now != data
        assert (len(now) < len(data)) == (done == "cut")
        seen.add(done)
    assert seen == {"cut", "flipped"}


def test_the_line_counts_what_the_table_shows() -> None:
    kills, disk = Tally("kills"), Tally("disk")
    kills.fault("SIGKILL run", 3)
    kills.add(Verdict(["a stored reply was paid twice"], []))
    disk.fault("limit run")
    disk.add(Verdict([], ["run: scores", "run: samples"]))
    assert line([kills, disk]) == "4 faults, 1 lost, 2 silently wrong"
    assert rows([kills, disk])[1][:6] == ["kills", "3", "1", "0", "1", "0"]
    assert disk.notes == ["silently wrong: run: scores", "silently wrong: run: samples"]


# ---------------------------------------------------------------------- found by it


def client(url: str, **more: Any) -> OpenAILLM:
    args = {"model": "llm", "base_url": url, "max_retries": 1, **more}
    found = load_llm(parse("vanilla", {"llm": "openai", "llm_args": args}))
    assert isinstance(found, OpenAILLM)
    return found


def test_what_a_server_gives_is_asked_and_paid_once() -> None:
    with Server() as server:
        assert client(server.url).resolve("options") == "top_logprobs"
        assert server.requests > 0
        assert client(server.url).resolve("options") == "top_logprobs"
        assert set(server.paid.values()) == {1}


def test_a_server_that_fails_is_not_one_that_gives_no_logprobs() -> None:
    faults, offer = api.Faults(rule=lambda i, body: "500"), api.Offer(models=("llm",))
    with (
        api.Server(api.Scripted("A"), offer, faults) as server,
        pytest.raises(PluralismError, match="InternalServerError"),
    ):
        client(server.url).resolve("options")


def test_a_finished_run_whose_files_changed_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def save(results: Any, folder: Path, method: str) -> None:
        (folder / method).mkdir(parents=True)
        (folder / method / "results_1.json").write_text('{"results": {}, "config": {}}')
        (folder / f"transcript_{method}.jsonl").write_text('{"task": "t", "doc_id": 0}\n')
        ran.append(method)

    ran: list[str] = []
    monkeypatch.setattr(study, "evaluate", lambda *_: {})
    monkeypatch.setattr(study, "save", save)
    llm = study.StudyLLM("scripted", "embedded")
    spec = study.RunSpec(
        "row", "vanilla", llm, ("pluralism_steerable_vk",), metadata={"data": "sample"}
    )
    for _ in range(2):
        study.execute(spec, tmp_path)
    assert ran == ["vanilla"]
    for name in ("study.json", "transcript_vanilla.jsonl", "vanilla/results_1.json"):
        file = spec.folder(tmp_path) / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        assert not spec.finished(tmp_path), name
        study.execute(spec, tmp_path)
        assert spec.finished(tmp_path)
    assert ran == ["vanilla"] * 4
    assert "transcript_vanilla.jsonl: changed since the run" in caplog.text
