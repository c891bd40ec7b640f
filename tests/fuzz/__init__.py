"""Whatever a parser is given, it gives a valid result or one PluralismError: nothing else, and nothing wrong.

``PLURALISM_EVAL_FUZZ=5000 pytest tests/fuzz`` tries 5,000 random inputs a test; by default a few fixed ones.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pluralism_eval.errors import PluralismError

_GIVEN = os.environ.get("PLURALISM_EVAL_FUZZ")


def fuzz(examples: int = 60, costs: int = 1) -> Callable[[Any], Any]:
    """Hypothesis' settings of a fuzzing test.

    Args:
        examples: by default; the same ones every time.
        costs: long runs try so many times fewer.
    """
    return settings(
        max_examples=max(int(_GIVEN) // costs, 1) if _GIVEN else examples,
        derandomize=not _GIVEN,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def ours(*also: type[Exception]) -> Iterator[None]:
    """Lets a PluralismError (or one of ``also``) pass as an answer; it must say something."""
    try:
        yield
    except (PluralismError, *also) as error:
        if not str(error).strip():
            raise AssertionError("an error that says nothing") from error


TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=40),
    st.sampled_from(
        ["", " ", "\n", "\0", "\ud800", "NaN", "null", "yes", "1e999", "9" * 5000, "é" * 300, "A", "a=b;c", "{}", "[[", "${HOME}",
         "\u2028", "<|im_end|>", "{{ x }}", "{% raw %}", "&a *a", "!!python/object:os.system", "../../etc/passwd", "-", "+", "~"]
    ),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 30), st.floats(), st.floats(-1.5, 1.5),
    st.sampled_from([10**400, -(10**400), 2**63, -0.0, 5e-324, 1e308, float("nan"), float("inf"), -float("inf")]),
)  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
"""What ``json.loads`` may give."""


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()  # fmt: skip
    for key, item in inner:
        yield from _places(item, (*path, key))


@st.composite
def mutated(draw: Any, real: Any, most: int = 3) -> Any:
    """``real`` with one to ``most`` of its values replaced, gone, doubled, renamed or wrapped."""
    value = copy.deepcopy(real)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(list(_places(value))))
        kind = draw(
            st.sampled_from(["replace", "replace", "gone", "double", "rename", "wrap", "cut"])
        )
        if not path:
            if kind == "replace" and draw(st.integers(0, 9)) == 0:
                return draw(JSON)
            continue
        *above, key = path
        inside = value
        for step in above:
            inside = inside[step]
        old = inside[key]
        if kind == "replace":
            inside[key] = draw(JSON)
        elif kind == "gone":
            del inside[key]
        elif kind == "double" and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(old))
        elif kind == "rename" and isinstance(inside, dict):
            inside[draw(st.text(max_size=6))] = inside.pop(key)
        elif kind == "wrap":
            inside[key] = draw(st.sampled_from([[old], {"value": old}, str(old)]))
        elif kind == "cut" and isinstance(old, (str, list)):
            inside[key] = old[: draw(st.integers(0, len(old)))]
    return value


@st.composite
def damaged_text(draw: Any, real: str, most: int = 3) -> str:
    """``real`` with pieces of it gone, doubled, moved or replaced."""
    text = real
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.sampled_from([0, 1, 2, 7, 60, 1000])))
        new = draw(
            st.one_of(
                TEXTS, st.just(text[start:stop] * 2), st.sampled_from(list('{}[]:,-"\n\t#&*!|>%@`'))
            )
        )
        text = text[:start] + new + text[stop:]
    return text


def encodable(text: str) -> str:
    """As a file in UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode()
