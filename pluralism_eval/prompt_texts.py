"""Prompts as files keep them → text. A chat API's prompt is a list of turns there; readers need text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pluralism_eval.json_files import loads


def prompt_text(prompt: Any) -> str:
    """A prompt as its reader sees it: turns one after the other, each its role and its content.

    Args:
        prompt: a text; turns; lm-eval's ``JsonChatStr``, which JSON makes a list of one text that holds the turns;
            or anything else (token ids), which is shown as JSON.
    """
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, (list, tuple)) and len(prompt) == 1 and isinstance(prompt[0], str):
        try:
            prompt = loads(prompt[0])
        except ValueError:
            return str(prompt[0])
    if isinstance(prompt, (list, tuple)) and prompt and all(map(_is_turn, prompt)):
        return "\n".join(f"{turn['role']}\n{_content(turn['content'])}" for turn in prompt)
    return json.dumps(prompt, ensure_ascii=False)


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and isinstance(turn.get("role"), str) and "content" in turn


def _content(content: Any) -> str:
    """Text, or a list of parts of which those with text count."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def with_text_prompts(arguments: Any) -> Any:
    """lm-eval's logged ``arguments`` of a sample, in either of its forms, with every prompt as text."""
    if isinstance(arguments, Mapping):
        return {name: _with_text(request, "arg_0") for name, request in arguments.items()}
    return [_with_text(request, 0) for request in arguments] if isinstance(arguments, list) else []


def _with_text(request: Any, first: Any) -> Any:
    if isinstance(request, Mapping) and first in request:
        return {**request, first: prompt_text(request[first])}
    if isinstance(request, list) and request and first == 0:
        return [prompt_text(request[0]), *request[1:]]
    return request


def with_text_sent(line: dict[str, Any]) -> dict[str, Any]:
    """A line of a transcript, with every prompt that was sent as text."""
    sent = [
        {**row, "prompt": prompt_text(row["prompt"])} if "prompt" in row else row
        for row in line.get("sent", [])
    ]
    return {**line, "sent": sent} if "sent" in line else line
