"""From what a user asks for to runs: of ``--model_args``, of a study file, or the paper's LLMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.planning.dry import settings_of
from pluralism_eval.planning.scale import PaperLLM, paper_llms
from pluralism_eval.plugin import METHODS
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec, StudyLLM, read_study


@dataclass(frozen=True)
class Request:
    """Flags as lm_eval's, and where LLMs are from."""

    methods: Sequence[str]
    """Empty: all with the paper's LLMs or a study, else modular_pluralism."""
    model_args: Mapping[str, Any]
    tasks: tuple[str, ...]
    metadata: Mapping[str, Any]
    gen_kwargs: Mapping[str, Any]
    limit: int | None
    chat: bool
    parameters: float | None
    study: Path | None
    paper: bool
    """The paper's docs; its LLMs too, unless others are named."""


def specs(asked: Request) -> tuple[list[RunSpec], list[PaperLLM]]:
    """The runs, and the paper's LLMs where it is those.

    Raises:
        PluralismError: unknown methods, settings that cannot be, or a study file with problems.
    """
    named = {"llm", "pretrained", "config"} & set(asked.model_args)
    paper = asked.paper and not named and not asked.study
    methods = [method.removeprefix("pluralism_") for method in asked.methods]
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise PluralismError(
            f"--model {', '.join(unknown)}: unknown. Allowed: {', '.join(METHODS)}"
        )
    if not methods:
        methods = list(METHODS) if paper or asked.study else ["modular_pluralism"]
    if paper:
        found = paper_llms()
        return [
            _spec(asked, method, each.llm, {**each.settings, **asked.model_args})
            for each in found for method in methods
        ], found  # fmt: skip
    if asked.study:
        return _of_study(asked, methods), []
    return [_of_arguments(asked, method) for method in methods], []


def _of_arguments(asked: Request, method: str) -> RunSpec:
    settings = parse(method, asked.model_args)
    args = settings.llm_args
    name = str(args.get("pretrained") or args.get("model") or settings.llm)
    llm = StudyLLM(name, settings.llm, args, asked.chat, asked.parameters)
    return _spec(asked, method, llm, settings_of(settings))


def _of_study(asked: Request, methods: Sequence[str]) -> list[RunSpec]:
    assert asked.study is not None
    llms, told = read_study(asked.study)
    settings = {**told.get("settings", {}), **asked.model_args}
    if "llm" in settings or "pretrained" in settings:
        raise PluralismError("--study names the LLMs: drop llm and pretrained from --model_args")
    return [_spec(asked, method, llm, settings, told) for llm in llms for method in methods]


def _spec(
    asked: Request,
    method: str,
    llm: StudyLLM,
    settings: Mapping[str, Any],
    told: Mapping[str, Any] | None = None,
) -> RunSpec:
    """
    Args:
        told: other keys of a study file; flags go before them.
    """
    told = told or {}
    metadata = {key: told[key] for key in ("data", "nli") if told.get(key)}
    spec = RunSpec(
        label=method,
        method=method,
        llm=llm,
        tasks=asked.tasks,
        settings=dict(settings),
        metadata={**metadata, **asked.metadata},
        gen_kwargs={**told.get("gen_kwargs", {}), **asked.gen_kwargs},
        limit=asked.limit or told.get("limit"),
    )
    parse(method, spec.model_args())
    return spec
