"""The manipulation check: exact on LLMs whose every answer is known, kept, and told wherever tables are."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from pluralism_eval import heard, listening, ranks
from pluralism_eval.data.docs import build_docs, problem_of
from pluralism_eval.doctor import checks
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import describe, pages, schema, submit
from pluralism_eval.leaderboard.verify import verify_each
from pluralism_eval.listening import Way
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.planning.plan import make_plan
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.reproduce import filled
from pluralism_eval.results import Run
from pluralism_eval.schema import Query
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec, parse_llm
from tests.conftest import ScriptedLM
from tests.unit.leaderboard.runs import make_run
from tests.unit.test_doctor import one, run_of
from tests.unit.test_filled import close, uniform
from tests.unit.test_filled import run as filled_run

PROBES = listening.probes()
N_OPTIONS = [len(probe["quoted"]) for probe in PROBES["options"]]
run = filled_run  # a fixture
PRESET, PROMPTS = get_preset("paper"), Prompts()
Choose = Callable[[list[str], str], int]


def named() -> dict[str, str]:
    """Passage → the option that it speaks for."""
    found: dict[str, str] = {}
    for probe in PROBES["options"]:
        own = build_docs(probe["task"], [probe["item"]], {"preset": "paper"}, "")[0]["pluralism"]
        for level in heard.LEVELS:
            for passage, option in zip(probe[level], own["options"], strict=True):
                assert found.setdefault(passage, option) == option
    return found


NAMED = named()


class Reader(ScriptedLM):
    """Reads the passage of a prompt and answers as ``choose`` says; its other texts by ``write``."""

    choose: Choose = staticmethod(lambda options, wanted: options.index(wanted))
    write: Callable[[str], str] = staticmethod(lambda prompt: "")

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        if not self.can_score:
            raise NotImplementedError
        return [(self._score(*r.args), False) for r in requests]

    def _score(self, prompt: str, continuation: str) -> float:
        self.seen.append(("score", prompt))
        if "Passage:" not in prompt:  # the tiny request that asks whether it scores at all
            return -1.0
        wanted = NAMED[re.findall(r"Passage: (.*)", prompt)[0]]
        if len(continuation.strip()) > 1:  # a cloze
            return 0.0 if continuation.strip() == wanted else -200.0
        letters = listed(prompt)
        answer = list(letters)[type(self).choose(list(letters.values()), wanted)]
        return math.log(0.5) if continuation.strip() == answer else -math.inf

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.seen.extend(("generate", r.args[0]) for r in requests)
        return [type(self).write(r.args[0]) for r in requests]


def listed(prompt: str) -> dict[str, str]:
    """Letter → option, in the order in which the prompt lists them."""
    text = prompt.split("Passage: ", 1)[1].split("\n", 1)[1]
    found = re.findall(r"(?<!\S)([A-E])\. (.+?)(?=\s+[A-E]\. |\s*\nAnswer:)", text, re.DOTALL)
    return dict(found)


def obey(prompt: str) -> str:
    """The comment that fits; all passages; the letter of the option that the passage names."""
    comments = re.findall(r"Comment \d+: (.*)", prompt)
    if comments:
        case = next(c for c in PROBES["selection"] if c["comments"] == comments)
        return str(comments.index(case["comments"][case["fits"]]) + 1)
    if "with the help of the following" in prompt:
        return " ".join(re.findall(r"Passage \d+: (.*)", prompt))
    letters = listed(prompt)
    wanted = NAMED[re.findall(r"Passage: (.*)", prompt)[0]]
    return next(letter for letter, option in letters.items() if option == wanted)


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "cache_root", lambda: tmp_path / "cache")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Callable[..., HarnessLLM]:
    monkeypatch.setattr(ScriptedLM, "seen", [])

    def make(name: str = "reader", **how: Any) -> HarnessLLM:
        for key, value in how.items():
            monkeypatch.setattr(
                Reader, key, staticmethod(value) if callable(value) else value, raising=False
            )
        return HarnessLLM(Reader(), name)

    return make


def measure(llm: HarnessLLM, readout: str = "letters", **given: Any) -> dict[str, Any]:
    settings = parse("modular_pluralism", {"llm": "embedded", "listening": True, **given})
    return listening.listening(llm, PROMPTS, settings, PRESET, Way(readout, chat=False))


def value(row: dict[str, Any], name: str = "quoted") -> float:
    return heard.figures(row)[name].value


# ---------------------------------------------------------------------- the probes


def test_the_probes_are_sixty_twenty_and_twelve_valid_items() -> None:
    assert {k: len(v) for k, v in PROBES.items()} == {"options": 60, "selection": 20, "responses": 12}  # fmt: skip
    assert set(Counter(p["task"] for p in PROBES["options"]).values()) == {15}
    for probe in PROBES["options"]:
        assert problem_of(probe["task"], probe["item"]) == ""
        own = build_docs(probe["task"], [probe["item"]], {"preset": "paper"}, "")[0]["pluralism"]
        for option, quoted, argued in zip(own["options"], *(probe[level] for level in heard.LEVELS), strict=True):  # fmt: skip
            assert option.rstrip(".").lower() in quoted.lower()
            assert "\n" not in quoted + argued
            assert option.rstrip(".").lower() not in argued.lower()
    assert Counter(c["fits"] for c in PROBES["selection"]) == {0: 5, 1: 5, 2: 5, 3: 5}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-40],
        lambda text: text.replace('"quoted"', '"said"'),
        lambda text: text.replace('"fits": 3', '"fits": 9'),
        lambda text: "[]",
    ],
)
def test_damaged_probes_are_one_clear_error(
    change: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(listening.__file__).parent / "data" / listening.FILE).read_text("utf-8")
    (tmp_path / listening.FILE).write_text(change(text), encoding="utf-8")
    listening.probes.cache_clear()
    monkeypatch.setattr(listening, "files", lambda package: tmp_path)
    with pytest.raises(PluralismError, match=r"listening\.json\) are damaged.*listening=false"):
        listening.probes()
    monkeypatch.undo()
    listening.probes.cache_clear()


# ---------------------------------------------------------------------- the figures


def test_an_llm_that_obeys_has_one(reader: Callable[..., HarnessLLM]) -> None:
    row = measure(reader(write=obey))
    for level in heard.LEVELS:
        assert heard.figures(row)[level] == heard.Heard(1.0, 1.0, 1.0, 60)
    assert heard.figures(row)["selection"] == heard.Heard(1.0, 1.0, 1.0, 20)
    cases = [[set(words(p)) for p in c["passages"]] for c in PROBES["responses"]]
    others = [
        fmean(len(p & (q[0] | q[1])) / len(p) for p in own for q in cases if q is not own)
        for own in cases
    ]
    assert value(row, "responses") == pytest.approx(1 - fmean(others))
    assert 0.9 < value(row, "responses") < 1


def words(text: str) -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return [
        w for w in re.findall(r"[a-z]+", text.lower()) if len(w) > 2 and w not in ENGLISH_STOP_WORDS
    ]


def test_an_llm_that_ignores_messages_has_nought(reader: Callable[..., HarnessLLM]) -> None:
    row = measure(reader(choose=lambda options, wanted: 0, write=lambda prompt: "1"))
    assert [value(row, name) for name in (*heard.LEVELS, "responses")] == [0.0, 0.0, 0.0]
    assert value(row, "selection") == 0.25
    assert heard.figures(row)["selection"].low < 0.25 < heard.figures(row)["selection"].high


def test_an_llm_that_inverts_them_has_what_the_definition_gives(
    reader: Callable[..., HarnessLLM],
) -> None:
    row = measure(reader(choose=lambda options, wanted: options.index(wanted) - 1))
    expected = -fmean(1 / (n - 1) for n in N_OPTIONS)  # -1 with two options
    assert value(row) == pytest.approx(expected)
    assert value(row, "selection") == 0.0
    assert "goes against" in heard.sentence(heard.figures(row))


def test_both_orders_count(reader: Callable[..., HarnessLLM]) -> None:
    """An LLM that answers with the option's place in the item, wherever the prompt lists it."""
    places = {}
    for probe in PROBES["options"]:
        own = build_docs(probe["task"], [probe["item"]], {"preset": "paper"}, "")[0]["pluralism"]
        places |= {frozenset(own["options"]): own["options"]}
    row = measure(reader(choose=lambda options, wanted: places[frozenset(options)].index(wanted)))

    def backwards(n: int) -> float:
        own = [(1.0 if i == n - 1 - i else -1 / (n - 1)) for i in range(n)]
        return fmean(own)

    assert value(row) == pytest.approx(fmean((1 + backwards(n)) / 2 for n in N_OPTIONS))
    assert value(row) < 0.5


