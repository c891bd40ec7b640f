"""Community messages are untrusted input: each stands in a prompt as one passage that it cannot leave.

Every line of a passage after its first is quoted (``> ``), so that no message can begin a line of the
prompt's own (another passage, an instruction, the question). Tokens that models read as the end of a
turn are broken by a space. What a message says can still persuade a model: ``pluralism-eval hijack``
measures that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # as str.splitlines has it
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
QUOTED = ">"
"""How every line of a passage after its first begins."""
CHAT_MARKERS = (
    "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|endofprompt|>", "<|begin_of_text|>",
    "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>",
    "<|header_start|>", "<|header_end|>", "<|eot|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|endofturn|>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>",
    "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<s>", "</s>", "<pad>", "<unk>",
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "[gMASK]", "<sop>", "<eop>",
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
)  # fmt: skip
"""What common chat templates are made of: for models behind servers, whose tokenizer is not here."""


def markers(tokenizer: Any = None) -> re.Pattern[str]:
    """Matches every special token of ``tokenizer`` (transformers' or None), and :data:`CHAT_MARKERS`."""
    own: Iterable[str] = getattr(tokenizer, "all_special_tokens", None) or ()
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    special = {str(token.content) for token in added.values() if token.special}
    texts = {text for text in {*own, *special, *CHAT_MARKERS} if len(text) > 1}
    return re.compile("|".join(map(re.escape, sorted(texts, key=lambda t: (-len(t), t)))))


def delimited(text: str, special: re.Pattern[str]) -> tuple[str, int]:
    """``text`` as a passage, and how many special tokens in it were broken.

    A text of one line without special tokens stays as it is.

    Args:
        special: see :func:`markers`.
    """
    first, *rest = (_CONTROL.sub(" ", line).rstrip() for line in _BREAK.split(text))
    passage = "\n".join([first, *(f"{QUOTED} {line}".rstrip() for line in rest)])
    broken = 0
    while True:  # breaking one may leave another
        passage, found = special.subn(lambda match: f"{match[0][0]} {match[0][1:]}", passage)
        if not found:
            return passage, broken
        broken += found


def one_line(text: str, special: re.Pattern[str]) -> str:
    """``text`` without line breaks: for what stands in a list of the prompt's own, as a description."""
    return delimited(" ".join(text.split()), special)[0]
