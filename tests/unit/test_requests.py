"""Between lm-eval's requests and our queries."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval.api.instance import Instance

from pluralism_eval.errors import PluralismError
from pluralism_eval.presets import PRESETS
from pluralism_eval.replies import parse_choice
from pluralism_eval.requests import (
    check_mode,
    decode_chat,
    encode_chat,
    option_queries,
    render,
    text_queries,
)
from pluralism_eval.settings import Settings


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("3", 2), (" 3.", 2), ("(3)", 2), ("#3", 2), ("Comment 3", 2), ("Comment 3: because of its tone", 2),
        ("The answer is 3.", 2), ("Number: 3", 2), ("3\nNumber: 4", 2), ("**3**", 2), ("Passage 3 best reflects it", 2),
        ("", None), ("7", None), ("0", None), ("13", None), ("I think 3", None), ("1 or 2", None), ("2, 3", None),
        ("-3.5", None), ("none", None), ("3 because 100 people", 2),
    ],
)  # fmt: skip
def test_choices_are_read_strictly(reply: str, expected: int | None) -> None:
    assert parse_choice(reply, 6) == expected


def request(
    doc: dict[str, Any], context: str, continuation: str, doc_id: int, idx: int, task: str = "t"
) -> Instance:
    return Instance("loglikelihood", doc, (context, continuation), idx, metadata=(task, doc_id, 1))


OURS = {
    "id": "x",
    "pluralism": {
        "mode": "steerable", "query": "Q?", "letters": ["A", "B", "C"], "attribute": "Care",
        "attribute_line": "", "steer_line": "S.", "input": "file", "preset": "paper",
    },
}  # fmt: skip


def test_one_query_per_doc_in_any_order_with_repeats_and_gaps() -> None:
    requests = [request(OURS, "shots\n\nQ?", f" {letter}", doc, i) for doc, i, letter in
                [(0, 1, "B"), (1, 0, "A"), (0, 0, "A"), (1, 2, "C"), (1, 2, "C")]]  # fmt: skip
    queries, places = option_queries(requests, Settings(), PRESETS["paper"])
    assert [q.options for q in queries] == [("A", "B", "C")] * 2
    assert places == [(0, 1), (1, 0), (0, 0), (1, 2), (1, 2)]
    assert (queries[0].prefix, queries[0].text) == ("shots\n\n", "Q?")


def test_foreign_options_are_continuations_of_their_own_context() -> None:
    requests = [
        request({}, c, o, 0, i)
        for i, (c, o) in enumerate([("ctx", " yes"), ("ctx", " no"), ("other", " yes")])
    ]
    queries, places = option_queries(requests, Settings(), PRESETS["paper"])
    assert [(q.readout, q.options, q.mode) for q in queries] == [
        ("continuations", (" yes", " no"), "distributional"),
        ("continuations", (" yes",), "distributional"),
    ]
    assert places == [(0, 0), (0, 1), (1, 0)]


def test_chat_turns_survive_as_a_string() -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": 'früh "Q?"'}]
    assert decode_chat(encode_chat(turns, True)) == (turns, True)
    assert decode_chat("plain") is None


def test_the_rewritten_query_is_templated_last(scripted: Any) -> None:
    from pluralism_eval.llm.harness import HarnessLLM

    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "shots\n\nQ?"}]
    queries, _ = option_queries(
        [request(OURS, encode_chat(turns, True), "A", 0, 0)], Settings(), PRESETS["paper"]
    )
    prompt = render(queries[0], "Rewritten Q?", HarnessLLM(scripted(), "scripted"))
    assert prompt == "<system>Be kind.</><user>shots\n\nRewritten Q?</><assistant>"
    turns.append({"role": "assistant", "content": "Answer:"})
    queries, _ = option_queries(
        [request(OURS, encode_chat(turns, False), "A", 0, 0)], Settings(), PRESETS["paper"]
    )
    prompt = render(queries[0], "R", HarnessLLM(scripted(), "scripted"))
    assert prompt == "<system>Be kind.</><user>shots\n\nR</><assistant>Answer:</>"


def test_the_mode_argument_wins_and_impossible_modes_are_named() -> None:
    generation = Instance("generate_until", {}, ("Q", {"until": ["\n"]}), 0, metadata=("t", 0, 1))
    preset = PRESETS["paper"]
    assert text_queries([generation], Settings(), preset)[0].mode == "overton"
    with pytest.raises(PluralismError, match="needs options"):
        check_mode(text_queries([generation], Settings(mode="distributional"), preset)[0])
    with pytest.raises(PluralismError, match="attribute"):
        check_mode(text_queries([generation], Settings(mode="steerable"), preset)[0])
    check_mode(
        text_queries([generation], Settings(mode="steerable", attribute="nurses"), preset)[0]
    )


def test_reference_decoding_replaces_the_tasks_own() -> None:
    generation = Instance(
        "generate_until", {}, ("Q", {"until": [], "max_gen_toks": 512}), 0, metadata=("t", 0, 1)
    )
    settings = text_queries([generation], Settings(), PRESETS["reference"])[0].generation
    assert settings == {"until": [], "max_gen_toks": 200, "do_sample": True, "temperature": 0.1}
