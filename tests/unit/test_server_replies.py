"""What is read of a server's replies is what its model said; what cannot be read is refused or counted, never kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pluralism_eval.answers import AnswerCache
from pluralism_eval.api.replies import read_reply
from pluralism_eval.cache import Store
from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.served import Endpoint, ServedEngine
from pluralism_eval.distribution import normalise
from pluralism_eval.doctor import endpoint
from pluralism_eval.doctor.run import Asked, Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.hijack.kept import KeptLLM
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.hf import HFLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.llm.openai_api import OpenAILLM
from pluralism_eval.llm.openai_scores import from_top
from pluralism_eval.llm.thoughts import check_no_thought, without_thought
from pluralism_eval.presets import get_preset
from pluralism_eval.requests import text_decoding
from pluralism_eval.schema import Answer, OptionScores, Query, Sent
from pluralism_eval.settings import parse
from pluralism_eval.transcript import rates
from tests.openai_server import Faults, Offer, Scripted, Server
from tests.openai_server.backend import Ask
from tests.openai_server.forms import id_of
from tests.openai_server.scripted import hashed

TURNS = [{"role": "user", "content": "Is it right? A. yes B. no"}]
LETTERS = ("A", "B")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer that counts as ``Scripted`` does and puts ``<s>`` before every text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {"<s>": 0, "<unk>": 1, " A": 2, "▁B": 3, "A": 4, "B": 5}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?\w+|\s?[^\w\s]|\s"), "isolated")
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>")
    made.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(folder)
    return str(folder)


def sure(context: str) -> dict[str, float]:
    """Every text goes on with one of 12 tokens, by probabilities that depend on all that stands before."""
    found = {token: p for token, p in hashed(context).items() if token.strip() in {*"ABC12"}}
    if context[-1:].isalnum():
        found |= {".": 0.1}
    return {token: p / sum(found.values()) for token, p in found.items()}


def llm_of(server: Server, **more: Any) -> OpenAILLM:
    args = {"model": "model", "base_url": server.url, "max_retries": 1, **more}
    found = load_llm(parse("vanilla", {"llm": "openai", "llm_args": args}))
    assert isinstance(found, OpenAILLM)
    return found


def always(kind: str, when: Callable[[Mapping[str, Any]], bool] = lambda body: True) -> Faults:
    return Faults(rule=lambda i, body: kind if when(body) else None)


def share_of_a(scores: Any) -> float:
    return normalise(scores.logprobs)[0][0]


# ---------------------------------------------------------------------- the start token


@pytest.mark.parametrize("start", ["<s>", ""])
@pytest.mark.parametrize(
    "offer", [Offer(), Offer(echo="refused"), Offer(echo="refused", logprobs="refused")]
)
def test_the_start_token_comes_once_in_options_and_texts(tokenizer: str, start: str, offer: Offer) -> None:  # fmt: skip
    begun: set[int] = set()

    def seen(context: str) -> dict[str, float]:
        begun.add(context.count("<s>")) if "[assistant]" in context else None
        return sure(context)

    with Server(Scripted(distribution=seen, start=start), offer) as server:
        llm = llm_of(server, api="completions", tokenizer=tokenizer)
        prompt = llm.render(TURNS)
        assert prompt.startswith("<s>")
        if offer.logprobs == "given":
            (scores,) = llm.option_logprobs([prompt], [LETTERS])
            truth = sure(prompt)
            a, b = (truth[x] + truth[f" {x}"] for x in LETTERS)
            assert share_of_a(scores) == pytest.approx(a / (a + b))
            assert sum(map(math.exp, scores.logprobs)) == pytest.approx(a + b)
        llm.generate([prompt], {"max_gen_toks": 3})
        assert begun == {1}
        assert llm.adds_start() == start


def test_a_start_token_that_cannot_be_seen_is_an_error_with_the_way_out(tokenizer: str) -> None:
    with Server(Scripted(start="<s>"), Offer(echo="refused", extra=("add_special_tokens",)),
                faults=always("no_usage")) as server:  # fmt: skip
        llm = llm_of(server, api="completions", tokenizer=tokenizer)
        with pytest.raises(PluralismError, match=r"does not count tokens.*add_special_tokens"):
            llm.generate([llm.render(TURNS)], {})
        known = llm_of(server, api="completions", tokenizer=tokenizer, extra={"add_special_tokens": False})  # fmt: skip
        assert known.generate([known.render(TURNS)], {})
    with Server(Scripted(start="<s> and more"), Offer(echo="refused")) as server:
        llm = llm_of(server, api="completions", tokenizer=tokenizer)
        with pytest.raises(
            PluralismError, match=r"makes 2 tokens, the server counts 5.*served model's"
        ):
            llm.generate([llm.render(TURNS)], {})


@pytest.mark.parametrize(("start", "said"), [("<s>", "puts '<s>' before prompts"), ("", "adds no second start token")])  # fmt: skip
def test_the_doctor_says_who_adds_the_start_token(tokenizer: str, start: str, said: str) -> None:
    with Server(Scripted(distribution=sure, start=start)) as server:
        args = {"model": "model", "base_url": server.url, "api": "completions", "tokenizer": tokenizer}  # fmt: skip
        model = {"llm": "openai", "llm_args": args}
        asked = Asked(tasks=["pluralism_steerable_vk"], limit=2, metadata={"data": "sample"}, model="vanilla", model_args=model, chat=True)  # fmt: skip
        (found,) = endpoint.endpoint(Run(asked))
        assert (found.level, said in found.seen) == ("ok", True)


@pytest.mark.parametrize("start", ["<s>", ""])
def test_the_start_token_comes_once_in_messages_of_served_communities(start: str) -> None:
    begun: set[int] = set()

    def seen(context: str) -> dict[str, float]:
        begun.add(context.count("<s>")) if "[INST]" in context else None
        return sure(context)

    with Server(Scripted(distribution=seen, start=start), Offer(extra=("min_tokens",))) as server:
        engine = ServedEngine(server.url, {"a": Endpoint("model", "model")})
        ((_, out),) = engine.generate([Job("1", "a", "<s>[INST] Hi [/INST]", 1)], Sampling(5))
        assert out.text
        assert begun == {1}
    with Server(Scripted(), Offer(extra=("min_tokens",), echo="ignored")) as server:
        engine = ServedEngine(server.url, {"a": Endpoint("model", "model")})
        with pytest.raises(PluralismError, match=r"begins with '<s>'.*leave it out"):
            list(engine.generate([Job("1", "a", "<s>[INST] Hi [/INST]", 1)], Sampling(5)))


def test_thoughts_of_served_communities_are_no_messages() -> None:
    def rule(ask: Ask, i: int) -> str:
        return "<think>Hm, B" if "hard" in str(ask.prompt) else "<think>Hm, B</think>\n\nI like A"

    with Server(Scripted(rule)) as server:
        engine = ServedEngine(server.url, {"a": Endpoint("model", "", "You are a nurse.")})
        found = {
            j.key: o.text
            for j, o in engine.generate(
                [Job("1", "a", "easy", 1, True), Job("2", "a", "hard", 1, True)], Sampling(20)
            )
        }
        assert found == {"1": "I like A", "2": ""}
        with pytest.raises(
            PluralismError, match=r"1 of 1 messages used up message_max_tokens=4.*raise it"
        ):
            list(engine.generate([Job("3", "a", "easy", 2, True)], Sampling(4)))


# ---------------------------------------------------------------------- the probe


ECHO = lambda body: bool(body.get("echo"))  # noqa: E731


@pytest.mark.parametrize(
    ("faults", "args", "readout"),
    [
        (always("null_logprobs"), {"api": "completions"}, "sampled"),
        (always("null_logprobs", ECHO), {"api": "completions"}, "top_logprobs"),
        (always("no_echo", ECHO), {"api": "completions"}, "top_logprobs"),
        (always("token_ids"), {"api": "completions"}, "sampled"),
        (always("chat_form"), {"api": "completions"}, "echo"),
        (always("null_logprobs"), {}, "sampled"),
        (always("token_ids"), {}, "sampled"),
        (always("thought_only"), {}, "sampled"),
        (always("null_tops"), {}, "top_logprobs"),
        (always("tops_twice"), {}, "top_logprobs"),
    ],
)
def test_a_readout_is_used_only_where_replies_hold_what_it_reads(
    faults: Faults, args: dict[str, Any], readout: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(Scripted(distribution=sure), faults=faults) as server:
        llm = llm_of(server, **args)
        assert llm.resolve("options") == readout
        assert (f"options becomes {readout}: " in caplog.text) == (readout == "sampled" or (bool(args) and readout != "echo"))  # fmt: skip
        if readout == "sampled":
            with pytest.raises(PluralismError, match=r"gives no top_logprobs for model \(i"):
                llm.resolve("top_logprobs")
            return
        prompt = "Is it right? A. yes B. no:" if args else llm.render(TURNS)
        (scores,) = llm.option_logprobs([prompt], [LETTERS])
        truth = sure(prompt if args else server.app.backend.render(TURNS))
        values = [truth[f" {x}"] + truth[x] for x in LETTERS]
        assert share_of_a(scores) == pytest.approx(values[0] / sum(values))
        assert sum(map(math.exp, scores.logprobs)) == pytest.approx(sum(values))


@pytest.mark.parametrize(("kind", "args"), [("null_logprobs", {}), ("null_logprobs", {"api": "completions"}), ("no_echo", {"api": "completions"})])  # fmt: skip
def test_useless_replies_are_an_error_and_not_kept(kind: str, args: dict[str, Any]) -> None:
    broken = [False]
    faults = Faults(rule=lambda i, body: kind if broken[0] else None)
    with Server(Scripted(distribution=sure), Offer(idempotency=False), faults) as server:
        llm = llm_of(server, **args)
        prompts = [llm.render([{"role": "user", "content": f"{i} A or B?"}]) if not args else f"{i} A or B?" for i in range(3)]  # fmt: skip
        assert llm.resolve("options") == ("echo" if args else "top_logprobs")
        kept, broken[0] = len(llm.api.store), True
        with pytest.raises(PluralismError, match="replies shows"):
            llm.option_logprobs(prompts, [LETTERS] * 3)
        assert len(llm.api.store) == kept
        broken[0] = False
        assert all(s.unread == 0 for s in llm.option_logprobs(prompts, [LETTERS] * 3))


def test_a_form_that_is_not_known_is_named() -> None:
    with Server(Scripted(distribution=sure)) as server:
        llm = llm_of(server, api="completions")
        choice = {"text": "A", "logprobs": {"tokens": ["A"], "token_logprobs": [-1.0], "top_logprobs": [["A"]]}}  # fmt: skip
        llm.api._create = lambda call, key: {"model": "model", "choices": [choice]}  # type: ignore[method-assign]
        with pytest.raises(PluralismError, match=r"3 replies could not be read: .*no attribute 'items'"):  # fmt: skip
            llm.resolve("options")


def test_useless_replies_that_were_kept_are_asked_again() -> None:
    with Server(Scripted(distribution=sure)) as server:
        llm = llm_of(server)
        prompt = llm.render(TURNS)
        call = llm.first_token_call(prompt, 20)
        raw = {"model": "model", "choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": None}]}}]}  # fmt: skip
        llm.api.store.put({llm.api.key(call): raw})
        (first,) = llm.option_logprobs([prompt], [LETTERS])
        sent = len(server.ledger.requests)
        (again,) = llm_of(server, concurrency=3).option_logprobs([prompt], [LETTERS])
        assert first.unread == again.unread == 0
        assert again.logprobs == first.logprobs
        assert len(server.ledger.requests) == sent + 1  # its list of models


def test_answers_that_were_not_shown_are_not_kept_anywhere(tmp_path: Path) -> None:
    lost = OptionScores((-math.inf,) * 2, -1, unread=1)
    said = OptionScores((-math.inf,) * 2, -1, replies=("?",), unread=1)
    query = Query("t/0", "t", 0, "0", "", "distributional", "letters", "Q", options=LETTERS)
    answers = AnswerCache(tmp_path / "a.sqlite", "f")
    for scores, kept in ((lost, set()), (said, {"t/0"})):  # words that name no option are an answer
        answers.save([query], {"t/0": Answer(logprobs=scores.logprobs, sent=(Sent("respond", "Q", scores=scores),))})  # fmt: skip
        assert answers.known([query]) == kept

    class Inner:
        def refused(self, prompt: str) -> str:
            return ""

        def option_logprobs(self, prompts: list[str], letters: Any, *how: Any) -> list[OptionScores]:  # fmt: skip
            return [lost if "lost" in prompt else said for prompt in prompts]

        name = identity = "m"

    llm = KeptLLM(Inner(), Store(tmp_path / "k.sqlite", "kept"))  # type: ignore[arg-type]
    for asked in (2, 3):
        llm.option_logprobs(["lost", "said"], [LETTERS] * 2)
        assert llm.asked == asked


# ---------------------------------------------------------------------- likeliest tokens


def chat_reply(tops: list[Any], content: Any = "A", **more: Any) -> Any:
    """The first choice of a chat reply."""
    place = {"token": "A", "logprob": -1.0, "bytes": [65], "top_logprobs": tops}
    choice = {"message": {"content": content}, "logprobs": {"content": [place]}, **more}
    return read_reply({"model": "m", "choices": [choice]}).choices[0]


def entry(token: str, p: float, raw: bytes | None = None) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(p), "bytes": None if raw is None else list(raw)}


@pytest.mark.parametrize(
    ("tops", "letters", "expected", "unseen"),
    [
        # one entry listed twice; once more with the blank, which is another token
        ([entry("A", 0.6), entry("B", 0.3), entry("B", 0.3)], "AB", [0.6, 0.3], 0.1),
        ([entry("A", 0.5), entry(" B", 0.2), entry("B", 0.1), entry(" B", 0.2)], "AB", [0.5, 0.3], 0.2),
        ([entry("A", 0.5), entry("A", 0.4999999), entry("B", 0.25)], "AB", [0.5, 0.25], 0.25),
        # servers that spell two tokens alike
        ([entry("A", 0.5), entry("A", 0.2), entry("B", 0.1)], "AB", [0.7, 0.1], 0.2),
        ([entry("A", 0.7), entry("A", 0.6), entry("B", 0.1)], "AB", [0.7, 0.1], 0.2),
        ([{"token": "C", "logprob": None}, None, entry("A", 0.7), entry("B", 0.1)], "AB", [0.7, 0.1], 0.2),
        # whole characters by their bytes; the first byte of both options belongs to neither yet
        ([entry("\\xe6\\x98\\xaf", 0.5, " 是".encode()), entry("不", 0.2, "不".encode())], ("是", "不"), [0.5, 0.2], 0.3),
        ([entry(" 是", 0.5, " 是".encode()), entry("\\xe4", 0.2, b"\xe4"), entry("x", 0.1)], (" 是", " 不"), [0.5, 0.0], 0.4),
        ([entry("bytes: \\xe4\\xb8\\x8d", 0.5), entry("\ufffd", 0.2)], (" 是", " 不"), [0.0, 0.5], 0.5),
    ],
)  # fmt: skip
def test_the_likeliest_tokens(tops: list[Any], letters: Any, expected: list[float], unseen: float) -> None:  # fmt: skip
    scores = from_top(chat_reply(tops), tuple(letters), None)
    assert list(map(math.exp, scores.logprobs)) == pytest.approx(expected)
    assert scores.unseen == pytest.approx(unseen)
    assert scores.unread == 0


def test_an_empty_list_of_tokens_is_an_end_at_once_only_where_there_is_no_text() -> None:
    for text, first in (("", ()), ("A", None)):
        choice = {"message": {"content": text}, "logprobs": {"content": []}}
        assert read_reply({"model": "m", "choices": [choice]}).choices[0].first == first
        choice = {"text": text, "logprobs": {"tokens": [], "token_logprobs": []}}
        assert read_reply({"model": "m", "choices": [choice]}).choices[0].first == first


def test_tokens_by_id_are_read_with_a_tokenizer(tokenizer: str) -> None:
    ids = {f"token_id:{id_of(t)}": f"token_id:{i}" for t, i in {" A": 2, " B": 3, "A": 4, "B": 5}.items()}  # fmt: skip
    with Server(Scripted(distribution=sure), faults=always("token_ids")) as server:
        llm = llm_of(server, tokenizer=tokenizer)
        prompt = llm.render(TURNS)
        create = llm.api._create

        def own_ids(call: Any, key: str) -> Any:
            text = json.dumps(create(call, key))
            for theirs, ours in ids.items():
                text = text.replace(f'"{theirs}"', f'"{ours}"')
            return json.loads(text)

        llm.api._create = own_ids  # type: ignore[method-assign]
        llm.tokenizer.decode = lambda i, **_: {2: "A", 3: "B", 4: "A", 5: "B"}.get(i[0], "?")
        llm.tokenizer.convert_ids_to_tokens = lambda i: {2: "▁A", 3: "ĠB"}.get(i, "A")
        assert llm.resolve("options") == "top_logprobs"
        (scores,) = llm.option_logprobs([prompt], [LETTERS])
        truth = sure(server.app.backend.render(TURNS))
        values = [truth[f" {x}"] + truth[x] for x in LETTERS]
        assert list(map(math.exp, scores.logprobs)) == pytest.approx(values)


@pytest.mark.parametrize("pieces", [True, False])
def test_echoed_characters_in_pieces(pieces: bool) -> None:
    """``bytes:\\xe6\\x98`` of OpenAI's completions; U+FFFD alone says nothing and has no number."""
    tokens = ["Q", ":", " \\xe6\\x98", "\\xaf"]
    tokens = [f"bytes:{t}" if "\\" in t else t for t in tokens] if pieces else ["Q", ":", " \ufffd", "\ufffd"]  # fmt: skip
    logprobs = {"tokens": [*tokens, "."], "token_logprobs": [None, -1.0, -0.25, -0.5, -3.0], "top_logprobs": None}  # fmt: skip
    raw = {"model": "m", "usage": {"prompt_tokens": 4}, "choices": [{"text": "", "logprobs": logprobs}]}  # fmt: skip
    from pluralism_eval.llm.openai_scores import echoes, ending

    reply = read_reply(raw, echo=True)
    assert ending(reply, " 是")[1] == (-0.75 if pieces else -math.inf)
    assert echoes(reply, "Q: 是") == pieces


