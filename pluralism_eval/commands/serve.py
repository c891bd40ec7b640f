"""``pluralism-eval serve``: writes what serves a pool and LLMs with vLLM or SGLang; starts nothing."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.plugin import METHODS
from pluralism_eval.secrets import is_secret_name, redact
from pluralism_eval.serving.advice import advice
from pluralism_eval.serving.files import write
from pluralism_eval.serving.plan import make_plan
from pluralism_eval.serving.runs import Run
from pluralism_eval.serving.servers import ENGINES, LOCAL, Choices


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "serve",
    )
    parser.add_argument("pool", metavar="POOL_OR_MODEL", help="as communities=; or one LLM alone")
    parser.add_argument("--engine", choices=ENGINES, default="vllm", help="default: vllm")
    parser.add_argument(
        "--llm", action="append", default=[], help="Hub id or folder; repeated: one at a time"
    )
    parser.add_argument(
        "--tensor-parallel", type=int, default=1, metavar="N", help="GPUs of the LLM, on each node"
    )
    parser.add_argument(
        "--community-tensor-parallel", type=int, default=1, metavar="N", help="GPUs of each base"
    )
    parser.add_argument(
        "--community-gpu",
        type=int,
        metavar="I",
        help="their first GPU; default: the one after the LLM's",
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="nodes of the LLM (vLLM)")
    parser.add_argument("--port", type=int, default=8000, help="the first port (default: 8000)")
    parser.add_argument("--host", default=LOCAL, help=f"of the servers (default: {LOCAL})")
    parser.add_argument(
        "--api-key-variable",
        default="PLURALISM_API_KEY",
        metavar="NAME",
        help="environment variable that holds the servers' key (default: PLURALISM_API_KEY)",
    )
    parser.add_argument("--max-length", type=int, help="context of the LLM; default: its own")
    parser.add_argument("--method", choices=sorted(METHODS), help="default: modular_pluralism")
    parser.add_argument(
        "--tasks", default="pluralism", help="each one is an array element (default: pluralism)"
    )
    parser.add_argument("--apply_chat_template", action="store_true", help="as lm_eval's")
    parser.add_argument(
        "--settings", default="", metavar="A=B,C=D", help="more of the run's --model_args"
    )
    parser.add_argument(
        "--run-arguments", default="", metavar="TEXT", help="more flags of the run, quoted"
    )
    parser.add_argument(
        "--llm-arguments", default="", metavar="TEXT", help="more for the LLM's server, quoted"
    )
    parser.add_argument(
        "--community-arguments",
        default="",
        metavar="TEXT",
        help="more for the communities' servers",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("serving"), help="folder (default: serving)"
    )
    parser.set_defaults(action=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    choices = Choices(
        arguments.engine,
        tuple(arguments.llm),
        arguments.tensor_parallel,
        arguments.community_tensor_parallel,
        arguments.community_gpu,
        arguments.nodes,
        arguments.port,
        arguments.host,
        arguments.api_key_variable,
        arguments.max_length,
        _words("--llm-arguments", arguments.llm_arguments),
        _words("--community-arguments", arguments.community_arguments),
    )
    given = {
        "--llm-arguments": arguments.llm_arguments,
        "--community-arguments": arguments.community_arguments,
        "--run-arguments": arguments.run_arguments,
        "--settings": arguments.settings,
    }
    raise_all("serve", [p for flag, text in given.items() for p in _keys(flag, text)])
    plan = make_plan(arguments.pool, choices)
    tasks = tuple(task.strip() for task in arguments.tasks.split(",") if task.strip())
    if not tasks:
        raise PluralismError("--tasks names no task")
    method = arguments.method or ("modular_pluralism" if plan.pool else "vanilla")
    if method not in ("vanilla", "prompting") and not plan.pool:
        raise PluralismError(
            f"--method {method} needs communities: give a pool, and --llm {arguments.pool}"
        )
    run = Run(
        method,
        tasks,
        arguments.apply_chat_template,
        arguments.settings,
        _words("--run-arguments", arguments.run_arguments),
    )
    written = write(plan, run, arguments.output)
    print(advice(plan, run, arguments.output, written))


def _keys(flag: str, text: str) -> list[str]:
    """Keys would stand in the files, and on command lines, which everybody on a machine may read."""
    names = re.findall(r"--([\w-]+)[\s=]", text)
    if redact(text) == text and not any(map(is_secret_name, names)):
        return []
    return [f"{flag} holds a key: servers and run read theirs from the variable of --api-key-variable, Hub tokens from HF_TOKEN"]  # fmt: skip


def _words(flag: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise PluralismError(f"{flag} {text!r}: {error}") from error
