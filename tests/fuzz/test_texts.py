"""Secrets in texts, sentences, chats, option lists and distributions: what a round trip can tell."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pluralism_eval import uncertainty
from pluralism_eval.distribution import (
    entropy,
    likeliest,
    mean_read,
    mix,
    modes,
    normalise,
    read,
    to_logprobs,
    total_variation,
)
from pluralism_eval.metrics import bounds, distance
from pluralism_eval.metrics.coverage import split_sentences
from pluralism_eval.requests import decode_chat, encode_chat
from pluralism_eval.schema import OptionScores
from pluralism_eval.secrets import redact, without_secrets
from pluralism_eval.variants import option_orders, reorder
from tests.fuzz import JSON, NUMBERS, TEXTS, fuzz, ours

LONG = st.lists(TEXTS, max_size=6).map("".join)

# ---------------------------------------------------------------------- secrets

SECRET = "canary-Zq7w/x+y z\"'9\\ü"


@given(LONG, LONG, st.sampled_from(["plain", "json", "quoted"]))
@fuzz(20, costs=5)
def test_a_known_secret_survives_in_no_text(before: str, after: str, form: str) -> None:
    shown = {"plain": SECRET, "json": json.dumps(SECRET)[1:-1], "quoted": quote(SECRET, safe="")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_SERVICE_API_KEY", SECRET)
        for text in (before + shown[form] + after, f"{before} {shown[form]} {after}"):
            found = redact(text)
            assert SECRET not in found
            assert shown[form] not in found
        told = without_secrets({"a": [before + SECRET], "b": {"c": SECRET + after}})
        assert SECRET not in str(told["a"][0]) + str(told["b"]["c"])


@given(
    JSON,
    st.sampled_from(["api_key", "HF_TOKEN", "X-Auth-Token", "password"]),
    st.sampled_from(["s3cret-value-0123", "p" * 40]),
)
@fuzz(20, costs=5)
def test_values_of_secret_names_are_hidden_at_any_depth(value: Any, name: str, secret: str) -> None:
    assume(secret not in json.dumps(value))
    nested = {"x": [value, {name: secret}], "y": f"model=m,{name}={secret};a=b", name: {"in": secret}}  # fmt: skip
    found = without_secrets(nested)
    assert secret not in json.dumps(found)
    assert set(found) == set(nested)
    assert without_secrets(found) == found


@given(LONG)
@fuzz(60)
def test_redacting_never_fails_and_is_done_after_once(text: str) -> None:
    found = redact(text)
    assert redact(found) == found


@pytest.mark.parametrize(
    "piece", ["key=", "'token': '", '\\"', "api_key='", "a", "sk-", "://", "bearer ", "{", "["]
)
def test_long_texts_are_redacted_in_time(piece: str) -> None:
    started = time.monotonic()
    redact(piece * 5_000)
    assert time.monotonic() - started < 10


# ---------------------------------------------------------------------- sentences

PROSE = st.lists(
    st.one_of(
        TEXTS,
        st.sampled_from(
            ["Dr. Smith said so. ", "It is 3.5 km!", "\n- a point\n", "**Bold.** ", "1. First. ", "e.g. this", "Why?", "…", "”", " \t ", "。", "\u2028",
             "http://a.b/c. ", "No", "…and so on.", "\r\n", "U.S.A. ", "a" * 300]
        ),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(PROSE)
@fuzz(60)
def test_sentences_hold_every_letter_of_a_response_in_order(text: str) -> None:
    assert not split_sentences(text) or any(map(str.isalnum, text))
    text += "\nIt ends."  # a list's marker that nothing follows is dropped
    found = split_sentences(text)
    assert all(sentence == sentence.strip() and any(map(str.isalnum, sentence)) for sentence in found)  # fmt: skip
    assert [c for s in found for c in s if c.isalnum()] == [c for c in text if c.isalnum()]


@given(PROSE)
@fuzz(60)
def test_the_authors_splitter_loses_no_letter_either(text: str) -> None:
    pytest.importorskip("sentence_splitter")
    text += "\nIt ends."
    found = split_sentences(text, "sentence_splitter")
    assert Counter(c for s in found for c in s if c.isalnum()) == Counter(
        c for c in text if c.isalnum()
    )


# ---------------------------------------------------------------------- chats

TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": LONG}
    ),
    min_size=1,
    max_size=4,
)


@given(TURNS, st.booleans())
@fuzz(60)
def test_a_chat_comes_back_as_it_went(turns: list[dict[str, str]], prompt: bool) -> None:
    encoded = encode_chat(turns, prompt)
    assert decode_chat(encoded) == (turns, prompt)
    assert decode_chat("x" + encoded) is None
    again = [{"role": "user", "content": encoded}]
    assert decode_chat(encode_chat(again, True)) == (again, True), "a chat about a chat"


@given(LONG, st.one_of(TEXTS, JSON.map(json.dumps)))
@fuzz(60)
def test_any_other_text_is_no_chat(text: str, rest: str) -> None:
    said = encode_chat([{"role": "user", "content": text}], True)
    marker = said.partition("{")[0]
    for other in (text, marker + text, marker + rest, said[:-1], marker, encode_chat([], True)):
        found = decode_chat(other)
        if found is not None:
            assert decode_chat(encode_chat(*found)) == found


# ---------------------------------------------------------------------- options

NAMES = st.lists(
    st.text("ab .()[]*+?\\é\n", min_size=1, max_size=8).filter(str.strip), min_size=2, max_size=6
)


@given(NAMES, st.data(), st.sampled_from([" ", "\n", "\n\n", "\t"]))
@fuzz(60)
def test_options_listed_in_another_order_come_back(options: list[str], data: Any, gap: str) -> None:
    letters = "ABCDEF"[: len(options)]
    listed = gap.join(f"{x}. {o.strip()}" for x, o in zip(letters, options, strict=True))
    text = f"Question?\n{listed}\nAnswer:"
    order = data.draw(
        st.sampled_from(option_orders(len(options), 99)) | st.permutations(range(len(options)))
    )
    turned = reorder(text, letters, options, order)
    if turned is None:
        return  # the list occurs twice: the query is asked in one order, and counted
    shown = [options[i] for i in order]
    back = [list(order).index(i) for i in range(len(order))]
    assert reorder(turned, letters, shown, back) in (text, None)
    assert Counter(turned) == Counter(text)


# ---------------------------------------------------------------------- distributions


@given(st.lists(NUMBERS, max_size=6))
@fuzz(100)
def test_log_probabilities_are_a_distribution_or_an_error(values: list[float]) -> None:
    with ours():
        distribution, mass = read(values)
        assert math.fsum(distribution) == pytest.approx(1)
        assert all(0 <= p <= 1 + 1e-12 for p in distribution)
        assert mass >= 0
        assert not math.isnan(mass)
        assert 0 <= entropy(distribution) <= math.log(len(values)) + 1e-9
        assert likeliest(distribution, 7) in modes(distribution)
        assert distance.js_distance(distribution, distribution) < 1e-7
        if 1e-200 < mass < 1e200:
            assert read(to_logprobs(distribution, mass))[0] == pytest.approx(distribution)
            assert normalise(values)[1] == mass


@given(
    st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(NUMBERS, max_size=4),
)
@fuzz(100)
def test_mixtures_are_distributions_or_an_error(
    rows: list[list[float]], weights: list[float]
) -> None:
    with ours():
        parts = [read(row) for row in rows]
        even = [1 / len(rows)] * len(rows)
        mixed = mix([d for d, _ in parts], even)
        assert math.fsum(mixed) == pytest.approx(1)
        assert all(total_variation(mixed, d) <= 1 + 1e-9 for d, _ in parts)
        if all(mass <= 1 for _, mass in parts):
            mean, mass = mean_read(parts)
            assert math.fsum(mean) == pytest.approx(1)
            assert 0 <= mass <= 1
        with ours():
            assert math.fsum(mix([d for d, _ in parts], weights)) == pytest.approx(1, abs=1e-5)


SHOWN = st.lists(st.floats(-9, 0), min_size=3, max_size=3)


@given(SHOWN, st.floats(0, 1), SHOWN)
@fuzz(60)
def test_what_a_server_hides_bounds_what_it_may_mean(
    shown: list[float], unseen: float, gold: list[float]
) -> None:
    scores = OptionScores(tuple(shown), 0, unseen=unseen)
    least = uncertainty.lower(scores)
    assert bool(least) == (unseen > 0)
    distribution = read(shown)[0]
    target = read(gold)[0]
    if least:
        assert all(a <= b + 1e-9 for a, b in zip(least, distribution, strict=True))
        low, high = bounds.distance_bounds(least, target)
        assert low - 1e-7 <= distance.js_distance(distribution, target) <= high + 1e-7
