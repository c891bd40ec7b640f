"""``pluralism-eval plan``: what a run, a study or the full paper would cost, before it is run."""

from __future__ import annotations

import argparse
import json
import os
from collections import ChainMap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralism_eval.errors import PluralismError

if TYPE_CHECKING:
    from pluralism_eval.planning.figures import Asked
    from pluralism_eval.planning.lengths import Lengths
    from pluralism_eval.planning.rows import Plan
    from pluralism_eval.planning.scale import PaperLLM
    from pluralism_eval.study import RunSpec

_GPUS = "h100,a100-80"


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "plan",
        description="Flags as lm_eval's, and what to price by. No model is loaded, asked or downloaded without --pilot.",
    )
    flag = parser.add_argument
    flag("--model", "-M", help="method, or several joined by commas (default: modular_pluralism; with --scale paper "
         "or --study: all four)")  # fmt: skip
    flag("--model_args", "-a", nargs="+", default=[], help="as lm_eval's")
    flag("--tasks", "-t", nargs="+", default=["pluralism"], help="default: pluralism")
    flag("--metadata", nargs="+", default=[], help="as lm_eval's: data=sample ...")
    flag("--limit", "-L", type=int, help="docs a task")
    flag("--gen_kwargs", nargs="+", default=[], help="as lm_eval's")
    flag("--apply_chat_template", action="store_true", help="as lm_eval's")
    flag("--batch_size", "-b", help="as lm_eval's (default: 1)")
    flag("--device", help="as lm_eval's, for --pilot")
    flag("--study", type=Path, help="a study file: all its LLMs")
    flag(
        "--scale",
        help="on paper: paper (its docs; and its LLMs, unless one is named), or a number of docs",
    )
    flag(
        "--pilot", type=int, help="run so many docs a task first, and measure what is else assumed"
    )
    flag("--output", type=Path, default=Path("plan_output"), help="folder of the pilot's runs")
    flag("--parameters", help="of the LLM: 7e9 or 7b; default: its config, a table, or its name")
    flag("--message-tokens", type=float, help="expected new tokens of a message")
    flag("--response-tokens", type=float, help="expected new tokens of a response")
    price(parser)
    flag("--json", action="store_true", help="everything as JSON")
    parser.set_defaults(action=_plan)


def price(parser: argparse.ArgumentParser) -> None:
    """Flags of devices and prices."""
    flag = parser.add_argument
    flag("--gpu", help=f"GPUs of the table, joined by commas (default: {_GPUS})")
    flag("--tflops", type=float, help="peak of another device, in 10^12 FLOP/s")
    flag("--bandwidth", type=float, help="its memory bandwidth, in GB/s")
    flag("--memory", type=float, help="its memory, in GB")
    flag(
        "--utilisation", type=float, default=0.3, help="share of peak FLOP/s reached (default: 0.3)"
    )
    flag(
        "--bandwidth-utilisation",
        type=float,
        default=0.5,
        help="share of bandwidth reached (default: 0.5)",
    )
    flag("--price-in", type=float, help="money for a million prompt tokens of the LLM")
    flag("--price-out", type=float, help="money for a million new tokens of the LLM")
    flag(
        "--batch-discount",
        type=float,
        default=0.0,
        help="share off for a batch API: 0.5 at OpenAI's",
    )


def _plan(arguments: argparse.Namespace) -> None:
    if arguments.pilot is None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _check(arguments)
    from pluralism_eval.planning import figures, report, scale
    from pluralism_eval.planning.pilot import plan_by_pilot
    from pluralism_eval.planning.plan import make_plan

    asked, wanted = _asked(arguments), arguments.scale and scale.read_scale(arguments.scale)
    specs, paper = _specs(arguments)
    lengths = _lengths(arguments)
    if arguments.pilot is None:
        plan = make_plan(specs, lambda spec, task: lengths, batch_size=arguments.batch_size)
    else:
        plan = plan_by_pilot(
            specs, arguments.output, arguments.pilot, arguments.batch_size, arguments.device
        )
    title = _title(specs, arguments)
    if arguments.scale:
        plan = _scaled(plan, wanted, paper)
    if arguments.json:
        print(json.dumps(figures.as_json(plan, asked), indent=1))
    else:
        print(report.text(plan, asked, title))


