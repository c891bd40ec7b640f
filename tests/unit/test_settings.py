"""Bad settings: all of them, in one error, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.settings import Settings, parse, read_weights


def test_defaults_are_the_embedded_paper_reading() -> None:
    assert parse("moe", {}) == Settings(readout="cloze", chat=True, selection="likelihood")
    assert parse("moe", {"pretrained": "m"}).readout == "options"
    reference = parse("moe", {"preset": "reference"})
    assert (reference.readout, reference.chat) == ("options", False)


def test_pretrained_is_short_for_hf_with_its_arguments() -> None:
    s = parse("moe", {"pretrained": "org/model", "dtype": "bfloat16", "trust_remote_code": True})
    assert (s.llm, s.llm_args) == (
        "hf",
        {"pretrained": "org/model", "dtype": "bfloat16", "trust_remote_code": True},
    )


@pytest.mark.parametrize(
    "text", ['{"pretrained": "a", "max_length": 5}', "pretrained=a;max_length=5"]
)
def test_llm_args_as_text(text: str) -> None:
    assert parse("moe", {"llm": "vllm", "llm_args": text}).llm_args == {
        "pretrained": "a",
        "max_length": 5,
    }


def test_a_config_file_and_arguments_that_override_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("communities: culture\nseed: 7\nllm: hf\nllm_args: {pretrained: org/model}\n")
    s = parse("modular_pluralism", {"config": str(file), "seed": 8})
    assert (s.communities, s.seed, s.llm) == ("culture", 8, "hf")


def test_all_problems_at_once() -> None:
    given = {
        "comunities": "culture", "mode": "overtone", "preset": "mine", "readout": "harness", "seed": "x",
        "llm": "vllm", "pretrained": "a", "data": "sample", "prompts": "/nowhere.yaml", "message_max_tokens": 0,
    }  # fmt: skip
    with pytest.raises(PluralismError) as caught:
        parse("moe", given)
    text = str(caught.value)
    for part in (
        "comunities",
        "overtone",
        "mine",
        "readout",
        "seed",
        "pretrained",
        "--metadata data",
        "/nowhere",
        "message_max_tokens",
    ):
        assert part in text
    assert "9 problem(s)" in text


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"llm": "hf"}, "needs pretrained"),
        ({"llm": "embedded", "llm_args": {"pretrained": "x"}}, "own weights"),
        ({"pretrained": "a", "llm_args": {"pretrained": "b"}}, "given twice"),
        ({"config": "/nowhere.yaml"}, "cannot be read"),
        ({"llm_args": "nonsense"}, "neither a mapping"),
        ({"device": "cpu"}, "--device"),
    ],
)
def test_contradictions(given: dict[str, object], part: str) -> None:
    with pytest.raises(PluralismError, match=part):
        parse("vanilla", given)


def test_unreadable_yaml(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("a: [1")
    with pytest.raises(PluralismError, match="cannot be read"):
        parse("moe", {"config": str(file)})


def test_weights() -> None:
    assert read_weights(None, ["a", "b"]) == [0.5, 0.5]
    assert read_weights("0.25;0.75", ["a", "b"]) == [0.25, 0.75]
    assert read_weights("[0.25, 0.75]", ["a", "b"]) == [0.25, 0.75]
    assert read_weights({"b": 1}, ["a", "b"]) == [0.0, 1.0]
    for bad, part in (
        ([0.5], "1 numbers"),
        ([0.5, 0.6], "sum to 1"),
        ({"c": 1}, "unknown community"),
        ("x;y", "numbers"),
        ([2, -1], "≥ 0"),
    ):
        with pytest.raises(PluralismError, match=part):
            read_weights(bad, ["a", "b"])
