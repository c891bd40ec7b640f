"""From a pool and LLMs to servers: one for each base model, on consecutive ports."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pluralism_eval.communities.catalogue import Community, load_pool, named_pools
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.serving import engines, sources
from pluralism_eval.serving.servers import ENGINES, LLM, LOCAL, Choices, Lora, Plan, Server, gpus

_UNREAD_CONTEXT = 8192  # what llm=openai assumes


def make_plan(pool_or_model: str, choices: Choices) -> Plan:
    """What to serve.

    Args:
        pool_or_model: as ``communities=`` takes it; or one model, which is then the only LLM.

    Raises:
        PluralismError: one error with all problems: choices, pool, adapters.
    """
    _check(choices)
    if _is_pool(pool_or_model):
        return _plan(load_pool(pool_or_model), choices)
    return _plan([], replace(choices, llms=(pool_or_model, *choices.llms)))


def _is_pool(text: str) -> bool:
    try:
        load_pool(text)
    except PluralismError:
        first = re.split(r"[/+]", text)[0]
        file = Path(text).is_file() or text.endswith((".yaml", ".yml"))
        if file or first in named_pools() or not sources.is_model(text):
            raise
        return False
    return True


def _check(c: Choices) -> None:
    problems = []
    if c.engine not in ENGINES:
        problems.append(f"--engine {c.engine!r} is unknown. Allowed: {', '.join(ENGINES)}")
    for name in ("tensor", "community_tensor", "nodes"):
        if getattr(c, name) < 1:
            problems.append(f"{name} must be 1 or more, got {getattr(c, name)}")
    if c.community_gpu is not None and c.community_gpu < 0:
        problems.append(f"--community-gpu {c.community_gpu} must be 0 or more")
    if not 1024 <= c.port <= 65000:
        problems.append(f"--port {c.port} must be from 1024 to 65000")
    if c.context is not None and c.context < 1:
        problems.append(f"--max-length {c.context} must be 1 or more")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", c.api_key_variable):
        problems.append(
            "--api-key-variable must be the name of an environment variable, never a key itself"
        )
    if not re.fullmatch(r"[A-Za-z0-9.-]+", c.host):
        problems.append(f"--host {c.host!r} must be a host name or an IPv4 address")
    if c.nodes > 1 and c.engine != "vllm":
        problems.append("several nodes are written for --engine vllm only (its Ray back end)")
    if c.nodes > 1 and not c.llms:
        problems.append("--nodes splits the LLM: name it with --llm")
    if c.nodes > 1 and c.host != LOCAL:
        problems.append("--nodes is for SLURM, where servers and run share a node: drop --host")
    for model in c.llms:
        if not sources.is_model(model):
            problems.append(f"--llm {model!r} is neither a Hub id nor a folder with config.json")
    raise_all("serve", problems)


def _plan(communities: list[Community], c: Choices) -> Plan:
    notes: list[str] = []
    first = c.community_gpu if c.community_gpu is not None else c.tensor * bool(c.llms)
    width = c.community_tensor if c.llms else max(c.tensor, c.community_tensor)
    servers, entries = _communities(communities, c, first, width, notes)
    port = c.port + len(servers)
    llms = tuple(_llm(model, c, port, notes) for model in dict.fromkeys(c.llms))
    if len(llms) > 1:
        notes.append(
            "the LLMs are alternatives, on one port and the same GPUs: start one at a time"
        )
    plan = Plan(c, tuple(servers), llms, tuple(entries), ())
    return replace(plan, notes=tuple(dict.fromkeys([*notes, *_layout(plan)])))


def _layout(plan: Plan) -> list[str]:
    """Notes about machines."""
    c, notes = plan.choices, []
    if plan.shares_gpus:
        share = "--gpu-memory-utilization" if c.engine == "vllm" else "--mem-fraction-static"
        notes.append(
            f"the LLM and the communities share a GPU: give each a part of its memory, as in "
            f"--llm-arguments '{share} 0.6' --community-arguments '{share} 0.3', and start the communities first"
        )
    elif plan.communities and plan.llms:
        notes.append(
            f"{plan.gpus_per_node()} GPUs are needed on the node that serves both; --community-gpu 0 lets them share"
        )
    if c.nodes > 1:
        notes.append(
            "Ray's ports are open to the network of the nodes and ask for no password: whoever reaches them can run "
            "code. Use nodes that nobody else is on, behind the cluster's firewall"
        )
        notes.append("compose is for one machine, so with --nodes there is no compose.yaml")
    if c.host != LOCAL:
        notes.append(
            f"the servers listen on {c.host}, not on this machine alone: the key is all that keeps others out, and it is "
            "sent unencrypted"
        )
        notes.append(f"compose.yaml and job.slurm serve on {LOCAL}, so with --host there are none")
    return notes


def _llm(model: str, c: Choices, port: int, notes: list[str]) -> Server:
    context = c.context or sources.context_length(model)
    if context is None:
        notes.append(
            f"{model}: its context length cannot be read here, {_UNREAD_CONTEXT} is assumed; --max-length sets it"
        )
    return Server(
        LLM,
        sources.model_source(model),
        sources.served_name(model),
        port,
        gpus=gpus(0, c.tensor),
        nodes=c.nodes,
        context=c.context,
        extra=c.llm_arguments,
    )


def context_of(server: Server) -> int:
    """What a client may send; the served model's own where it is known."""
    return (
        server.context or sources.context_length(server.model, server.revision) or _UNREAD_CONTEXT
    )