def test_the_cloze_readout_hears_the_texts(reader: Callable[..., HarnessLLM]) -> None:
    llm = reader(choose=lambda options, wanted: 0)  # deaf in letters
    assert value(measure(llm)) == 0.0
    assert value(measure(llm, "cloze")) == pytest.approx(1.0)
    assert len(heard.store()) == 2
    assert "A. " not in Reader.seen[-40][1]


def test_an_llm_without_logprobs_is_read_by_its_words(reader: Callable[..., HarnessLLM]) -> None:
    llm = reader(can_score=False, write=obey)
    settings = parse("modular_pluralism", {"llm": "embedded", "readout": "options"})
    way = listening.way_of(llm, settings, None, [])
    assert way.readout == "generated"
    row = listening.listening(llm, PROMPTS, settings, PRESET, way)
    assert (value(row), value(row, "argued"), value(row, "selection")) == (1.0, 1.0, 1.0)
    assert len(Reader.seen) == listening.size("generated", 20)[0]


def test_what_a_run_asks_in_is_what_is_measured(reader: Callable[..., HarnessLLM]) -> None:
    llm = reader()
    turns = ({"role": "system", "content": "Be fair."},)
    query = Query("k", "t", 0, "0", "", "overton", "generation", "x", history=turns, chat=True)
    way = listening.way_of(llm, parse("moe", {"llm": "hf", "pretrained": "x"}), None, [query])
    assert way == Way("letters", True, "Be fair.")
    settings = parse("modular_pluralism", {"listening": True})
    row = listening.listening(llm, PROMPTS, settings, PRESET, way)
    assert row["chat"]
    assert value(row) == 1.0
    assert Reader.seen[-1][1].startswith("<system>Be fair.</><user>")


