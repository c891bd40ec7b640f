"""What other people's files depend on: the keys of stores, the fingerprint of a run, the lines of a transcript, a submission.

Whoever changes a value here makes stored messages and paid replies unknown, or makes files of earlier versions unreadable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.api.instance import Instance

from model_wrappers import composite
from model_wrappers.vanilla import Vanilla
from pluralism_eval.answers import AnswerCache
from pluralism_eval.api.bodies import Call
from pluralism_eval.api.client import Api
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.cache import CACHE_VARIABLE, Store, digest
from pluralism_eval.communities import pool as pool_module
from pluralism_eval.communities.adapter_config import config_sha256
from pluralism_eval.communities.adapters import Adapter
from pluralism_eval.communities.engine import Job, Output, Proof, Sampling
from pluralism_eval.leaderboard import schema, submit
from pluralism_eval.presets import PRESETS
from pluralism_eval.prompts import Prompts
from pluralism_eval.requests import option_queries, text_queries
from pluralism_eval.results import read_run
from pluralism_eval.schema import (
    Answer,
    Message,
    OptionScores,
    Query,
    Reading,
    Selection,
    Sent,
    TextScore,
)
from pluralism_eval.settings import Settings, parse
from pluralism_eval.transcript import Transcript
from tests.unit.leaderboard.runs import make_run

OVERTON = Query("t/0", "t", 0, "a", "file", "overton", "generation", "What now?")
STEERABLE = Query(
    "s/1", "s", 1, "b", "file", "steerable", "letters", "Which?", options=("A", "B"),
    choices=("Yes", "No"), orders=2, attribute="Care", attribute_line="You are X.", steer_line="S.",
)  # fmt: skip
DISTRIBUTIONAL = Query(
    "d/2", "d", 2, "c", "file", "distributional", "cloze", "Which?", prefix="Shot.\n", chat=True,
    history=({"role": "system", "content": "Be brief."},), options=("A", "B"), generation={"until": ["\n"]},
)  # fmt: skip
QUERIES = (OVERTON, STEERABLE, DISTRIBUTIONAL)

# ---------------------------------------------------------------------- keys of stored messages

LORA = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "use_rslora": True,
    "task_type": "CAUSAL_LM", "lora_dropout": 0.1, "base_model_name_or_path": "org/base",
}  # fmt: skip
POOL = [
    {"name": "adapted", "engine": "lora", "base": "org/base", "adapter": "org/adapter"},
    {"name": "unusual", "engine": "lora", "base": "org/base", "adapter": "org/unusual"},
    {"name": "nurse", "engine": "prompted", "base": "org/base", "persona": "A nurse.", "message_temperature": 0.7},
    {"name": "served", "engine": "served", "base_url": "http://127.0.0.1:1/v1", "model": "m", "base": "b", "chat": "true"},
    {"name": "clerk", "engine": "prompted", "base_url": "http://127.0.0.1:1/v1", "model": "m", "persona": "A clerk."},
    {"name": "scripted", "engine": "scripted", "script": "script.jsonl", "message_top_p": 0.9},
]  # fmt: skip


class Speaking:
    """An engine without a model: a message's text is its key."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def chunk(self, n_jobs: int) -> int:
        return n_jobs

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        for job in jobs:
            yield job, Output(job.key, 3, True)

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        return {}


