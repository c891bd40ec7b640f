"""The files: pool, compose, SLURM array."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined

from pluralism_eval.files import write_atomic
from pluralism_eval.serving import engines, runs
from pluralism_eval.serving.runs import Run
from pluralism_eval.serving.servers import LLM, LOCAL, Plan, Server, label

POOL, COMPOSE, JOB = "pool.yaml", "compose.yaml", "job.slurm"
_HUB_CACHE = "/root/.cache/huggingface"


def write(plan: Plan, run: Run, folder: Path) -> list[Path]:
    """What fits the plan, into ``folder``; returns the files."""
    folder = folder.absolute()
    texts: dict[str, str] = {}
    if plan.pool:
        texts[POOL] = _pool(plan)
    if plan.choices.host == LOCAL:
        if plan.choices.nodes == 1:
            texts[COMPOSE] = _compose(plan, run, folder)
        if plan.llms:
            texts[JOB] = _job(plan, run, folder)
    return [write_atomic(folder / name, text) for name, text in texts.items()]


def _pool(plan: Plan) -> str:
    head = (
        "# Written by `pluralism-eval serve`. Messages are stored under base_url and model: the hash in a name\n"
        "# changes with the adapter's weights, so that no old message is taken for a new one.\n"
    )
    return head + yaml.safe_dump(list(plan.pool), sort_keys=False, allow_unicode=True, width=1000)


def _template(name: str) -> Any:
    def load(file: str) -> str:
        return (files("pluralism_eval.serving") / "templates" / file).read_text(encoding="utf-8")

    # Jinja's own marks are also bash's: ${#array[@]} holds a comment's
    environment = Environment(
        loader=FunctionLoader(load), undefined=StrictUndefined, autoescape=False,
        variable_start_string="@{", variable_end_string="}@", block_start_string="%{", block_end_string="}%",
        comment_start_string="@#", comment_end_string="#@", trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(name)


# ---------------------------------------------------------------------- compose


def _compose(plan: Plan, run: Run, folder: Path) -> str:
    servers = [*plan.communities, *plan.llms]
    commands = [
        runs.join(
            runs.lm_eval(run, runs.model_args(plan, run, llm, folder / POOL), ",".join(run.tasks))
        )
        for llm in plan.llms
    ]
    text: str = _template("compose.yaml.jinja").render(
        services=[_service(server, label(server, servers), plan) for server in servers],
        image=engines.IMAGES[plan.choices.engine],
        key=plan.choices.api_key_variable,
        hub_cache=_HUB_CACHE,
        profiles=len(plan.llms) > 1,
        before=[label(server, servers) for server in plan.communities] if plan.shares_gpus else [],
        runs=commands,
    )
    return text


def _service(server: Server, name: str, plan: Plan) -> dict[str, Any]:
    engine, key = plan.choices.engine, plan.choices.api_key_variable
    secret = f"${{{key}:?set {key}}}"
    mounts: dict[str, str] = {}
    inside = Server(
        server.name,
        _inside(server.model, mounts, "/models"),
        server.served,
        server.port,
        server.revision,
        tuple(
            type(lora)(
                lora.served, _inside(lora.path, mounts, f"/adapters/{lora.served}"), lora.rank
            )
            for lora in server.loras
        ),
        server.gpus,
        context=server.context,
        extra=server.extra,
    )
    words = [*engines.program(engine), *engines.arguments(inside, engine, "0.0.0.0")]
    split = len(engines.program(engine))
    written = [secret if word == engines.KEY else word.replace("$", "$$") for word in words]
    quoted = [json.dumps(word, ensure_ascii=False) for word in written]
    return {
        "name": name,
        "llm": server.name == LLM,
        "entrypoint": f"[{', '.join(quoted[:split])}]",
        "command": quoted[split:],
        "port": server.port,
        "environment": {n: json.dumps(secret) for n in engines.environment(engine)},
        "mounts": [
            (json.dumps(source.replace("$", "$$"), ensure_ascii=False), json.dumps(target))
            for target, source in mounts.items()
        ],
        "gpus": json.dumps([str(gpu) for gpu in server.gpus]),
    }


def _inside(path: str, mounts: dict[str, str], target: str) -> str:
    """Where the container finds ``path``; a folder outside the Hub's cache is added to ``mounts``."""
    if not path.startswith("/"):
        return path
    from huggingface_hub.constants import HF_HOME

    home = Path(HF_HOME).absolute()
    if Path(path).is_relative_to(home):  # its files are links within the cache
        return f"{_HUB_CACHE}/{Path(path).relative_to(home)}"
    mounts[target] = path
    return target


# ---------------------------------------------------------------------- SLURM


def _job(plan: Plan, run: Run, folder: Path) -> str:
    c = plan.choices
    steps = runs.elements(plan, run)
    text: str = _template("job.slurm.jinja").render(
        folder=runs.join([str(folder)]),
        last=len(steps) - 1,
        elements=[
            {"llm": plan.llms.index(llm), "name": runs.join([f"{llm.served}, {task}"]),
             "run": runs.join(runs.lm_eval(run, runs.model_args(plan, run, llm, folder / POOL), task))}
            for llm, task in steps
        ],
        communities=[_started(server, plan) for server in plan.communities],
        llms=[_started(server, plan) for server in plan.llms],
        nodes=c.nodes,
        tensor=c.tensor,
        llm_gpus=",".join(str(gpu) for gpu in plan.llms[0].gpus),
        gpus=plan.gpus_per_node(),
        key=c.api_key_variable,
        engine=c.engine,
        ray_port=engines.RAY_PORT,
        in_turn=plan.shares_gpus,
    )  # fmt: skip
    return text


def _started(server: Server, plan: Plan) -> dict[str, Any]:
    c = plan.choices
    program = engines.program(c.engine)
    words = [*program, *engines.arguments(server, c.engine, c.host)]
    return {
        "name": server.name,
        "url": server.url(c.host),
        "gpus": ",".join(str(gpu) for gpu in server.gpus),
        "command": " ".join(engines.shell(words, c.api_key_variable)),
    }
