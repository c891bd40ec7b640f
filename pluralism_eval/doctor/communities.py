"""The pool: files, hashes, shapes, personas; and which of the run's messages are written already."""

from __future__ import annotations

from pluralism_eval.doctor.findings import Finding, of_error, one_line
from pluralism_eval.doctor.run import WITH_COMMUNITIES, Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.settings import read_weights


def pool(run: Run) -> list[Finding]:
    """Every adapter against its base: hash, rank, shapes, NaN. No weights of a base are loaded."""
    check, s = "communities", run.settings
    if run.method not in WITH_COMMUNITIES:
        return [Finding(check, "ok", f"{run.asked.model} has none")]
    members = run.communities
    names = [c.name for c in members]
    found = []
    try:
        read_weights(s.weights, names)
    except PluralismError as error:
        found += of_error(check, error, "weights= one number a community, or name: number")
    for base in dict.fromkeys(c.base for c in members if c.engine == "prompted" and not c.base_url):
        found += _personas(run, base)
    made = run.pool
    if made.exported:
        if s.message_samples > 1:
            seen = f"message_samples={s.message_samples}: the files in messages={s.messages!r} hold one message an item"
            found.append(Finding(check, "problem", seen, "drop message_samples"))
        return found or [Finding(check, "ok", f"{', '.join(names)}; messages from {s.messages}")]
    engines = sorted({c.engine for c in members})
    adapters = sum(bool(c.adapter) for c in members)
    seen = f"{len(names)} ({', '.join(names)}); engines: {', '.join(engines)}; {adapters} adapters are what they say"
    return found or [Finding(check, "ok", seen)]


def _personas(run: Run, base: str) -> list[Finding]:
    """A prompted community's persona is a system turn, where its base has a chat template."""
    from transformers import AutoTokenizer

    source = run.embedded_folder if base == "embedded" else base
    run.hub.require(source)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if tokenizer.chat_template is None:
        return []
    turns = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    try:
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # many templates raise on a system turn
        seen = f"prompted communities on {base}: its chat template takes no system turn ({one_line(str(error))[:100]})"
        return [Finding("communities", "problem", seen, "another base for them, or engine: served")]
    return []


def messages(run: Run) -> list[Finding]:
    """The store, and what is still to be written."""
    check = "messages"
    if run.method not in WITH_COMMUNITIES:
        return [Finding(check, "ok", f"{run.asked.model} needs none")]
    made, queries = run.pool, run.queries
    if made.exported:
        try:
            made.check(queries)
        except PluralismError as error:
            return of_error(check, error, "messages=FOLDER with all of them, or a store")
        return [Finding(check, "ok", f"all {len(queries) * len(made.names)} in the exported files")]
    wanted = [(query, i) for query in queries for i in range(len(made.names))]
    missing = len(made.missing(wanted))
    bound = "at most " if run.method == "moe" else ""
    note = " (the sample's docs, since the inputs are not here yet)" if run.sampled else ""
    seen = f"{bound}{missing} of {len(wanted)} are still to be written{note}, into {made._source.store.path}"
    return [Finding(check, "ok", seen)]