@pytest.fixture
def without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own; communities whose bases, adapters and engines are told, not loaded."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for engine in ("LoraEngine", "PromptedEngine", "ServedEngine", "ScriptedEngine"):
        monkeypatch.setattr(pool_module, engine, Speaking)
    told = {
        "has_template": True, "named_base": "org/base", "base_identity": "org/base@c0ffee", "pinned": False,
        "number_format": {"dtype": "float16"}, "date_in_template": "2026-01-01",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setattr(pool_module.bases, name, lambda *_, value=value: value)
    own = {
        "adapted": Adapter(Path("a"), "a" * 64, 4, 8, config_sha256=config_sha256(LORA), usual=True),
        "unusual": Adapter(Path("b"), "b" * 64, 4, 8, config_sha256=config_sha256(LORA), usual=False),
    }  # fmt: skip
    monkeypatch.setattr(pool_module.adapters, "resolve_all", lambda _: own)
    Path("pool.yaml").write_text(yaml.safe_dump([{"description": "d", **entry} for entry in POOL]))
    Path("script.jsonl").write_text('{"about": "What now?", "messages": ["This."]}\n')


@pytest.mark.usefixtures("without_models")
def test_keys_and_rows_of_stored_messages() -> None:
    given = {"communities": "pool.yaml", "messages": "store", "message_max_tokens": 6}
    pool = pool_module.make_pool(parse("modular_pluralism", given), Prompts())
    written = pool.messages([OVERTON, STEERABLE, replace(OVERTON, sample=1)])
    rows = Store(Path("store/messages.sqlite"), "messages").items()
    assert {key: row["text"] for key, row in rows.items()} == {m.text: m.text for own in written for m in own}  # fmt: skip
    frozen("row of a message", shape(next(iter(rows.values()))))
    keys = {c["name"]: [own[i].text[:16] for own in written] for i, c in enumerate(POOL)}
    frozen("message keys", keys)


def test_the_hash_of_an_adapters_configuration() -> None:
    frozen("configuration of an adapter", config_sha256(LORA)[:16])


def test_keys_of_paid_replies() -> None:
    api = Api(ApiSettings(model="m", base_url="http://127.0.0.1:1/v1"))
    body = {"model": "m", "messages": [{"role": "user", "content": "Q? ü"}], "max_tokens": 5}
    calls = [Call("chat", body), Call("chat", body, 1), Call("completions", {"prompt": "Q?"})]
    frozen("reply keys", [api.key(call)[:16] for call in calls])


# ---------------------------------------------------------------------- queries and the fingerprint


def test_queries_of_requests() -> None:
    ours = {"id": "x", "pluralism": {"mode": "steerable", "query": "Q?", "letters": ["A", "B"], "attribute": "Care",
            "attribute_line": "", "steer_line": "S.", "input": "file", "preset": "paper"}}  # fmt: skip
    options = [
        Instance("loglikelihood", ours, ("Q?", f" {letter}"), i, metadata=("t", 7, 1))
        for i, letter in enumerate("AB")
    ]
    text = [Instance("generate_until", {"id": "y"}, ("Say.", {"until": ["\n"]}), 0, metadata=("u", 3, 1))]  # fmt: skip
    (scored,), places = option_queries(options, Settings(), PRESETS["paper"])
    (said,) = text_queries(text, Settings(), PRESETS["paper"])
    assert (scored.key, said.key, places) == ("t/7", "u/3/0", [(0, 0), (0, 1)])


def test_keys_of_kept_answers(tmp_path: Path) -> None:
    answer = Answer(text="So.", logprobs=(-0.1, -2.5))
    for query in QUERIES:
        AnswerCache(tmp_path / "a.sqlite", "f" * 64).save([query], {query.key: answer})
    rows = Store(tmp_path / "a.sqlite", "answers").items()
    frozen("answer keys", sorted(key[:16] for key in rows))
    frozen("row of an answer", sorted(next(iter(rows.values()))))
    frozen("fields of a query", [field.name for field in fields(Query)])


@pytest.mark.usefixtures("scripted")
def test_what_the_fingerprint_is_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(composite, "__version__", "0")
    told: list[Any] = []
    monkeypatch.setattr(composite, "digest", lambda parts: told.append(parts) or digest(parts))
    model = Vanilla(llm="scripted", llm_args={"max_length": 512}, seed=7)
    fingerprint = model.fingerprint()
    version, method, settings, llm, wording, communities, exported = told[-1]
    assert (version, method, communities, exported) == ("0", "vanilla", [], None)
    assert llm == "scripted(max_length=512)"
    assert wording == Prompts().texts
    frozen("settings of the fingerprint", sorted(settings))
    frozen("fingerprint", fingerprint[:16])


@pytest.mark.usefixtures("without_models")
def test_what_the_fingerprint_says_of_communities() -> None:
    given = {"communities": "pool.yaml", "messages": "store", "message_max_tokens": 6}
    pool = pool_module.make_pool(parse("modular_pluralism", given), Prompts())
    told = pool.identity()
    frozen("communities", {c["name"]: sorted(c) for c in told})
    assert told[-1].pop("script") == str(Path("script.jsonl").absolute())
    frozen("identity of communities", digest(told)[:16])


# ---------------------------------------------------------------------- lines of a transcript

SCORES = OptionScores(
    (-0.1, -2.5), 0, replies=("A",), samples=1, texts=(TextScore(-0.1, 2, True),), priors=(-1.0, -1.0)
)  # fmt: skip
FULL = Answer(
    text="So.", logprobs=(-0.1, -2.5), greedy=0, messages=(Message("left", "This.", 2, True),),
    selections=(Selection("left", "1", False),),
    sent=(Sent("respond", "Q?", 3, SCORES, cuts={"left": 3}, broken={"left": 1}),), lower=(0.8, 0.05), samples=20.0,
    readings=tuple(Reading(order, 0, 0, (0.9, 0.1), 1.0, (0.8, 0.05), 20.0) for order in ((0, 1), (1, 0))),
)  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=[query.mode for query in QUERIES])
def test_the_line_of_an_answered_query(query: Query, tmp_path: Path) -> None:
    transcript = Transcript("vanilla", str(tmp_path / "t.jsonl"))
    transcript.write([(query, FULL)])
    (line,) = transcript.path.read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    frozen(f"line of {query.mode}", {key: type(value).__name__ for key, value in found.items()})
    for name in {"messages", "selections", "sent", "readings", "spread"} & set(found):
        frozen(f"{name} of a line", shape(found[name]))


