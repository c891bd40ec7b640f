"""Thoughts before an answer: opened by a template or by the model, closed by a marker, never read as an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pluralism_eval.errors import PluralismError

END = "</think>"
"""What closes a thought, unless ``think_end_token`` says otherwise."""
_MARK = (
    r"(?:<(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reason)>|\[THINK\]|◁think▷"
    r"|<\|(?:think|thinking|begin_of_thought|START_THINKING)\|>|<\|channel\|>analysis<\|message\|>)"
)
_ENDS_OPEN = re.compile(rf"{_MARK}\s*$", re.IGNORECASE)
_BEGINS_OPEN = re.compile(rf"\s*{_MARK}", re.IGNORECASE)


def opens_thought(text: str) -> bool:
    """True where ``text`` ends by opening a thought, so that what follows is no answer."""
    return _ENDS_OPEN.search(text[-200:]) is not None


def check_no_thought(name: str, prompts: Sequence[Any], enabled: bool = False) -> None:
    """Raises PluralismError where options would be read from within a thought, as lm-eval refuses to.

    Args:
        name: the LLM's.
        enabled: the model was loaded with ``enable_thinking=True``.
    """
    opened = sum(isinstance(prompt, str) and opens_thought(prompt) for prompt in prompts)
    if prompts and (opened or enabled):
        how = (
            f"{opened} of {len(prompts)} prompts end with it" if opened else "enable_thinking=True"
        )
        raise PluralismError(
            f"{name}: the chat template opens a thought ({how}), and options cannot be read from the first token of a "
            "thought. Use readout=sampled, generated or verbalised with think_end_token, or a template that opens none "
            "(llm_args enable_thinking=False where the model knows it)"
        )


def without_thought(text: str, end: str) -> str | None:
    """What ``text`` says after its thought; None if its thought does not end.

    As lm-eval's ``postprocess_generated_text``: what follows the last ``end``, blanks before it left out.
    """
    if end and end in text:
        return text.split(end)[-1].lstrip()
    return None if end and _BEGINS_OPEN.match(text) else text
