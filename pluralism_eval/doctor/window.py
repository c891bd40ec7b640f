"""Do the longest prompts of the run fit the context windows of the LLM and of the communities?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pluralism_eval import readouts, requests
from pluralism_eval.communities.asking import prompt_of
from pluralism_eval.communities.bases import has_template
from pluralism_eval.doctor.chat import rendered
from pluralism_eval.doctor.findings import Finding
from pluralism_eval.doctor.memory import read_config
from pluralism_eval.doctor.model import window
from pluralism_eval.doctor.run import Run
from pluralism_eval.llm.generation import normalised
from pluralism_eval.schema import Query

_LONGEST = 5  # of a task, by characters: those are counted in tokens
_CHECK = "context window"


def check(run: Run) -> list[Finding]:
    """The longest prompt with its messages and its response, by task."""
    limit = window(run)
    found, worst = [], 0
    for task, queries in longest(run).items():
        bare, full, cut = 0, 0, 0
        for query in queries:
            for prompt, passages, reserve in rounds(run, query):
                own = run.count(rendered(run, prompt)) + reserve
                bare = max(bare, own)
                full = max(full, own + passages)
        cut = full - limit
        worst = max(worst, full)
        if bare > limit:
            seen = f"{task}: its longest prompt and response take {bare} tokens without any message, the window is {limit}"
            do = "a lower max_gen_toks, fewer few-shot examples, max_length (if the model has more), another model"
            found.append(Finding(_CHECK, "problem", seen, do))
        elif cut > 0:
            seen = f"{task}: up to {full} tokens with all messages, the window is {limit}: messages may be cut by {cut}"
            do = "message_max_tokens lower, fewer communities, or max_length (lm-eval's APIs take 2048 unless told)"
            found.append(Finding(_CHECK, "warning", seen, do))
    found += _of_communities(run)
    note = "; from the sample's docs, since the inputs are not here yet" if run.sampled else ""
    seen = f"{limit} tokens; the longest prompt with messages and response takes {worst}{note}"
    return found or [Finding(_CHECK, "ok", seen)]


def longest(run: Run) -> dict[str, list[Query]]:
    """Task → its longest queries, by characters, of every mode and readout."""
    by_task: dict[tuple[str, str, str], list[Query]] = defaultdict(list)
    for query in run.queries:
        by_task[query.task, query.mode, query.readout].append(query)
    found: dict[str, list[Query]] = defaultdict(list)
    for (task, _, _), queries in by_task.items():
        queries.sort(key=lambda q: -len(q.prefix) - len(q.text) - len(q.attribute_line))
        found[task] += queries[:_LONGEST]
    return found


def rounds(run: Run, query: Query) -> Iterator[tuple[str, int, int]]:
    """(prompt without messages, tokens of messages, tokens of the response) of each prompt that the
    method sends about ``query``."""
    each = run.settings.message_max_tokens or run.preset.message_max_tokens
    k = len(run.communities)
    names: list[tuple[str, int]] = {
        "vanilla": [("", 0)],
        "prompting": [("respond", 0)],
        "moe": [("select", 0), ("respond", 1)],
    }.get(run.method) or {
        "overton": [("overton", k)],
        "steerable": [
            ("reflect", 1) if run.settings.selection == "likelihood" else ("select", k),
            ("steerable", 1),
        ],
        "distributional": [("distributional", 1)],
    }[query.mode]
    query = replace(query, text=readouts.asked(query, run.prompts))
    for name, messages in names:
        text = query.text
        if name:
            text = run.prompts.render(
                run.method, name, query=text, attribute=query.attribute, attribute_line=query.attribute_line,
                steer_line=query.steer_line, messages=[""] * messages,
                descriptions=[c.description for c in run.communities],
            )  # fmt: skip
        reserve = run.preset.choice_max_tokens if name == "select" else _reserve(run, query)
        yield query.prefix + text, messages * each, reserve


def _reserve(run: Run, query: Query) -> int:
    if query.readout == "generation":
        query = replace(query, generation={**query.generation, **run.asked.gen_kwargs})
    server = run.kind in ("openai", "api")

    def new_tokens(settings: Mapping[str, Any]) -> int:
        limit: int = normalised(settings, 256, server)["max_gen_toks"]
        return limit

    llm: Any = SimpleNamespace(count_tokens=run.count, new_tokens=new_tokens)
    return requests.reserve(query, llm)


def _of_communities(run: Run) -> list[Finding]:
    """Message prompt and message must fit the community's own window, or its engine stops the run."""
    new = run.settings.message_max_tokens or run.preset.message_max_tokens
    bases = {c.base: c for c in run.communities if c.base and not c.base_url and c.engine != "vllm"}
    found = []
    for base, community in bases.items():
        source = run.embedded_folder if base == "embedded" else base
        run.hub.require(source)
        limit = int(getattr(read_config(source), "max_position_embeddings", 0) or 0)
        chat = community.chat == "true" or (community.chat == "auto" and has_template(base))
        authors = run.preset.message_layout == "authors"
        prompts = [
            prompt_of(run.prompts, q, chat, authors)
            for queries in longest(run).values()
            for q in queries
        ]
        persona = run.count(community.persona) if community.persona else 0
        need = max(map(run.count, prompts)) + persona + new
        if limit and need > limit:
            seen = f"messages of {community.name}: the longest prompt and message take {need} tokens, its base's window is {limit}"
            do = f"message_max_tokens={max(1, limit - need + new)} or lower"
            found.append(Finding(_CHECK, "problem", seen, do))
    return found