def test_the_line_of_a_request_that_is_handed_on(tmp_path: Path) -> None:
    transcript = Transcript("vanilla", str(tmp_path / "t.jsonl"))
    request = Instance("loglikelihood", {}, ("Q?", " A"), 0, metadata=("t", 7, 1))
    transcript.write_direct(request, "Q?", (-0.1, True))
    (line,) = transcript.path.read_text(encoding="utf-8").splitlines()
    frozen("line of a request", shape(json.loads(line)))


# ---------------------------------------------------------------------- a submission


def test_the_schema_of_submissions() -> None:
    text = files("pluralism_eval.leaderboard") / "submission.schema.json"
    described = json.loads(text.read_text(encoding="utf-8"))
    assert (schema.FORMAT, schema.VERSION, schema.FILE) == ("pluralism-eval submission", 3, "submission.json")  # fmt: skip
    frozen("schema", sorted(described["properties"]))
    frozen("required by the schema", sorted(described["required"]))
    frozen("parts of the schema", {n: sorted(d.get("properties", {})) for n, d in described["$defs"].items()})  # fmt: skip


def test_the_keys_of_a_submission(tmp_path: Path) -> None:
    made = submit.make(read_run(make_run(tmp_path / "run", ["moralchoice"])), by="us")
    frozen("submission", sorted(made.content))
    (task,) = made.content["tasks"].values()
    frozen("task of a submission", sorted(task))


# ---------------------------------------------------------------------- frozen