def _communities(
    communities: list[Community], c: Choices, first: int, width: int, notes: list[str]
) -> tuple[list[Server], list[dict[str, str]]]:
    """One server for each base, and the pool's entries in its own order."""
    bases: dict[tuple[str, str], list[Community]] = {}
    for community in communities:
        if not community.base_url:
            key = (sources.model_source(community.base), community.base_revision)
            bases.setdefault(key, []).append(community)
    problems: list[str] = []
    servers: list[Server] = []
    entries: dict[str, dict[str, str]] = {}
    for i, ((model, revision), members) in enumerate(bases.items()):
        base = sources.served_name(members[0].base, revision)
        loras: dict[str, Lora] = {}
        for community in members:
            if community.adapter:
                try:
                    loras[community.name] = sources.adapter_source(community, base, notes)
                except PluralismError as error:
                    problems.append(f"{community.name}: {error}")
        server = Server(
            "communities" if i == 0 else f"communities-{i + 1}",
            model,
            base,
            c.port + i,
            revision,
            tuple(loras.values()),
            gpus(first + i * width, width),
            extra=c.community_arguments,
        )
        servers.append(server)
        entries |= {m.name: _entry(m, server, loras.get(m.name), c) for m in members}
        _note(server, members, loras, c, notes)
    raise_all("community adapters", problems)
    for community in communities:
        if community.base_url:
            entries[community.name] = _kept(community)
            notes.append(
                f"{community.name}: served at {community.base_url} already; its entry is kept"
            )
    return servers, [entries[community.name] for community in communities]


def _entry(community: Community, server: Server, lora: Lora | None, c: Choices) -> dict[str, str]:
    common = {"name": community.name, "description": community.description}
    place = {"base_url": f"{server.url(c.host)}/v1", "api_key_variable": c.api_key_variable}
    if lora is None:
        persona = {"model": server.served, "persona": community.persona}
        return {**common, "engine": "prompted", **place, **persona}
    name = engines.sglang_name(server, lora.served) if c.engine == "sglang" else lora.served
    return {**common, "engine": "served", **place, "model": name, "base": server.served}


def _kept(c: Community) -> dict[str, str]:
    names = ("name", "description", "engine", "base_url", "api_key_variable", "model", "base", "persona")  # fmt: skip
    return {name: getattr(c, name) for name in names if getattr(c, name)}


def _note(
    server: Server, members: list[Community], loras: dict[str, Lora], c: Choices, notes: list[str]
) -> None:
    hub = [name for name, lora in loras.items() if not lora.local]
    if hub:
        notes.append(f"the server downloads these adapters from the Hub itself: {', '.join(hub)}")
    unread = [name for name, lora in loras.items() if lora.rank is None]
    if unread and c.engine == "vllm":
        notes.append(
            f"rank not readable here: {', '.join(unread)}; --max-lora-rank {engines.max_rank(server)} is a guess, "
            "and vLLM says so at once if it is too small"
        )
    personas = [m.name for m in members if not m.adapter]
    if personas:
        notes.append(
            f"prompted, so without an adapter: {', '.join(personas)}; {server.served} serves them"
        )
    if c.engine == "sglang":
        notes.append(
            "SGLang takes its key on the command line only: whoever may list processes on that machine can read it"
        )
        if loras:
            notes.append(
                "each adapter is named twice: SGLang lists adapters by one name and answers to base:name"
            )
