"""All that is wrong with the settings, at once: also what the run would notice only later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pluralism_eval import plugin
from pluralism_eval.doctor.findings import Finding, of_error
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import Settings, parse, read_config

_OURS = ("embedded", "openai")


def checked_settings(model: str, given: Mapping[str, Any]) -> Settings:
    """The settings of a run.

    Raises:
        PluralismError: one error with all problems: of ``--model``, of the settings, of the LLM's name and
            of the prompts file.
    """
    method = model.removeprefix("pluralism_")
    problems: list[str] = []
    if method not in plugin.METHODS:
        problems.append(
            f"--model {model!r} is none of our methods. Allowed: {', '.join(plugin.METHODS)}; a bare LLM of "
            "lm-eval's is checked as --model vanilla with --model_args llm=NAME"
        )
        method = "vanilla"
    settings: Settings | None = None
    try:
        settings = parse(method, given)
    except PluralismError as error:
        problems += [finding.seen for finding in of_error("", error)]
    told = settings.__dict__ if settings else _told(given)
    problems += _of_llm(str(told.get("llm", "hf" if "pretrained" in told else "embedded")))
    problems += _of_prompts(method, told.get("prompts"), told.get("templates", 1))
    raise_all("settings", problems)
    assert settings is not None
    return settings


def _told(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return read_config(str(given["config"]), []) | dict(given) if "config" in given else given


def _of_llm(llm: str) -> list[str]:
    plugin.register_models()
    from lm_eval.api.registry import model_registry

    if llm.removeprefix("pluralism_") in plugin.METHODS:
        return [f"llm={llm!r} is a method, not an LLM; name the model it should work with"]
    names = sorted(n for n in model_registry.keys() if n.removeprefix("pluralism_") not in plugin.METHODS)  # noqa: SIM118  # fmt: skip
    if llm in (*_OURS, *names):
        return []
    return [f"llm={llm!r} is unknown. Allowed: {', '.join([*_OURS, *names])}"]


def _of_prompts(method: str, path: Any, templates: Any) -> list[str]:
    if path is not None and not Path(str(path)).is_file():
        return []  # the settings have said so
    try:
        prompts = Prompts(None if path is None else str(path))
    except PluralismError as error:
        return [f.seen for f in of_error("", error)]
    own = prompts.variants(method)
    if isinstance(templates, int) and templates > own:
        return [
            f"templates={templates}: {method} has {own} wording(s); lower it, or add more (prompts=FILE with "
            "names such as respond.2)"
        ]
    return []


def describe(s: Settings) -> list[Finding]:
    """One line about settings that are as they should be."""
    shown = [f"llm={s.llm}", f"preset={s.preset}", f"readout={s.readout}", f"mode={s.mode}"]
    shown += [f"prompts={s.prompts}"] if s.prompts else []
    return [Finding("settings", "ok", ", ".join(shown))]
