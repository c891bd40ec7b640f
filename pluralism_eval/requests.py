"""lm-eval's requests ↔ our queries: grouping, chat turns, modes, decoding settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.generation import LIMITS, normalised
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.presets import Preset
from pluralism_eval.readouts import FROM_WORDS, decoding, generation
from pluralism_eval.schema import Query, Readout, Turn
from pluralism_eval.settings import Settings

_CHAT = "<pluralism-eval chat>"


def encode_chat(turns: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """Chat turns as a plain string that survives lm-eval until the prompt has been rewritten."""
    return _CHAT + json.dumps(
        {"turns": list(turns), "add_generation_prompt": add_generation_prompt}, ensure_ascii=False
    )


def decode_chat(text: str) -> tuple[list[Turn], bool] | None:
    """Inverse of :func:`encode_chat`; None for any other string."""
    if not text.startswith(_CHAT):
        return None
    try:
        loaded = json.loads(text.removeprefix(_CHAT))
        turns, prompt = loaded["turns"], loaded["add_generation_prompt"]
        whole = all(isinstance(turn[part], str) for turn in turns for part in ("role", "content"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (turns, prompt) if whole and turns and isinstance(prompt, bool) else None


def render_direct(request: Any, llm: HarnessLLM, chat_ours: bool = False) -> Any:
    """lm-eval's own request with the inner model's chat template applied; unchanged without chat.

    Args:
        chat_ours: requests of our tasks go into the template although lm-eval was not told so.
    """
    text = request.args[0]
    chat = decode_chat(text) if isinstance(text, str) else None
    if chat is None and chat_ours and _is_ours(request):
        chat = [{"role": "user", "content": text}], True
    if chat is None:
        return request
    return replace(
        request,
        arguments=(llm.render(*chat), *request.args[1:]),
        metadata=(request.task_name, request.doc_id, request.repeats),
        resps=[],
        filtered_resps={},
    )


def option_queries(
    requests: Sequence[Any], settings: Settings, preset: Preset, resolved: str | None = None
) -> tuple[list[Query], list[tuple[int, int]]]:
    """Groups log-likelihood requests into queries.

    Requests of one doc and context belong together; repeats and partial groups are tolerated.

    Args:
        resolved: the readout that the settings' comes to with the LLM, where that is known.

    Returns:
        (queries, [n_requests] of (query index, option index)).
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault((request.task_name, request.doc_id, request.args[0]), []).append(i)
    queries: list[Query] = []
    places: list[tuple[int, int]] = [(-1, -1)] * len(requests)
    for n, members in enumerate(groups.values()):
        first = requests[members[0]]
        ours = (first.doc or {}).get("pluralism") if isinstance(first.doc, Mapping) else None
        if ours:
            options = tuple(ours["letters"])
            spots = [requests[i].idx for i in members]
            readout = _readout(ours, resolved or settings.readout, preset)
            _check_cloze(ours, readout, first)
        else:
            if settings.readout in FROM_WORDS:
                raise PluralismError(
                    f"readout={settings.readout} asks for option letters, which {first.task_name} does not have; "
                    "use readout=options there"
                )
            options = tuple(dict.fromkeys(requests[i].args[1] for i in members))
            spots = [options.index(requests[i].args[1]) for i in members]
            readout = "continuations"
        for i, spot in zip(members, spots, strict=True):
            places[i] = (n, spot)
        name = f"{first.task_name}/{first.doc_id}" + ("" if ours else f"/{n}")
        words = generation(readout, len(options), preset)
        queries.append(_query(first, name, readout, options, words, settings))
    return queries, places


def _check_cloze(ours: Mapping[str, Any], readout: str, request: Any) -> None:
    """Examples in the prompt answer with letters; a cloze would ask for texts after them."""
    if readout != "cloze":
        return
    text = request.args[0]
    chat = decode_chat(text)
    shown = "".join(turn["content"] for turn in chat[0]) if chat else text
    if shown.count("Answer:") > 1 and shown != ours["query"]:
        raise PluralismError(
            f"readout=cloze reads the options' texts, and the few-shot examples of {request.task_name} answer with "
            "letters: set --num_fewshot 0, or readout=options"
        )


def _readout(ours: Mapping[str, Any], asked: str, preset: Preset) -> Readout:
    """Of one of our option tasks. The authors read VK from words (``vk_readout``), the rest alike."""
    authors = ours.get("task") == "vk" and preset.vk_readout == "generated"
    if authors and asked in ("options", "echo", "top_logprobs", "cloze"):
        return "generated"
    return "letters" if asked in ("options", "harness") else asked  # type: ignore[return-value]


def _is_ours(request: Any) -> bool:
    return isinstance(request.doc, Mapping) and bool(request.doc.get("pluralism"))


def text_queries(requests: Sequence[Any], settings: Settings, preset: Preset) -> list[Query]:
    """One query per generation request."""
    queries = []
    for request in requests:
        gen_kwargs = text_decoding(request.args[1], preset)
        name = f"{request.task_name}/{request.doc_id}/{request.idx}"
        queries.append(_query(request, name, "generation", (), gen_kwargs, settings))
    return queries