def _check(arguments: argparse.Namespace) -> None:
    """Raises PluralismError with the first flag whose number cannot be."""
    for name in ("limit", "pilot"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise PluralismError(f"--{name} {value}: at least 1")
    positive = ("tflops", "bandwidth", "memory", "message_tokens", "response_tokens", "utilisation", "bandwidth_utilisation")  # fmt: skip
    for name in positive:
        value, share = getattr(arguments, name), "utilisation" in name
        if value is not None and not (0 < value <= 1 if share else value > 0):
            allowed = "above 0, at most 1" if share else "above 0"
            raise PluralismError(f"--{name.replace('_', '-')} {value}: {allowed}")
    for name in ("price_in", "price_out"):
        value = getattr(arguments, name)
        if value is not None and value < 0:
            raise PluralismError(f"--{name.replace('_', '-')} {value}: 0 or more")
    if not 0 <= arguments.batch_discount < 1:
        raise PluralismError(f"--batch-discount {arguments.batch_discount}: from 0, below 1")
    if (arguments.price_in is None) != (arguments.price_out is None):
        raise PluralismError("--price-in and --price-out belong together; give both")
    if arguments.tflops is None and (arguments.bandwidth or arguments.memory):
        raise PluralismError(
            "--bandwidth and --memory describe a device of your own: give --tflops too"
        )
    if arguments.pilot and (arguments.message_tokens or arguments.response_tokens):
        raise PluralismError(
            "--pilot measures lengths: drop --message-tokens and --response-tokens"
        )


def _asked(arguments: argparse.Namespace) -> Asked:
    from pluralism_eval.planning.cost import Device, Prices, Reached, devices
    from pluralism_eval.planning.figures import Asked

    named = arguments.gpu or (None if arguments.tflops else _GPUS)
    found = devices(named) if named else []
    if arguments.tflops:
        found.append(Device("yours", arguments.tflops, arguments.bandwidth, arguments.memory))
    prices = None
    if arguments.price_in is not None:
        prices = Prices(arguments.price_in, arguments.price_out, arguments.batch_discount)
    reached = Reached(arguments.utilisation, arguments.bandwidth_utilisation)
    return Asked(found, reached, prices)


def _lengths(arguments: argparse.Namespace) -> Lengths:
    from pluralism_eval.planning.lengths import told

    return told(arguments.message_tokens, arguments.response_tokens)


def _specs(arguments: argparse.Namespace) -> tuple[list[RunSpec], list[PaperLLM]]:
    from pluralism_eval.planning.specs import Request, specs

    return specs(
        Request(
            methods=[m for m in (arguments.model or "").split(",") if m],
            model_args=_pairs("--model_args", arguments.model_args),
            tasks=tuple(name for part in arguments.tasks for name in part.split(",") if name),
            metadata=_pairs("--metadata", arguments.metadata),
            gen_kwargs=_pairs("--gen_kwargs", arguments.gen_kwargs),
            limit=arguments.limit,
            chat=arguments.apply_chat_template,
            parameters=_parameters(arguments),
            study=arguments.study,
            paper=arguments.scale == "paper",
        )
    )


def _parameters(arguments: argparse.Namespace) -> float | None:
    from pluralism_eval.planning.models import nominal

    text = arguments.parameters
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = nominal(text) or 0.0
    if not value > 0:
        raise PluralismError(f"--parameters {text!r} is no number above 0; write 7e9 or 7b")
    return value


def _pairs(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """As lm_eval reads them: JSON, or ``key=value`` joined by commas or blanks.

    Raises:
        PluralismError: neither; the text itself is not repeated, it may hold a key.
    """
    from lm_eval._cli.utils import key_val_to_dict, try_parse_json

    try:
        whole = try_parse_json(given[0]) if given else {}
        parts = [] if isinstance(whole, dict) else [key_val_to_dict(part) for part in given]
    except ValueError as error:
        raise PluralismError(f"{flag}: expected key=value,key=value, or a JSON object") from error
    return dict(whole) if isinstance(whole, dict) else dict(ChainMap(*reversed(parts)))


# ---------------------------------------------------------------------- scale


def _scaled(plan: Plan, docs: int | None, paper: Sequence[PaperLLM]) -> Plan:
    from pluralism_eval.planning import scale

    planned = scale.docs_of(plan)
    counts = ", ".join(f"{n} of {task.removeprefix('pluralism_')}" for task, n in planned.items())
    if docs is not None:
        note = f"scaled on paper to {docs:,} docs, divided as the planned ones are ({counts}); none of their messages stored, equal prompts as frequent as here"
        return scale.scaled(plan, scale.divided(docs, planned), {}, note)
    wanted = {task: n for task, n in scale.paper_docs().items() if task in planned}
    note = (
        f"scaled on paper to the paper's {sum(wanted.values()):,} docs from the figures a doc of {counts}; messages "
        "written once for all LLMs and methods, none stored; equal prompts, which are asked once, as frequent as here"
    )
    if paper:
        note += (
            "; LLMs: the paper's six, each unaligned and aligned (ChatGPT: davinci-002 and gpt-3.5-turbo, as the paper "
            "assumes, read by top_logprobs, sizes unknown), LLaMA2-70B on 20 % of the docs; all of them on all tasks with "
            "these methods, although the paper prints only some tasks for four of them. Judges, other pools and a second "
            "scorer are not included"
        )
    return scale.scaled(plan, wanted, {each.llm.name: each.share for each in paper}, note)


def _title(specs: Sequence[RunSpec], arguments: argparse.Namespace) -> str:
    methods = ", ".join(dict.fromkeys(spec.method for spec in specs))
    llms = list(dict.fromkeys(spec.llm.name for spec in specs))
    shown = ", ".join(llms) if len(llms) <= 3 else f"{len(llms)} LLMs"
    pilot = f", after a pilot of {arguments.pilot} docs a task" if arguments.pilot else ""
    sized = "the paper's docs" if arguments.scale == "paper" else f"{arguments.scale} docs"
    scale = f", scaled on paper to {sized}" if arguments.scale else ""
    return f"Planned, not run{pilot}{scale}: {methods} on {shown}"
