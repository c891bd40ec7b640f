"""The embedded model behind the local server says and scores what it does in process."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from pluralism_eval.llm.hf import HFLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.settings import parse
from tests.embedded_backend import Embedded
from tests.openai_server import Server

pytestmark = pytest.mark.model
PROMPTS = (
    "The capital of France is",
    "Question: Is it right to lie?\nA. yes\nB. no\nAnswer:",
    "Count on: one, two, three,",
    "Zoë ate crêpes in 東京 and said: “",
)
TURNS = [
    {"role": "system", "content": "You are a nurse."},
    {"role": "user", "content": "Say hello in one short sentence."},
]


@pytest.fixture(scope="module")
def llm() -> Any:
    return load_llm(parse("vanilla", {}), batch_size=1)


@pytest.fixture(scope="module")
def client(llm: HFLLM) -> Iterator[OpenAI]:
    with Server(Embedded(llm)) as server, OpenAI(base_url=server.url, api_key="x") as client:
        yield client


@pytest.mark.parametrize("until", [[], ["."], ["\n", " the"]])
def test_greedy_texts_are_those_of_generate(llm: HFLLM, client: OpenAI, until: list[str]) -> None:
    settings = {"max_gen_toks": 10, "temperature": 0, "until": until}
    expected = [llm.generate([prompt], settings)[0] for prompt in PROMPTS]
    reply = client.completions.create(
        model="model", prompt=list(PROMPTS), max_tokens=10, temperature=0, stop=until or None, logprobs=0,
    )  # fmt: skip
    assert [choice.text for choice in reply.choices] == expected
    for choice, prompt in zip(reply.choices, PROMPTS, strict=True):
        assert choice.logprobs is not None
        spelled = "".join(choice.logprobs.tokens or [])
        assert choice.text.startswith(spelled) or spelled.startswith(choice.text)
        assert (choice.logprobs.text_offset or [len(prompt)])[0] == len(prompt)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == sum(llm.count_tokens(prompt) for prompt in PROMPTS)


def test_chat_is_the_rendered_prompt(llm: HFLLM, client: OpenAI) -> None:
    prompt = llm.render(TURNS)
    expected = llm.generate([prompt], {"max_gen_toks": 24, "temperature": 0, "until": []})
    reply = client.chat.completions.create(
        model="model", messages=TURNS, max_tokens=24, temperature=0, n=2, logprobs=True, top_logprobs=3,  # type: ignore[arg-type]
    )  # fmt: skip
    assert [choice.message.content for choice in reply.choices] == expected * 2
    for choice in reply.choices:
        assert choice.logprobs is not None
        content = choice.logprobs.content or []
        raw = bytes(byte for token in content for byte in token.bytes or [])
        assert raw.decode() == choice.message.content
        assert all(token.logprob == token.top_logprobs[0].logprob for token in content)
        assert choice.finish_reason == "stop" or len(content) == 24
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == llm.count_tokens(prompt)


def test_echo_scores_continuations_as_in_process(llm: HFLLM, client: OpenAI) -> None:
    options = (" Paris", " London, of course", " A", "B")
    expected = llm.continuation_logprobs(list(PROMPTS), [options] * len(PROMPTS))
    for prompt, scores in zip(PROMPTS, expected, strict=True):
        reply = client.completions.create(
            model="model", prompt=[prompt + option for option in options], max_tokens=0, echo=True, logprobs=1,
        )  # fmt: skip
        for choice, option, score in zip(reply.choices, options, scores.logprobs, strict=True):
            known = choice.logprobs
            assert known is not None
            assert known.tokens is not None
            assert known.token_logprobs is not None
            assert (choice.text, choice.finish_reason) == (prompt + option, "length")
            assert known.token_logprobs[0] is None
            start = llm.count_tokens(prompt)
            assert sum(known.token_logprobs[start:]) == pytest.approx(score, abs=1e-4)


def test_token_ids_and_text_are_the_same_prompt(llm: HFLLM, client: OpenAI) -> None:
    ids = llm.inner.tok_encode(PROMPTS[0])
    texts = [
        client.completions.create(model="model", prompt=prompt, max_tokens=4, temperature=0).choices[0].text
        for prompt in (PROMPTS[0], ids)
    ]  # fmt: skip
    assert texts[0] == texts[1]


def test_samples_follow_the_seed_and_the_distribution(client: OpenAI) -> None:
    def sample(**more: Any) -> list[str]:
        reply = client.completions.create(
            model="model", prompt=PROMPTS[0], max_tokens=3, n=8, **more
        )
        return [choice.text for choice in reply.choices]

    assert sample(seed=1) == sample(seed=1) != sample(seed=2)
    assert len(set(sample(seed=1))) > 2
    assert len(set(sample(seed=1, top_p=1e-6))) == 1
    assert sample() != sample()


def test_frequencies_are_the_probabilities(client: OpenAI) -> None:
    reply = client.completions.create(
        model="model", prompt="Heads or tails? I choose", max_tokens=1, n=128, seed=3, logprobs=20, temperature=0.7,
    )  # fmt: skip
    first = reply.choices[0].logprobs
    assert first is not None
    assert first.top_logprobs is not None
    best, _ = max(first.top_logprobs[0].items(), key=lambda item: item[1])
    sharper = {token: math.exp(each / 0.7) for token, each in first.top_logprobs[0].items()}
    expected = sharper[best] / sum(sharper.values())  # a little too large: the tail is missing
    found = sum(choice.text == best for choice in reply.choices) / 128
    assert 0.02 < expected < 0.98
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 128))


def test_a_strict_schema_is_kept(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"A": {"type": "integer", "minimum": 0, "maximum": 100}, "sure": {"enum": ["yes", "no"]}},
        "required": ["A", "sure"],
        "additionalProperties": False,
    }  # fmt: skip
    reply = client.chat.completions.create(
        model="model",
        messages=[{"role": "user", "content": "How many of 100 say A? Are you sure?"}],
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": schema, "strict": True}},
        temperature=0,
        logprobs=True,
    )  # fmt: skip
    (choice,) = reply.choices
    value = json.loads(choice.message.content or "")
    assert list(value) == ["A", "sure"]
    assert 0 <= value["A"] <= 100
    assert choice.logprobs is not None
    assert "".join(token.token for token in choice.logprobs.content or []) == choice.message.content