def test_servers_are_asked_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(heard.VARIABLE)
    server = {"llm": "openai", "llm_args": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}}
    for llm, why in (
        (server, "is a server"),
        (server | {"listening": True}, ""),
        ({"llm": "local-chat-completions"}, "is a server"),
        ({"llm": "embedded"}, ""),
        ({"llm": "embedded", "listening": "false"}, "listening=false"),
    ):
        assert listening.unwanted(parse("moe", llm)).count(why or "x") == (1 if why else 0)
    monkeypatch.setenv(heard.VARIABLE, "off")
    assert listening.unwanted(parse("moe", {"llm": "embedded"})) == f"{heard.VARIABLE}=off"
    assert not listening.unwanted(parse("moe", {"llm": "embedded", "listening": "true"}))
    with pytest.raises(PluralismError, match="listening='loud' is unknown"):
        parse("moe", {"listening": "loud"})


# ---------------------------------------------------------------------- kept


def test_it_is_measured_once_per_llm_readout_and_template(
    reader: Callable[..., HarnessLLM],
) -> None:
    llm = reader()
    first = measure(llm)
    n, used = len(Reader.seen), asdict(llm.usage)
    assert used == {"calls": 0, "prompt_tokens": 0, "new_tokens": 0}  # the run's own
    assert first["usage"]["calls"] > 600
    assert measure(reader()) == first
    assert measure(llm, readout_samples=3, cloze_normalisation="pmi", batch_tokens=9) == first
    assert len(Reader.seen) == n
    measure(reader("another"))
    assert len(Reader.seen) > n
    other = HarnessLLM(Reader(), "reader")
    other.contents = {"pretrained": "sha256:1"}
    n = len(Reader.seen)
    measure(other)  # the same name, other weights
    assert len(Reader.seen) > n


