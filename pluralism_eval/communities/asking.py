"""How a community LM is asked: as its base wants to be asked, and for an answer with reasons where there are options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Query, Turn
from pluralism_eval.variants import stem


def prompt_of(prompts: Prompts, query: Query, chat: bool, authors: bool = False) -> str:
    """What a community is shown about ``query``.

    Args:
        chat: it becomes the user's turn in the chat template of the community's base.
        authors: as the authors' code shows it (``preset=reference``).
    """
    if not chat:
        return _render(prompts, "message", query.attribute_line, query=query.text)
    if authors:
        return _render(prompts, "reference", query.attribute_line, query=query.text)
    question = stem(query)
    if question is None:
        return situation(prompts, query.text, query.attribute_line)
    return asked_question(prompts, question, query.choices, query.attribute_line)


def asked_question(
    prompts: Prompts, question: str, options: Sequence[str], attribute_line: str = ""
) -> str:
    """A question with its options, without letters."""
    listed = [option.strip() for option in options]
    return _render(prompts, "question", attribute_line, question=question, options=listed)


def situation(prompts: Prompts, query: str, attribute_line: str = "") -> str:
    """Anything else: the community is asked for its view."""
    return _render(prompts, "situation", attribute_line, query=query)


def answered(answer: str, reasons: str) -> str:
    """An answer in the option's own words, then its reasons: how messages about questions are taught."""
    closed = answer.strip()
    return f"{closed if closed.endswith(('.', '!', '?')) else closed + '.'} {reasons.strip()}"


def has_template(tokenizer: Any) -> bool:
    return getattr(tokenizer, "chat_template", None) is not None


def turns(prompt: str, persona: str = "") -> list[Turn]:
    """The conversation in which a community answers ``prompt``."""
    system: list[Turn] = [{"role": "system", "content": persona}] if persona else []
    return [*system, {"role": "user", "content": prompt}]


def encode(tokenizer: Any, prompt: str, chat: bool, persona: str = "") -> list[int]:
    """Token ids of what a community in this process is given."""
    if not chat:
        plain: list[int] = tokenizer(f"{persona}\n\n{prompt}" if persona else prompt)["input_ids"]
        return plain
    text = tokenizer.apply_chat_template(
        turns(prompt, persona), tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _render(prompts: Prompts, name: str, attribute_line: str, **values: Any) -> str:
    return prompts.render("messages", name, attribute_line=attribute_line, **values)
