"""What is to be served: which models and adapters, under which names, where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ENGINES = ("vllm", "sglang")
LOCAL = "127.0.0.1"
LLM = "llm"
"""Name of the LLM's server; the communities' are ``communities``, ``communities-2``, ..."""


@dataclass(frozen=True)
class Lora:
    """An adapter as the server sees it."""

    served: str
    """Its model name there."""
    path: str
    """Hub id, or absolute folder."""
    rank: int | None
    """None: could not be read here."""

    @property
    def local(self) -> bool:
        return self.path.startswith("/")


@dataclass(frozen=True)
class Server:
    """One process that serves one model, and maybe adapters of it."""

    name: str
    model: str
    """Hub id, or absolute folder."""
    served: str
    """The model's own name there."""
    port: int
    revision: str = "main"
    loras: tuple[Lora, ...] = ()
    gpus: tuple[int, ...] = (0,)
    """Of each node; the model is split over all of them (tensor parallel)."""
    nodes: int = 1
    """Pipeline stages, one a node."""
    context: int | None = None
    """Tokens; None: the model's own."""
    extra: tuple[str, ...] = ()
    """More arguments of the engine's command."""

    def url(self, host: str) -> str:
        return f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Choices:
    """What the command line says."""

    engine: str = "vllm"
    llms: tuple[str, ...] = ()
    tensor: int = 1
    """GPUs of the LLM; of the communities' base where there is no LLM."""
    community_tensor: int = 1
    community_gpu: int | None = None
    """The first GPU of the communities' servers; None: the one after the LLM's."""
    nodes: int = 1
    port: int = 8000
    host: str = LOCAL
    api_key_variable: str = "PLURALISM_API_KEY"
    context: int | None = None
    llm_arguments: tuple[str, ...] = ()
    community_arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Servers, and the pool that uses them."""

    choices: Choices
    communities: tuple[Server, ...]
    llms: tuple[Server, ...]
    """Alternatives: all on the same port and GPUs, so one at a time."""
    pool: tuple[dict[str, str], ...]
    """Entries of the pool file; empty where only an LLM is served."""
    notes: tuple[str, ...]

    @property
    def shares_gpus(self) -> bool:
        """Whether an LLM and the communities are on one GPU."""
        taken = {gpu for llm in self.llms for gpu in llm.gpus}
        return any(taken & set(server.gpus) for server in self.communities)

    def gpus_per_node(self) -> int:
        return 1 + max(gpu for server in (*self.communities, *self.llms) for gpu in server.gpus)


def gpus(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(first, first + count))


def label(server: Server, all_servers: Sequence[Server]) -> str:
    """A name that tells ``server`` from the others; LLMs share theirs."""
    same = [other for other in all_servers if other.name == server.name]
    return server.name if len(same) == 1 else f"{server.name}-{same.index(server) + 1}"
