"""A model's start token (BOS) comes once: not from the chat template's text and from the server as well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pluralism_eval.api.client import Api, Call, Rejected
from pluralism_eval.api.replies import Reply, joined
from pluralism_eval.errors import PluralismError

if TYPE_CHECKING:
    from pluralism_eval.llm.openai_api import OpenAILLM

_TEXT = "Hello"
_OFF = "add_special_tokens"
_KNOWN = re.compile(
    r"<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<｜begin▁of▁sentence｜>|\[gMASK\]<sop>"
)


def start_of(tokenizer: Any) -> str:
    """The text of what ``tokenizer`` puts before a text, else of its start token; empty if it has neither."""
    bare, whole = _ids(tokenizer, _TEXT), list(tokenizer(_TEXT)["input_ids"])
    before = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    if before:
        return str(tokenizer.decode(whole[:before]))
    return str(getattr(tokenizer, "bos_token", None) or "")


def begins_with_start(prompt: str) -> str:
    """The start token of a well-known vocabulary that ``prompt`` begins with; empty: none."""
    found = _KNOWN.match(prompt)
    return found.group() if found else ""


def echo_shows(api: Api, model: str, start: str) -> bool | None:
    """Whether the server puts ``start`` before a prompt that begins with it; None: its echo does not show that."""
    body = {
        "model": model,
        "prompt": start + _TEXT,
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }
    try:
        return _by_echo(api.fresh(Call("completions", body)), start)
    except Rejected:
        return None


def server_adds(llm: OpenAILLM, start: str) -> bool:
    """Whether the server puts the start token before a prompt that begins with it already. One tiny request.

    It is seen in the echoed tokens, or in the number of tokens that the server counts.

    Raises:
        PluralismError: it cannot be seen, or the tokenizer is not the server's.
    """
    s, echo = llm.settings, llm.probe().echo
    body = {
        "model": s.model,
        "prompt": start + _TEXT,
        s.limit_name: 1,
        "temperature": 0.0,
        **s.extra,
    }
    body |= {"echo": True, "logprobs": 1} if echo else {}
    reply = llm.api.fresh(Call(s.api, {k: v for k, v in body.items() if k not in s.omit}))
    found = _by_echo(reply, start) if echo else None
    own = len(_ids(llm.tokenizer, start + _TEXT))
    more = len(_ids(llm.tokenizer, start))
    if found is None and reply.prompt_tokens in (own, own + more):
        found = reply.prompt_tokens == own + more
    if found is None and s.extra.get(_OFF) is False:
        found = False  # the user knows it
    if found is None:
        counts = f"counts {reply.prompt_tokens}" if reply.prompt_tokens else "does not count tokens"
        raise PluralismError(
            f"{s.base_url}: it cannot be seen whether the server puts {start!r} before prompts that begin with it: of "
            f"{start + _TEXT!r} tokenizer={s.tokenizer} makes {own} tokens, the server {counts}. Is it the served model's "
            'tokenizer? If so, use api=chat, or extra={"add_special_tokens": false} if the server takes that'
        )
    return found


def _by_echo(reply: Reply, start: str) -> bool | None:
    """None: the echoed tokens do not show start tokens."""
    said = joined(reply.choices[0].tokens).replace(" ", "")
    start = start.replace(" ", "")
    return said.startswith(2 * start) if said.startswith(start) else None


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