def test_an_answer_of_which_no_option_is_seen_is_a_rate_in_every_readout() -> None:
    def line(readout: str, logprobs: list[float], **more: Any) -> dict[str, Any]:
        scores = {"logprobs": logprobs, "uniform_fallback": False, **more}
        return {"task": "t", "doc_id": 1, "readout": readout, "sent": [{"scores": scores}]}

    lost = [-math.inf, -math.inf]
    for readout in ("letters", "echo", "top_logprobs", "continuations", "sampled"):
        entries = [line(readout, lost), line(readout, [-1.0, -2.0]), line(readout, [-9999.0] * 2)]
        found = rates([*entries, line(readout, [-1.0, -math.inf])])["t"]
        assert found["unread_answers"] == 0.5, readout
    direct = {"task": "t", "doc_id": 1, "readout": "harness", "sent": []}
    found = rates(
        [{**direct, "response": [-math.inf, False]}, {**direct, "response": [-1.0, True]}]
    )
    assert found["t"]["unread_answers"] == 0.5
    assert from_top(chat_reply([entry("x", 0.9)]), LETTERS, None).unread == 1


# ---------------------------------------------------------------------- texts


def said(settings: dict[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
    """(text, request) of one generation with lm-eval's ``settings``."""
    with Server(Scripted("one Z two A three"), Offer(extra=("top_k",))) as server:
        llm = llm_of(server, **more)
        (text,) = llm.generate([llm.render(TURNS)], settings)
        return text, server.ledger.requests[-1].body


@pytest.mark.parametrize(
    ("settings", "text", "sent"),
    [
        ({"until": "ZA"}, "one Z two A three", {"stop": ["ZA"], "max_tokens": 256}),
        ({"until": "two"}, "one Z ", {"stop": ["two"]}),
        ({"until": ("two", "")}, "one Z ", {"stop": ["two"]}),
        ({"until": None}, "one Z two A three", {"stop": None}),
        ({"max_new_tokens": 2}, "one Z", {"max_tokens": 2}),
        ({"max_completion_tokens": 2}, "one Z", {"max_tokens": 2}),
        # as lm-eval's clients of servers: a user's max_tokens wins over the task's own
        ({"max_tokens": 2, "max_gen_toks": 4}, "one Z", {"max_tokens": 2}),
        ({"max_gen_toks": 2, "max_new_tokens": 4}, "one Z", {"max_tokens": 2}),
        ({"temperature": 0.7, "top_p": 0.5}, None, {"temperature": 0.7, "top_p": 0.5}),
        ({"temperature": 0.7, "do_sample": False}, None, {"temperature": 0.0}),
        ({"temperature": None, "do_sample": True}, None, {"temperature": 0.0}),
        ({"top_k": 5}, None, {"top_k": 5}),
    ],
)  # fmt: skip
def test_generation_settings_mean_what_they_mean_to_lm_eval(
    settings: dict[str, Any], text: str | None, sent: dict[str, Any]
) -> None:
    found, body = said(settings)
    assert text is None or found == text
    assert {name: body.get(name) for name in sent} == sent


def test_generation_settings_of_composed_answers() -> None:
    paper, reference = get_preset("paper"), get_preset("paper+llm_max_tokens=9")
    assert text_decoding({"until": "ZA", "max_new_tokens": 3}, reference) == {"until": ["ZA"], "max_gen_toks": 9, "do_sample": False}  # fmt: skip
    assert text_decoding({"temperature": 0.5}, paper)["do_sample"] is True
    plain = {"until": [], "max_gen_toks": 512, "do_sample": False}
    assert text_decoding(plain, paper) == plain  # its answers are found again

    class Inner:
        max_gen_toks = 77

    llm = HarnessLLM(Inner(), "m")
    assert [llm.new_tokens(g) for g in ({}, {"max_tokens": 5}, {"max_completion_tokens": 6})] == [77, 5, 6]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "Yes"}, {"type": "text", "text": ", A"}], "Yes, A"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "B?"}]}, {"type": "text", "text": "A"}], "A"),
        (["A", {"type": "output_text", "text": "."}], "A."),
        ([], ""),
    ],
)  # fmt: skip
def test_content_as_a_list_of_parts(content: Any, text: str) -> None:
    assert chat_reply([], content).text == text
    with pytest.raises(PluralismError, match="'image_url' is no text"):
        chat_reply([], [{"type": "image_url", "image_url": {}}])