def text_decoding(gen_kwargs: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """The generation settings of a response: the task's, with what the preset decides."""
    settings = dict(gen_kwargs)
    given = normalised(gen_kwargs, 512)
    if preset.llm_temperature > 0 or preset.llm_max_tokens is not None:
        limit = preset.llm_max_tokens or given["max_gen_toks"]
        others = {name: value for name, value in settings.items() if name not in LIMITS}
        return others | decoding(preset.llm_temperature, limit, given["until"])
    if given["do_sample"]:  # a temperature alone says so
        settings["do_sample"] = True
    return settings


def _query(
    request: Any,
    key: str,
    readout: Readout,
    options: tuple[str, ...],
    gen_kwargs: Mapping[str, Any],
    settings: Settings,
) -> Query:
    doc = request.doc if isinstance(request.doc, Mapping) else {}
    ours: Mapping[str, Any] = doc.get("pluralism") or {}
    _check_agreement(ours, settings, str(request.task_name))
    chat = decode_chat(request.args[0])
    history: tuple[Turn, ...] = ()
    prefill = None
    text = request.args[0]
    in_chat = chat is not None or bool(ours and settings.chat)
    if chat is not None:
        turns, generation_prompt = chat
        if not generation_prompt:
            turns, prefill = turns[:-1], turns[-1]["content"]
        history, text = tuple(turns[:-1]), turns[-1]["content"]
    query = ours.get("query") or text
    prefix = ""
    if text.endswith(query):
        prefix = text[: len(text) - len(query)]
    elif query in text:  # a chat prefill or delimiter follows the query: keep the whole as it is
        query = text
    mode: str = settings.mode
    if mode == "auto":
        mode = ours.get("mode") or ("overton" if readout == "generation" else "distributional")
    return Query(
        key=key,
        task=str(request.task_name),
        doc_id=-1 if request.doc_id is None else int(request.doc_id),
        source_id=str(doc.get("id", request.doc_id)),
        source_input=str(ours.get("input", "")),
        mode=mode,  # type: ignore[arg-type]  # checked in settings
        readout=readout,
        text=query,
        prefix=prefix,
        history=history,
        prefill=prefill,
        chat=in_chat,
        options=options,
        choices=tuple(ours.get("options") or ()),
        orders=int(ours.get("orders") or 1),
        attribute=str(ours.get("attribute") or settings.attribute or ""),
        attribute_line=str(ours.get("attribute_line", "")),
        steer_line=str(ours.get("steer_line", "")),
        generation=gen_kwargs,
    )


def _check_agreement(ours: Mapping[str, Any], settings: Settings, task: str) -> None:
    """The task scores by what it was loaded with: it must be what the model runs with."""
    if not ours:
        return
    loaded = {"preset": ours.get("preset"), "orders": ours.get("orders_given")}
    own = {"preset": settings.preset, "orders": settings.orders}
    for name, value in own.items():
        if loaded[name] != value:
            raise PluralismError(
                f"{task} was loaded with {name}={loaded[name]}, the model runs with {name}={value}; give it in "
                "--model_args, which lm_eval hands to the tasks too (a TaskManager of your own: in its metadata)"
            )


def check_mode(query: Query) -> None:
    """Raises PluralismError where the mode cannot work for this query."""
    if query.mode == "distributional" and query.readout == "generation":
        raise PluralismError(
            f"mode=distributional needs options, {query.task} generates text; use mode=overton or mode=auto"
        )
    if query.mode == "steerable" and not query.attribute:
        raise PluralismError(
            f"mode=steerable needs an attribute, docs of {query.task} have none; set attribute=<whom to steer to>"
        )


def render(query: Query, text: str, llm: HarnessLLM) -> str:
    """The prompt string for ``text`` in the place of the query."""
    body = query.prefix + text
    if not query.chat:
        return body
    turns: list[Turn] = [*query.history, {"role": "user", "content": body}]
    if query.prefill is not None:
        return llm.render(
            [*turns, {"role": "assistant", "content": query.prefill}], add_generation_prompt=False
        )
    return llm.render(turns)


def reserve(query: Query, llm: HarnessLLM) -> int:
    """Tokens of the context window that the response may need."""
    if query.readout in ("letters", "echo", "top_logprobs"):
        return 1
    if query.readout == "cloze":
        return max(llm.count_tokens(option) for option in query.choices) + 1
    if query.readout == "continuations":
        return max(llm.count_tokens(option) for option in query.options)
    return llm.new_tokens(query.generation)


def reply_tokens(request: Any, llm: HarnessLLM) -> int:
    """:func:`reserve` of lm-eval's own request."""
    if request.request_type == "loglikelihood":
        return llm.count_tokens(request.args[1])
    return llm.new_tokens(request.args[1])


def by_generation(
    queries: Sequence[Query], indices: Sequence[int]
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Groups ``indices`` by equal generation settings, so that each group is one call."""
    groups: dict[str, list[int]] = {}
    for i in indices:
        groups.setdefault(
            json.dumps(dict(queries[i].generation), sort_keys=True, default=str), []
        ).append(i)
    for members in groups.values():
        yield dict(queries[members[0]].generation), members
