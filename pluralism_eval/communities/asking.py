"""How a community LM is asked: as its base wants to be asked, and for an answer with reasons where there are options."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pluralism_eval.bounded import check_chat_template
from pluralism_eval.chat_date import DEFAULT, rendering_on
from pluralism_eval.errors import PluralismError
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


def encode(
    tokenizer: Any, prompt: str, chat: bool, persona: str = "", day: str = DEFAULT
) -> list[int]:
    """Token ids of what a community in this process is given.

    Args:
        chat: in the chat template of its base.
        persona: a system instruction; where the template takes none, it opens the user's turn.
        day: what the template sees as today's date.

    Raises:
        PluralismError: the template cannot render one user turn.
    """
    if not chat:
        plain: list[int] = tokenizer(f"{persona}\n\n{prompt}" if persona else prompt)["input_ids"]
        return plain
    user = {"role": "user", "content": prompt}
    text = ""
    if persona:
        with suppress(Exception):  # templates raise what they like, such as "no system role"
            text = _templated(tokenizer, day, {"role": "system", "content": persona}, user)
    if not persona or persona.strip() not in text:  # refused, or left out without a word
        if persona:
            user["content"] = f"{persona}\n\n{prompt}"
        try:
            text = _templated(tokenizer, day, user)
        except PluralismError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise PluralismError(
                f"the chat template of {tokenizer.name_or_path!r} cannot render one user turn ({reason}); give the base "
                "another chat template, or ask its communities without one (chat: false in the pool)"
            ) from error
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _templated(tokenizer: Any, day: str, *turns: Turn) -> str:
    check_chat_template(tokenizer, list(turns))
    with rendering_on(day):
        text: str = tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=True
        )
    if not text.strip():
        raise ValueError("it renders nothing")
    return text


def _render(prompts: Prompts, name: str, attribute_line: str, **values: Any) -> str:
    return prompts.render("messages", name, attribute_line=attribute_line, **values)
