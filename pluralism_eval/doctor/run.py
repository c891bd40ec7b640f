"""What several checks look at, each made once."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pluralism_eval import plugin
from pluralism_eval.cache import CACHE_VARIABLE, cache_root
from pluralism_eval.communities.catalogue import Community, load_pool
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.data.sources import CLEANED, COMMIT, chosen
from pluralism_eval.doctor import embedding, hub
from pluralism_eval.doctor.asked import Asked
from pluralism_eval.doctor.findings import Blocked
from pluralism_eval.doctor.problems import checked_settings
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import embedded
from pluralism_eval.messages import task_queries
from pluralism_eval.presets import Preset, get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Query
from pluralism_eval.settings import Settings
from pluralism_eval.tasks import TASKS

T = TypeVar("T")
Kind = Literal["transformers", "engine", "api", "openai", "other"]
"""Of LLM: loaded here by lm-eval's ``hf``; by an engine such as vLLM; lm-eval's API clients; our own."""
WITH_COMMUNITIES = ("moe", "modular_pluralism")
JUDGED_INPUT = "overton"
_ENGINES = ("vllm", "vllm-vlm", "sglang")


class Run:
    """Everything here raises :class:`Blocked` with the name of the check that says what is wrong."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self._made: dict[str, Any] = {}

    def _once(self, name: str, owner: str, make: Callable[[], T]) -> T:
        if name not in self._made:
            try:
                self._made[name] = make()
            except Blocked as blocked:
                self._made[name] = blocked
            except Exception as error:  # the owner turns it into a problem
                self._made[name] = Blocked(owner, error)
        if isinstance(self._made[name], Blocked):
            raise self._made[name]
        made: T = self._made[name]
        return made

    # ------------------------------------------------------------------ settings

    @property
    def method(self) -> str:
        return self.asked.model.removeprefix("pluralism_")

    @property
    def settings(self) -> Settings:
        asked = self.asked
        return self._once(
            "settings", "settings", lambda: checked_settings(asked.model, asked.model_args)
        )

    @property
    def chat(self) -> bool:
        """Do the queries of our tasks go into the LLM's chat template?"""
        return bool(self.asked.chat or self.settings.chat)

    @property
    def preset(self) -> Preset:
        return get_preset(self.settings.preset)

    @property
    def prompts(self) -> Prompts:
        return self._once("prompts", "settings", lambda: Prompts(self.settings.prompts))

    @property
    def kind(self) -> Kind:
        return self._once("kind", "settings", self._kind)

    def _kind(self) -> Kind:
        llm = self.settings.llm
        if llm in ("embedded", "openai"):
            return "transformers" if llm == "embedded" else "openai"
        if llm in _ENGINES:
            return "engine"
        from lm_eval.api.registry import get_model
        from lm_eval.models.api_models import TemplateAPI
        from lm_eval.models.huggingface import HFLM

        found = get_model(llm)
        if not isinstance(found, type):
            return "other"
        if issubclass(found, HFLM):
            return "transformers"
        return "api" if issubclass(found, TemplateAPI) else "other"

    # ------------------------------------------------------------------ tasks and data

    @property
    def metadata(self) -> dict[str, Any]:
        """What lm-eval hands to tasks: ``--model_args``, then ``--metadata``."""
        return {**self.asked.model_args, **self.asked.metadata}

    @cached_property
    def tasks(self) -> tuple[list[str], list[str], list[str]]:
        """(ours, other ones, names like ours that are no task)."""
        ours: dict[str, None] = {}
        foreign: list[str] = []
        wrong: list[str] = []
        for name in self.asked.tasks:
            found = [task for task in plugin.TASKS if fnmatchcase(task, name)]
            if name in ("pluralism", "pluralism_eval"):
                found = list(plugin.AUTOMATIC if name == "pluralism" else plugin.TASKS)
            ours |= dict.fromkeys(found)
            if not found:
                (wrong if name.startswith("pluralism") else foreign).append(name)
        return list(ours), foreign, wrong

    @property
    def inputs(self) -> dict[str, str]:
        """Our task → key of :data:`pluralism_eval.tasks.TASKS`."""
        short = {t: next((k for k in TASKS if k in t.split("_")), "") for t in self.tasks[0]}
        return {task: name or JUDGED_INPUT for task, name in short.items()}

    @property
    def data(self) -> tuple[str, bool]:
        given = self.metadata.get("data")
        return chosen(None if given is None else str(given))

    def to_download(self, task: str) -> Path | None:
        """Where the authors' input of ``task`` (a key of ``inputs``) would be kept; None: it is there."""
        path = cache_root() / "data" / f"authors-{COMMIT[:12]}" / f"{TASKS[task].input}.json"
        return None if self.data[0] != "authors" or path.is_file() else path

    @property
    def sampled(self) -> list[str]:
        """Our tasks whose input is not here yet: the sample's docs stand in for them."""
        return [task for task, name in self.inputs.items() if self.to_download(name)]

    def loaded(self) -> tuple[dict[str, list[Query]], dict[str, Exception]]:
        """Our tasks → what a run asks communities about; and why a task could not be loaded."""
        return self._once("tasks", "tasks", self._load_tasks)

    def _load_tasks(self) -> tuple[dict[str, list[Query]], dict[str, Exception]]:
        found: dict[str, list[Query]] = {}
        failed: dict[str, Exception] = {}
        name, clean = self.data
        for task in self.tasks[0]:
            here = "sample" if task in self.sampled else f"{CLEANED}:{name}" if clean else name
            if here == f"{CLEANED}:authors":
                here = CLEANED
            told = {
                **self.metadata,
                "data": here,
                "nli": "embedded",
            }  # scorers have their own check
            try:
                found[task] = task_queries([task], self.settings, told, self.asked.limit)
            except Blocked:
                raise
            except Exception as error:
                failed[task] = error
        return found, failed

    @property
    def queries(self) -> list[Query]:
        queries = [query for own in self.loaded()[0].values() for query in own]
        if not queries:
            raise Blocked("tasks")
        return queries

    @property
    def known_queries(self) -> list[Query]:
        """:attr:`queries`; none where they could not be had."""
        try:
            return self.queries
        except Blocked:
            return []

    @property
    def letters(self) -> list[str]:
        """Option letters that are read as next tokens."""
        read = {
            o for query in self.known_queries if query.readout == "letters" for o in query.options
        }
        return sorted(read)

    @property
    def scores_options(self) -> bool:
        """Are options read from the log-probabilities of what follows the prompt?"""
        return any(query.readout in ("letters", "cloze") for query in self.known_queries)

    # ------------------------------------------------------------------ communities

    @property
    def communities(self) -> list[Community]:
        """Of the pool, unchecked; none for methods without."""
        if self.method not in WITH_COMMUNITIES:
            return []
        default = "embedded" if self.settings.llm == "embedded" else "perspective"
        return self._once(
            "communities", "communities", lambda: load_pool(self.settings.communities or default)
        )

    @property
    def pool(self) -> CommunityPool:
        """Its adapters are checked."""
        if any(c.base == "embedded" for c in self.communities):
            _ = self.embedded_folder
        if any(r.what.startswith("adapter") for r in self.hub.missing):
            raise Blocked("hub")
        return self._once("pool", "communities", self._pool)

    def _pool(self) -> CommunityPool:
        try:
            return make_pool(self.settings, self.prompts)
        except (OSError, sqlite3.Error) as error:
            raise PluralismError(
                f"the stores cannot be written ({_reason(error)}); see disk, or move them: {CACHE_VARIABLE}, messages="
            ) from error

    # ------------------------------------------------------------------ the model's files

    @property
    def embedded_folder(self) -> str:
        """The unpacked embedded model, or its Hub id where the wheel is missing."""
        if embedding.state() == "packed":
            raise Blocked(embedding.NAME)
        return embedded.locate()

    @property
    def hub(self) -> hub.Hub:
        """What comes from the Hub; asked for first, so that nobody waits for one out of reach."""
        return self._once("hub", "hub", lambda: hub.Hub.of(hub.needed(self)))

    @property
    def source(self) -> str:
        """Folder or Hub id of the LLM's files."""
        if self.settings.llm == "embedded":
            return self.embedded_folder
        return str(self.settings.llm_args.get("pretrained") or "")

    @property
    def config(self) -> Any:
        """The LLM's transformers configuration."""
        return self._once("config", "model", self._config)

    def _config(self) -> Any:
        from transformers import AutoConfig

        self.hub.require(self.source)
        try:
            return AutoConfig.from_pretrained(self.source, **self._known("revision", "subfolder"))
        except Exception as error:  # of any kind: offline, gated, no such model, no JSON
            raise PluralismError(
                f"pretrained={self.source!r}: its configuration cannot be read ({_reason(error)}); check the "
                "spelling, the folder, and `hf auth login` for a gated model"
            ) from error

    @property
    def tokenizer(self) -> Any:
        return self._once("tokenizer", "tokenizer", self._tokenizer)

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        name = str(self.settings.llm_args.get("tokenizer") or self.source)
        self.hub.require(name)
        try:
            return AutoTokenizer.from_pretrained(name, **self._known("revision"))
        except Exception as error:
            raise PluralismError(
                f"tokenizer {name!r} cannot be read ({_reason(error)}); name another one with tokenizer=..."
            ) from error

    def _known(self, *names: str) -> dict[str, Any]:
        args = self.settings.llm_args
        trusted = {"trust_remote_code": bool(args.get("trust_remote_code", False))}
        return trusted | {name: args[name] for name in names if name in args}

    def count(self, text: str) -> int:
        """Tokens; three characters a token where there is no tokenizer at hand."""
        if self.kind in ("transformers", "engine"):
            return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return math.ceil(len(text) / 3)

    @property
    def device(self) -> str:
        """Where the LLM will be: as :func:`pluralism_eval.llm.load.load_llm` decides."""
        import torch

        asked = self.asked.device
        if asked and not asked.startswith("cuda"):
            return asked
        if torch.cuda.is_available():
            return asked or "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