def test_processes_take_the_same_steps(
    reader: Callable[..., HarnessLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a store holds is agreed on, and one process writes."""
    llm = reader()
    monkeypatch.setattr(ranks, "is_first", lambda: False)
    measure(llm)
    assert len(heard.store()) == 0
    told = {"quoted": {"value": 0.5}}
    monkeypatch.setattr(ranks, "agree", lambda own: {key_of(llm): told})
    n = len(Reader.seen)
    assert measure(llm) == told
    assert len(Reader.seen) == n


def key_of(llm: HarnessLLM) -> str:
    settings = parse("modular_pluralism", {"llm": "embedded"})
    return listening.key_of(llm.identity, PROMPTS, settings, PRESET, Way("letters"))


def test_a_window_too_small_is_said_and_ends_no_run(
    reader: Callable[..., HarnessLLM], caplog: pytest.LogCaptureFixture
) -> None:
    llm = reader()
    llm.inner.max_length = 20
    row = measure(llm)
    assert "window of 20 tokens" in row[heard.NOT_MEASURED]
    assert "was not measured" in caplog.text
    assert not heard.figures(row)
    assert len(heard.store()) == 0


# ---------------------------------------------------------------------- told


ROW = {
    "quoted": {"value": 0.94, "low": 0.9, "high": 0.97, "n": 60},
    "argued": {"value": 0.04, "low": 0.01, "high": 0.07, "n": 60},
    "readout": "cloze", "chat": True, "llm": "m",
}  # fmt: skip
DEAF = {**ROW, "quoted": {"value": 0.01, "low": -0.01, "high": 0.03, "n": 60}, "readout": "letters"}


def test_sentences() -> None:
    assert heard.sentence(heard.figures(ROW)).startswith("this LLM moves by 0.94 of 1 with its message")  # fmt: skip
    deaf = heard.sentence(heard.figures(DEAF), "X")
    assert deaf == "X moves by 0.01 of 1 with its message: it hardly hears messages, so differences between methods mean little"  # fmt: skip
    for bad in (None, [], {"quoted": 1}, {**ROW, "quoted": {**ROW["quoted"], "value": "<b>"}}):  # type: ignore[dict-item]
        assert heard.figures(bad) == {}


def test_the_warning_names_a_readout_that_hears_better() -> None:
    assert heard.warning(ROW, "m") == ""
    assert "readout letters). Try: readout=cloze" in heard.warning(DEAF, "m")
    heard.store().put({"other": {**ROW, "llm": "another LLM"}, "own": {**ROW, "readout": "sampled"}})  # fmt: skip
    text = heard.warning(DEAF, "m")
    assert "hardly hears" in text
    assert "readout=sampled in the chat template hears better: 0.94" in text
    assert "chat=true" in heard.advice({**DEAF, "readout": "cloze", "chat": False, "llm": "x"})


def test_every_table_says_it(run: Callable[..., Run]) -> None:
    plain, ours = run("vanilla", uniform), run("modular_pluralism", close)
    ours.config["pluralism"]["listening"] = ROW
    tables = filled.tables(filled.labelled([plain, ours]))
    assert len(tables) > 1
    for table in tables:
        (note,) = [n for n in table.notes if "with its message" in n]
        assert note.startswith("this LLM moves by 0.94 of 1")
        assert "cloze in the chat" in note
    ours.config["pluralism"]["listening"] = {heard.NOT_MEASURED: "listening=false"}
    (note,) = [n for n in filled.tables({"a": ours})[0].notes if "message" in n]
    assert "was not measured" in note
    assert not [n for n in filled.tables({"a": plain})[0].notes if "message" in n]


def test_submissions_hold_it_and_need_not(tmp_path: Path) -> None:
    from pluralism_eval.results import read_run

    ran = read_run(make_run(tmp_path / "run", ["moralchoice"], 5, 1))
    assert "listening" not in submit.make(ran).content  # as older ones
    ran.config["pluralism"]["listening"] = {**ROW, "usage": {"calls": 3}}  # type: ignore[index]
    content = submit.make(ran).content
    assert content["listening"] == {k: v for k, v in ROW.items() if k != "llm"}
    assert describe.listening(ran) == content["listening"]
    folder = submit.write(submit.make(ran), tmp_path / "submissions")
    (verdict,) = verify_each([folder])
    assert verdict.status == "verified"
    assert "moves by 0.94 of 1 with its message" in pages._described(verdict)
    content["listening"]["quoted"]["value"] = 3
    assert "listening.quoted.value" in schema.problems_of(content)[0]


def test_the_doctor_knows_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pluralism_eval.doctor import hearing

    monkeypatch.setattr(heard, "_shipped", dict)
    assert "no messages" in one("listening", run_of(model="vanilla")).seen
    asked = run_of(model="modular_pluralism", model_args={"listening": True})
    found = one("listening", asked)
    assert found.level == "ok"
    assert f"{listening.size('cloze', 20)[0]} prompts" in found.seen
    s = asked.settings
    identity = hearing.identity_of(s, asked.tokenizer)
    key = listening.key_of(identity, asked.prompts, s, asked.preset, Way("cloze", True))
    heard.store().put({key: {**ROW, "llm": identity}})
    assert "moves by 0.94" in one("listening", asked).seen
    monkeypatch.setattr(heard, "cache_root", lambda: tmp_path / "another")
    heard.store().put({key: {**DEAF, "llm": identity}})
    found = one("listening", asked)
    assert (found.level, "readout=cloze" in found.do) == ("warning", True)
    assert [name for name, _ in checks.CHECKS].count("listening") == 1


def test_a_plan_says_what_it_costs() -> None:
    def notes(**settings: Any) -> str:
        llm = parse_llm("openai:model=gpt-x;base_url=http://127.0.0.1:9/v1")
        spec = RunSpec("a", "modular_pluralism", llm, ("pluralism_steerable_vk",), settings, {"data": "sample"}, limit=1)  # fmt: skip
        return "\n".join(make_plan([spec]).notes)

    prompts, requests = listening.size("letters", 20)
    assert f"takes {prompts} prompts (up to {requests:,} requests" in notes(listening=True)
    assert "listens" not in notes()
    assert (prompts, listening.size("cloze", 20)[0]) == (4 * sum(N_OPTIONS) + 32, 2 * sum(N_OPTIONS) + 52)  # fmt: skip


def test_the_readouts_command_has_a_column() -> None:
    from pluralism_eval.commands import readouts

    row = {
        "readout_used": "letters", "score": 0.1, "stderr": 0.1, "lower": 0.1, "upper": 0.1, "sampling_error": 0,
        "option_mass": 1, "unparsed": 0, "total_variation": 0, "usage": {"calls": 1, "prompt_tokens": 1, "new_tokens": 1},
    }  # fmt: skip
    header, first, second = readouts.rows(
        "pluralism_steerable_vk", {"a": row | {"listening": ROW}, "b": row}
    )
    assert (header[-1], first[-1], second[-1]) == ("listening", "0.94 / 0.04", "–")


def test_nothing_is_logged_where_nothing_is_wrong(
    reader: Callable[..., HarnessLLM], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    json.dumps(measure(reader()))
    assert not caplog.text
