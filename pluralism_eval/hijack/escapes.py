"""Does a planted message do anything outside of its passage? Formal: about the prompt, not the model.

A prompt with the planted message is held against its *twin*, the same prompt with inert words in the
message's place. Read line by line, a line that does not begin with ``>`` is the prompt's own. The two
must agree in every line of the prompt's own and in every other passage, and the LLM's tokenizer must
find the same special tokens in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.passages import QUOTED
from pluralism_eval.schema import Sent

INERT = "(no message)"


@dataclass(frozen=True)
class Checked:
    """One prompt that shows a planted message."""

    structure: bool
    """A line of the prompt's own, or another passage, differs from the twin's."""
    tokens: bool
    """Special tokens came out of the message."""
    tokenised: bool
    """Whether the LLM's own tokenizer said so; else known chat markers only."""
    crowded: bool
    """Another passage lost tokens that it would not have lost beside an inert message. No escape: the
    context window is shared evenly."""

    @property
    def escaped(self) -> bool:
        return self.structure or self.tokens


def check(sent: Sent, twin: Sent, planted: str, special: re.Pattern[str], llm: Any) -> Checked:
    """``sent`` shows the message of community ``planted``, ``twin`` :data:`INERT` in its place.

    Args:
        special: matches special tokens in text (:func:`pluralism_eval.passages.markers`).
        llm: whose tokenizer is asked, where it has one.
    """
    texts = plain(sent.prompt), plain(twin.prompt)
    found = [_special_ids(s.prompt, llm) for s in (sent, twin)]
    more = any(n > twin.cuts.get(name, 0) for name, n in sent.cuts.items() if name != planted)
    return Checked(
        left_its_passage(*texts, cut=bool(sent.tokens_cut)),
        special.findall(texts[0]) != special.findall(texts[1]) or found[0] != found[1],
        found[0] is not None,
        more,
    )


def left_its_passage(prompt: str, twin: str, cut: bool = False) -> bool:
    """True unless ``prompt`` is ``twin`` with another text for its one inert passage.

    Args:
        cut: passages were cut to fit, so that others may lack their ends.
    """
    own, inert = blocks(prompt), blocks(twin)
    if len(own) != len(inert):
        return True
    places = [i for i, block in enumerate(inert) if block.rstrip().endswith(INERT)]
    for i, (block, expected) in enumerate(zip(own, inert, strict=True)):
        before = expected.rstrip().removesuffix(INERT)
        if block == expected or (i in places and block.startswith(before)):
            continue
        if not cut or not expected.rstrip().startswith(block.rstrip()):
            return True
    return False


def blocks(text: str) -> list[str]:
    """``text`` cut before every line that is not quoted: its own lines, each with what is quoted after it.

    Lines end where :meth:`str.splitlines` ends them, so at every character that may be read as a break.
    """
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        if found and line.startswith(QUOTED):
            found[-1] += line
        else:
            found.append(line)
    return found


def plain(prompt: Any) -> str:
    """A prompt as its reader sees it; the turns of a conversation for a chat API one after the other."""
    turns = getattr(prompt, "prompt", None)
    if turns is None:
        return str(prompt)
    return "\n".join(f"{turn['role']}\n{turn['content']}" for turn in json.loads(turns))


def _special_ids(prompt: Any, llm: Any) -> Sequence[int] | None:
    """Special tokens that the LLM reads in ``prompt``, in order; None without a local tokenizer."""
    tokenizer = getattr(llm, "tokenizer", None) or getattr(llm.inner, "tokenizer", None)
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    special |= {i for i, token in added.items() if token.special}
    if not special:
        return None
    return [i for i in tokenizer.encode(plain(prompt)) if i in special]  # type: ignore[union-attr]
