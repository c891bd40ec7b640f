"""Flags that all commands with LLMs and runs share: reproduce, pools, compare."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.reproduce.build import Options
from pluralism_eval.study import StudyLLM, parse_llm, read_study
from pluralism_eval.yaml_files import yaml_value


def flags(parser: argparse.ArgumentParser, output: str) -> None:
    """Adds them; ``output`` is the default folder."""
    add = parser.add_argument
    add("--llm", action="append", default=[], help="embedded (default), hf:pretrained=X;dtype=bfloat16, or "
        "llama2-13b/aligned=hf:pretrained=X;chat=true to stand beside the paper's; may be repeated")  # fmt: skip
    add(
        "--study",
        type=Path,
        help="YAML with any number of llms, and settings, data, nli, limit; compare: methods, tasks, pools",
    )
    add("--data", help="authors, cleaned, sample or a folder (default: authors; embedded: sample)")
    add("--nli", help="entailment scorer (default: the table's; embedded: embedded)")
    add("--limit", type=int, help="docs a task (default: all; embedded: 12)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="more --model_args")
    add("--gen", action="append", default=[], metavar="KEY=VALUE", help="generation settings")
    add(
        "--output",
        type=Path,
        default=Path(output),
        help=f"folder of runs and report (default: {output})",
    )
    add("--batch_size", help="as lm_eval's")
    add("--device", help="as lm_eval's")


def read(arguments: argparse.Namespace) -> tuple[list[StudyLLM], Options, dict[str, Any]]:
    """LLMs (default: the embedded one), options, and the study file's other keys.

    Raises:
        PluralismError: a bad number, two LLMs of one name, or a bad study file.
    """
    for flag in ("limit", "pilot"):
        value = getattr(arguments, flag, None)
        if value is not None and value < 1:
            raise PluralismError(f"--{flag} {value}: at least 1")
    llms = [parse_llm(text) for text in arguments.llm]
    given: dict[str, Any] = {}
    if arguments.study:
        more, given = read_study(arguments.study)
        llms += more
    names = [llm.name for llm in llms]
    if len(set(names)) < len(names):
        raise PluralismError(f"two LLMs have one name: {', '.join(names)}; give them others")
    options = Options(
        data=_either(arguments.data, given.pop("data", None)),
        nli=_either(arguments.nli, given.pop("nli", None)),
        limit=_either(arguments.limit, given.pop("limit", None)),
        settings={**given.pop("settings", {}), **pairs("--set", arguments.set)},
        gen_kwargs={**given.pop("gen_kwargs", {}), **pairs("--gen", arguments.gen)},
        batch_size=arguments.batch_size,
        device=arguments.device,
    )
    return llms or [parse_llm("embedded")], options, given


def _either(flag: Any, other: Any) -> Any:
    return other if flag is None else flag


def pairs(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE``, values as YAML reads them."""
    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise PluralismError(f"{flag} {pair!r} is not KEY=VALUE")
        found[key] = yaml_value(value)
    return found