@pytest.mark.parametrize(
    ("text", "end", "answer"),
    [
        ("<think>B? No.\n\nSo</think>\n\nA", "</think>", "A"),
        ("B? No.</think> A", "</think>", "A"),  # its template opened it
        ("<think>a</think> b </think>\nA", "</think>", "A"),
        ("<think>B is", "</think>", None),
        (" [THINK]B is", "[/THINK]", None),
        ("I <think> so", "</think>", "I <think> so"),
        ("A", "</think>", "A"),
    ],
)
def test_a_thought_is_no_answer(text: str, end: str, answer: str | None) -> None:
    assert without_thought(text, end) == answer


def test_thoughts_in_texts_of_servers() -> None:
    with Server(Scripted("<think>No.\n\nB, or</think>\n\nA\n\nB")) as server:
        settings = {"until": ["\n\n"], "max_gen_toks": 30}
        llm = llm_of(server, think_end_token="</think>")
        assert llm.generate([llm.render(TURNS)], settings) == ["A"]
        bare = llm_of(server)
        with pytest.raises(PluralismError, match=r"within a thought.*think_end_token=</think>"):
            bare.generate([bare.render(TURNS)], settings)
        with pytest.raises(PluralismError, match=r"limit of 3 new tokens.*raise the limit"):
            bare.generate([bare.render(TURNS)], {"max_gen_toks": 3})
        assert bare.generate([bare.render(TURNS)], {"max_gen_toks": 30}) == ["A\n\nB"]


