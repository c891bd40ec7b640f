"""Does the LLM hear messages? What an earlier run has measured."""

from __future__ import annotations

from pluralism_eval import heard, listening
from pluralism_eval.doctor.findings import Finding
from pluralism_eval.doctor.run import WITH_COMMUNITIES, Run
from pluralism_eval.llm.load import identity_of

_CHECK = "listening"
_OF_SERVERS = ("echo", "top_logprobs", "sampled")


def check(run: Run) -> list[Finding]:
    """The kept figures of this LLM, readout and template."""
    settings = run.settings
    if run.method not in WITH_COMMUNITIES:
        return [Finding(_CHECK, "ok", f"{run.method} shows its LLM no messages")]
    why = listening.unwanted(settings)
    row = _kept(run)
    if row is None:
        seen = f"not measured yet, and this run does not measure it ({why})"
        if not why:
            prompts, _ = listening.size(_readouts(run)[0], settings.readout_samples)
            seen = f"not measured yet: this run does, with {prompts:,} prompts, once"
        return [Finding(_CHECK, "ok", seen)]
    found = heard.figures(row)
    if heard.warning(row, "this LLM"):
        return [Finding(_CHECK, "warning", heard.sentence(found), heard.advice(row))]
    return [Finding(_CHECK, "ok", f"{heard.sentence(found)}; {heard.short(found)}")]


def _kept(run: Run) -> dict[str, object] | None:
    """Of the first readout that the settings' may come to."""
    tokenizer = run.tokenizer if run.kind in ("transformers", "engine") else None
    identity = identity_of(run.settings, tokenizer)
    chat, system = bool(run.asked.chat or run.settings.chat), run.asked.system_instruction or ""
    keys = [
        listening.key_of(identity, run.prompts, run.settings, run.preset, listening.Way(readout, chat, system if chat else ""))
        for readout in _readouts(run)
    ]  # fmt: skip
    known = heard.known(keys)
    return next((known[key] for key in keys if key in known), None)


def _readouts(run: Run) -> tuple[str, ...]:
    asked = run.settings.readout
    if asked not in ("options", "harness"):
        return (asked,)
    return _OF_SERVERS if run.kind == "openai" else ("letters", "generated")