FROZEN: dict[str, Any] = {
    "answer keys": ["09bf578a204d65dd", "31117588f9cedf64", "727bd4a060e50f14"],
    "communities": {"adapted": ["adapter", "adapter_config_sha256", "adapter_sha256", "api_key_variable", "base",
        "base_revision", "chat", "depends_on_base", "depends_on_chat_date", "depends_on_numbers", "engine",
        "message_temperature", "message_top_p", "name", "rank", "revision"], "unusual": ["adapter",
        "adapter_config_sha256", "adapter_sha256", "api_key_variable", "base", "base_revision", "chat",
        "depends_on_adapter_config", "depends_on_base", "depends_on_chat_date", "depends_on_numbers", "engine",
        "message_temperature", "message_top_p", "name", "rank", "revision"], "nurse": ["api_key_variable", "base",
        "base_revision", "chat", "depends_on_base", "depends_on_chat_date", "depends_on_numbers", "engine",
        "message_temperature", "message_top_p", "name", "persona", "revision"], "served": ["api_key_variable", "base",
        "base_revision", "base_url", "chat", "engine", "message_temperature", "message_top_p", "model", "name",
        "revision"], "clerk": ["api_key_variable", "base_revision", "base_url", "chat", "engine",
        "message_temperature", "message_top_p", "model", "name", "persona", "revision"], "scripted":
        ["api_key_variable", "base_revision", "chat", "engine", "message_temperature", "message_top_p", "name",
        "revision", "script"]},
    "configuration of an adapter": "8101fa13bdc8419b",
    "fields of a query": ["key", "task", "doc_id", "source_id", "source_input", "mode", "readout", "text", "prefix",
        "history", "prefill", "chat", "options", "choices", "orders", "order", "template", "sample", "attribute",
        "attribute_line", "steer_line", "generation"],
    "fingerprint": "58ab733d3d5ce55b",
    "identity of communities": "7f9d89dc64290972",
    "line of a request": {"task": "str", "doc_id": "int", "idx": "int", "readout": "str", "sent": [{"round": "str",
        "prompt": "str", "refused": "str", "overlong": "bool"}], "response": ["float"]},
    "line of distributional": {"task": "str", "doc_id": "int", "id": "str", "mode": "str", "readout": "str", "query":
        "str", "attribute": "str", "messages": "list", "selections": "list", "sent": "list", "skipped": "str",
        "options": "list", "distribution": "list", "option_mass": "float", "unread": "bool", "lower": "list",
        "samples": "float", "readings": "list", "spread": "dict"},
    "line of overton": {"task": "str", "doc_id": "int", "id": "str", "mode": "str", "readout": "str", "query": "str",
        "attribute": "str", "messages": "list", "selections": "list", "sent": "list", "skipped": "str", "response":
        "str"},
    "line of steerable": {"task": "str", "doc_id": "int", "id": "str", "mode": "str", "readout": "str", "query":
        "str", "attribute": "str", "messages": "list", "selections": "list", "sent": "list", "skipped": "str",
        "options": "list", "distribution": "list", "option_mass": "float", "unread": "bool", "lower": "list",
        "samples": "float", "orders_missing": "bool", "readings": "list", "spread": "dict"},
    "message keys": {"adapted": ["263aa40809f98c15", "9ef59e633e308fb4", "718876d6eae81588"], "unusual":
        ["c36aa8a38dc25945", "07955886f591c583", "5b56a55fe5d2c0c1"], "nurse": ["8c91d575deeea965",
        "30eccc3989a73281", "20bb0208c974c51f"], "served": ["b2c452d8ee3c8ac6", "6a62108c8295df43",
        "2e5fa5b517987064"], "clerk": ["a9b2c64779c74ead", "1e2382abbccf4feb", "e310724c76ee93b8"], "scripted":
        ["f193f49001056676", "3a3c99440542f62f", "2682495c2a001fce"]},
    "messages of a line": [{"community": "str", "text": "str", "n_tokens": "int", "stopped": "bool", "attempts":
        "int", "reused": "bool", "imported": "bool", "refused": "str"}],
    "parts of the schema": {"heard": ["high", "low", "n", "value"], "sha256": [], "blob": [], "line": [], "number":
        [], "count": [], "metric": [], "task": ["baselines", "docs", "input", "rates", "samples", "scores",
        "setting"]},
    "readings of a line": [{"order": ["int"], "template": "int", "sample": "int", "distribution": ["float"], "mass":
        "float", "lower": ["float"], "samples": "float"}],
    "reply keys": ["d2d92bf7a81642db", "b14d30f14a0e1658", "76b1d4cccf81c4ea"],
    "required by the schema": ["api", "by", "command", "configuration", "environment", "format", "hashes", "identity",
        "liveness", "name", "note", "system", "tasks", "usage", "version"],
    "row of a message": {"community": "str", "prompt": "str", "text": "str", "n_tokens": "int", "stopped": "bool",
        "attempts": "int"},
    "row of an answer": ["greedy", "logprobs", "lower", "messages", "readings", "samples", "selections", "sent",
        "skipped", "text"],
    "schema": ["api", "by", "command", "configuration", "environment", "format", "hashes", "identity", "listening",
        "liveness", "name", "note", "system", "tasks", "usage", "version"],
    "selections of a line": [{"community": "str", "raw": "str", "fallback": "bool"}],
    "sent of a line": [{"round": "str", "prompt": "str", "tokens_cut": "int", "scores": {"logprobs": ["float"],
        "greedy": "int", "uniform_fallback": "bool", "replies": ["str"], "unread": "int", "unseen": "float",
        "samples": "int", "texts": [{"logprob": "float", "tokens": "int", "greedy": "bool"}], "priors": ["float"]},
        "refused": "str", "cuts": {"left": "int"}, "broken": {"left": "int"}}],
    "settings of the fingerprint": ["attribute", "chat", "chat_date", "cloze_normalisation", "communities", "llm",
        "message_max_tokens", "message_samples", "message_temperature", "message_top_p", "mode", "orders", "overlong",
        "preset", "prompts", "readout", "readout_samples", "seed", "selection", "templates", "weights"],
    "spread of a line": {"order": "float"},
    "submission": ["api", "by", "command", "configuration", "environment", "format", "hashes", "identity", "liveness",
        "name", "note", "system", "tasks", "usage", "version"],
    "task of a submission": ["baselines", "docs", "input", "rates", "samples", "scores", "setting"],
}  # fmt: skip
"""What was computed when it was frozen; of hashes the beginning."""


def frozen(name: str, value: Any) -> None:
    """``value`` is what it was."""
    assert value == FROZEN[name], name


def shape(value: Any) -> Any:
    """Keys and types of JSON; a list by its first entry."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    return [shape(part) for part in value[:1]] if isinstance(value, list) else type(value).__name__
