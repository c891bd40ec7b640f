"""The chat template, and the tokens that spell option letters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pluralism_eval.chat_date import rendering_on
from pluralism_eval.doctor.findings import Finding, one_line
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.thoughts import opens_thought
from pluralism_eval.schema import Turn

_MARK = "pluralism-eval-doctor"
_SHOWN = 4


def rendered(run: Run, text: str) -> str:
    """``text`` as the LLM gets it: through its chat template where the run says so."""
    if not run.chat or run.kind not in ("transformers", "engine") or not _template(run):
        return text
    system = run.asked.system_instruction
    turns = [{"role": "system", "content": system}] if system else []
    return _render(run, [*turns, {"role": "user", "content": text}])


def _template(run: Run) -> Any:
    return getattr(run.tokenizer, "chat_template", None)


def _render(run: Run, turns: list[Turn], header: bool = True) -> str:
    named = {"chat_template": _template(run)[run.asked.chat]} if _is_named(run) else {}
    more = dict(run.settings.llm_args.get("chat_template_args") or {})
    with rendering_on(run.settings.chat_date):
        text: str = run.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=header, **named, **more
        )
    return text


def _is_named(run: Run) -> bool:
    return isinstance(_template(run), dict) and isinstance(run.asked.chat, str)


def template(run: Run) -> list[Finding]:
    """Has the LLM a chat template, is it used, does it take a system role, does it end as it should?"""
    check = "chat template"
    if run.kind not in ("transformers", "engine"):
        return _of_servers(run)
    if not _template(run):
        if run.chat:
            drop = "drop --apply_chat_template" if run.asked.chat else "chat=false"
            do = f"{drop}, or name the instruct version of the model"
            return [Finding(check, "problem", f"{run.settings.llm} has no chat template (a base model?)", do)]  # fmt: skip
        return [Finding(check, "ok", "none, and none asked for")]
    if not run.chat:
        seen = "the model has a chat template (an instruct model), which this run does not use"
        return [
            Finding(check, "warning", seen, "--apply_chat_template, unless plain prompts are meant")
        ]
    if _is_named(run) and run.asked.chat not in _template(run):
        do = f"Allowed: {', '.join(_template(run))}"
        return [Finding(check, "problem", f"there is no template {run.asked.chat!r}", do)]
    user = {"role": "user", "content": _MARK}
    try:
        with_header, without = _render(run, [user]), _render(run, [user], header=False)
    except Exception as error:  # templates are programs of their authors
        seen = (
            f"the template cannot be rendered: {type(error).__name__}: {one_line(str(error))[:200]}"
        )
        return [
            Finding(check, "problem", seen, "report it to the model's author, or use another model")
        ]
    found = []
    if _MARK not in with_header:
        do = "use another model or its --apply_chat_template NAME"
        found.append(Finding(check, "problem", "the template drops the user's turn", do))
    if with_header == without:
        seen = "the template adds no assistant header, so the LLM may go on with the user's turn"
        found.append(Finding(check, "warning", seen, "look at the prompts of a --limit 1 run's transcript"))  # fmt: skip
    if opens_thought(with_header) and run.scores_options:
        seen = "the template opens a thought, after which no option can be read"
        do = "readout=sampled, generated or verbalised with think_end_token, or llm_args enable_thinking=False"
        found.append(Finding(check, "problem", seen, do))
    refusal = _system_role(run)
    if refusal and run.asked.system_instruction:
        found.append(Finding(check, "problem", refusal, "drop --system_instruction"))
    tail = repr(with_header[with_header.rfind(_MARK) + len(_MARK) :][-40:])
    return found or [
        Finding(
            check, "ok", f"used; {refusal or 'it takes a system role'}; prompts end with {tail}"
        )
    ]


def _system_role(run: Run) -> str:
    """Why a system turn does not reach the model; empty if it does."""
    turns = [{"role": "system", "content": _MARK}, {"role": "user", "content": "Hello"}]
    try:
        return "" if _MARK in _render(run, turns) else "the template drops system turns"
    except Exception as error:  # many templates raise here on purpose
        return f"the template takes no system role ({one_line(str(error))[:100]})"


def _of_servers(run: Run) -> list[Finding]:
    check, llm, args = "chat template", run.settings.llm, run.settings.llm_args
    if run.kind == "api" and "chat" in llm and not run.chat:
        seen = f"llm={llm} takes chat turns only"
        return [Finding(check, "problem", seen, "--apply_chat_template")]
    plain = run.kind == "openai" and args.get("api") == "completions"
    if plain and run.chat and not args.get("tokenizer"):
        do = "llm_args tokenizer=<the served model's>, or api=chat"
        return [Finding(check, "problem", "api=completions has no tokenizer to make chat prompts", do)]  # fmt: skip
    return [Finding(check, "ok", "the server's own" if run.kind != "other" else "lm-eval's model knows")]  # fmt: skip


# ---------------------------------------------------------------------- option letters


def option_tokens(run: Run) -> list[Finding]:
    """Every letter needs a token of its own, and better the spelling that follows the prompt."""
    from pluralism_eval.llm.hf import HFLLM

    check, letters = "option tokens", run.letters
    _ = run.queries  # without any there is nothing to be said
    if not letters:
        seen = f"no option letters are read as tokens here (readout={run.settings.readout})"
        return [Finding(check, "ok", seen)]
    plain = run.kind == "transformers" and not getattr(run.config, "is_encoder_decoder", False)
    if not plain and run.kind != "openai" and run.preset.top_tokens is not None:
        seen = f"preset={run.preset.name} reads the {run.preset.top_tokens} likeliest tokens, which lm-eval does not give for llm={run.settings.llm}"
        do = f"preset=paper, preset={run.preset.name}+top_tokens=null, llm=hf or llm=openai"
        return [Finding(check, "problem", seen, do)]
    if not plain:
        return [Finding(check, "ok", "options are read from log-likelihoods of text: any tokens will do")]  # fmt: skip
    tokenizer = run.tokenizer
    llm = HFLLM(SimpleNamespace(tokenizer=tokenizer), run.settings.llm)
    missing, spelled = [], {}
    for letter in letters:
        try:
            spelled[letter] = llm.token_ids(letter)
        except PluralismError:
            missing.append(letter)
    found = []
    if missing:
        seen = f"no single token for {', '.join(missing)}"
        do = "readout=cloze, harness (vanilla), sampled, verbalised or generated; or another model"
        found.append(Finding(check, "problem", seen, do))
    context, gap = _before_answer(run)
    longer = [x for x in spelled if len(_after(tokenizer, context, gap + x)) != 1]
    if longer:
        seen = f"after the prompt, {gap + longer[0]!r} is {len(_after(tokenizer, context, gap + longer[0]))} tokens (of {', '.join(longer)}): its probability is not seen whole"
        do = "look at option_mass in the results; if it is low: readout=sampled or verbalised"
        found.append(Finding(check, "warning", seen, do))
    shown = [
        f"{letter} as {', '.join(map(repr, tokenizer.convert_ids_to_tokens(ids)))}"
        for letter, ids in list(spelled.items())[:_SHOWN]
    ]
    more = f" and {len(spelled) - _SHOWN} more" if len(spelled) > _SHOWN else ""
    return found or [Finding(check, "ok", f"{'; '.join(shown)}{more}")]


def _before_answer(run: Run) -> tuple[str, str]:
    """(an option prompt of this run, white space that an answer to it begins with)."""
    query = next(q for q in run.queries if q.readout == "letters")
    context = rendered(run, query.prefix + query.text)
    return context, "" if context[-1:].isspace() or context != query.prefix + query.text else " "


def _after(tokenizer: Any, context: str, end: str) -> list[int]:
    """Tokens that ``end`` adds to ``context``."""
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    whole = tokenizer(context + end, add_special_tokens=False)["input_ids"]
    same = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))  # fmt: skip
    return list(whole[same:])
