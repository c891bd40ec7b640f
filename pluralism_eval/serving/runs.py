"""The evaluation's own command lines, over the servers of a plan."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pluralism_eval.errors import PluralismError
from pluralism_eval.serving.plan import context_of
from pluralism_eval.serving.servers import Plan, Server


@dataclass(frozen=True)
class Run:
    """What is evaluated."""

    method: str = "modular_pluralism"
    tasks: tuple[str, ...] = ("pluralism",)
    """Each an array element of its own, for each LLM."""
    templated: bool = False
    """``--apply_chat_template``."""
    settings: str = ""
    """More of ``--model_args``, as there."""
    arguments: tuple[str, ...] = ()
    """More of lm_eval's flags."""


def model_args(plan: Plan, run: Run, llm: Server, pool: Path, client: str = "openai") -> str:
    """``--model_args`` for ``llm``, through our client or lm-eval's own.

    Raises:
        PluralismError: a path that cannot be written there.
    """
    url, c = llm.url(plan.choices.host), plan.choices
    common = {"model": llm.served, "max_length": context_of(llm), "tokenizer": llm.model}
    if client == "openai":
        # completions: log-probabilities of whole options, which chat endpoints do not give
        args = common | {
            "base_url": f"{url}/v1",
            "api": "completions",
            "api_key_variable": c.api_key_variable,
        }
    else:
        args = common | {
            "base_url": f"{url}/v1/completions",
            "tokenizer_backend": "huggingface",
            "num_concurrent": 16,
        }
    unsafe = [str(value) for value in (*args.values(), pool) if set(str(value)) & set(",;")]
    if unsafe:
        raise PluralismError(
            f"--model_args cannot hold a comma or semicolon: {', '.join(unsafe)}; rename the folder"
        )
    inner = ";".join(f"{name}={value}" for name, value in args.items())
    name = "openai" if client == "openai" else "local-completions"
    communities = f",communities={pool}" if plan.pool else ""
    more = f",{run.settings}" if run.settings else ""
    return f"llm={name},llm_args={inner}{communities}{more}"


def lm_eval(run: Run, arguments: str, tasks: str) -> list[str]:
    """The words of one run, but for where results go."""
    words = ["lm_eval", "--model", run.method, "--tasks", tasks, "--model_args", arguments]
    templated = ["--apply_chat_template"] if run.templated else []
    return [*words, *templated, "--log_samples", *run.arguments]


def elements(plan: Plan, run: Run) -> list[tuple[Server, str]]:
    """(LLM, task) of each array element."""
    return [(llm, task) for llm in plan.llms for task in run.tasks]


def join(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)
