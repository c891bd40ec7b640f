"""What to type, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pluralism_eval.serving import engines, files, runs
from pluralism_eval.serving.runs import Run
from pluralism_eval.serving.servers import Plan, Server, label


def advice(plan: Plan, run: Run, folder: Path, written: Sequence[Path]) -> str:
    """Command lines of the servers and of the run, and what is to be known."""
    c, folder = plan.choices, folder.absolute()
    key, servers = c.api_key_variable, [*plan.communities, *plan.llms]
    names = [path.name for path in written]
    lines = [f"Written to {folder}: {', '.join(names) or 'nothing'}", ""]
    lines += ["# A key of your own, which servers and run read from the environment:"]
    lines += [f"export {key}=$(python3 -c 'import secrets; print(secrets.token_hex(16))')"]
    if c.nodes > 1:
        lines += ["", f"# Ray on the first of {c.nodes} nodes, then on each other one:"]
        start = f"CUDA_VISIBLE_DEVICES={_gpus(plan.llms[0])} ray start --num-gpus={c.tensor}"
        lines += [f"{start} --head --port={engines.RAY_PORT}"]
        lines += [f"{start} --address=FIRST_NODE:{engines.RAY_PORT}"]
    for server in servers:
        what = f"{len(server.loras)} adapters" if server.loras else "no adapters"
        lines += [
            "",
            f"# {label(server, servers)}: {server.served}, {what}, on GPU {_gpus(server)}:",
        ]
        lines += [server_line(server, plan)]
    for llm in plan.llms:
        own = runs.model_args(plan, run, llm, folder / files.POOL)
        other = runs.model_args(plan, run, llm, folder / files.POOL, "local-completions")
        tasks = ",".join(run.tasks)
        lines += ["", f"# The run with {llm.served}:", runs.join(runs.lm_eval(run, own, tasks))]
        lines += ["# The same through lm-eval's own client:"]
        lines += [f'OPENAI_API_KEY="${key}" {runs.join(runs.lm_eval(run, other, tasks))}']
    if not plan.llms:
        lines += ["", "# In the run:", f"--model_args llm=...,communities={folder / files.POOL}"]
    if files.COMPOSE in names:
        lines += ["", "# Or both servers in containers (its head says how):"]
        lines += [runs.join(["docker", "compose", "--file", str(folder / files.COMPOSE), "up", "--detach", "--wait"])]  # fmt: skip
    if files.JOB in names:
        last = len(runs.elements(plan, run)) - 1
        lines += ["", f"# Or on a cluster: servers and run in one job, array elements 0 to {last}:"]
        lines += [runs.join(["sbatch", str(folder / files.JOB)])]
    if plan.notes:
        lines += ["", "To be known:", *(f"- {note}" for note in plan.notes)]
    return "\n".join(lines)


def server_line(server: Server, plan: Plan) -> str:
    """One server's command line, with the variables that it needs."""
    c = plan.choices
    variables = [f"CUDA_VISIBLE_DEVICES={_gpus(server)}"]
    for name, value in engines.environment(c.engine).items():
        variables += [f"{name}={engines.shell([value], c.api_key_variable)[0]}"]
    if server.nodes > 1:
        variables += [f"RAY_ADDRESS={c.host}:{engines.RAY_PORT}"]
    words = [*engines.program(c.engine), *engines.arguments(server, c.engine, c.host)]
    return " ".join([*variables, *engines.shell(words, c.api_key_variable)])


def _gpus(server: Server) -> str:
    return ",".join(str(gpu) for gpu in server.gpus)