@pytest.mark.parametrize("args", [{}, {"api": "completions"}])
def test_an_empty_text_at_the_limit_says_raise_the_limit(
    args: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def rule(i: int, body: Any) -> str | None:
        return "thought_only" if "hard" in json.dumps(body) else None

    with Server(Scripted("A"), faults=Faults(rule=rule)) as server:
        llm = llm_of(server, **args)
        easy, hard = (f"{word} question" if args else llm.render([{"role": "user", "content": word}]) for word in ("easy", "hard"))  # fmt: skip
        with pytest.raises(PluralismError, match=r"1 answers: 1 used up the limit of 7.*raise the limit"):  # fmt: skip
            llm.generate([hard], {"max_gen_toks": 7})
        assert len(llm.api.store) == 0 or args  # text completions hold the thought itself
        assert llm.generate([easy, hard], {"max_gen_toks": 7}) == ["A", ""]
        assert "2 answers: 1 used up the limit" in caplog.text


# ---------------------------------------------------------------------- options after a thought


@pytest.mark.parametrize("tail", ["<think>\n", "<think>", "<seed:think>", "[THINK]", "◁think▷", "<|channel|>analysis<|message|>", "<Thinking> "])  # fmt: skip
def test_no_option_is_read_after_an_opened_thought(tail: str) -> None:
    with pytest.raises(PluralismError, match="opens a thought"):
        check_no_thought("m", [f"<user>Q<assistant>{tail}"])
    check_no_thought("m", [f"{tail}{tail.strip()}</think>\n\nA or B:", "I <think> so: "])


def test_no_option_of_a_model_in_this_process_is_read_after_an_opened_thought() -> None:
    """Before anything is loaded or sent; with lm-eval's own flag whatever the prompt is."""
    for kind in (HFLLM, HarnessLLM):
        for prompt, inner in (("Q<think>\n", {}), ("Q", {"enable_thinking": True})):
            llm = kind(SimpleNamespace(**inner), "m")
            with pytest.raises(PluralismError, match="opens a thought"):
                llm.option_logprobs([prompt], [LETTERS])
            with pytest.raises(PluralismError, match="opens a thought"):
                llm.continuation_logprobs([prompt], [["A", "B"]])


@pytest.mark.parametrize("readout", ["echo", "top_logprobs"])
def test_no_option_of_a_server_is_read_after_an_opened_thought(readout: str) -> None:
    with Server(Scripted(distribution=sure)) as server:
        llm = llm_of(server, api="completions")
        for ask in (
            lambda: llm.option_logprobs(["Q<think>\n"], [LETTERS], None, readout),
            lambda: llm.continuation_logprobs(["Q<think>\n"], [("A", "B")]),
        ):
            with pytest.raises(PluralismError, match="opens a thought"):
                ask()


def test_a_chat_model_that_thinks_first_is_asked_in_words() -> None:
    def thinks(context: str) -> Mapping[str, float]:
        return {"<think>": 0.9, "A": 0.06, "B": 0.02} if context.endswith("<assistant>") else sure(context)  # fmt: skip

    with Server(Scripted(distribution=thinks)) as server:
        llm = llm_of(server)
        assert llm.resolve("options") == "sampled"
        with pytest.raises(PluralismError, match="thinks before it answers"):
            llm.resolve("top_logprobs")
