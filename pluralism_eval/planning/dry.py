"""One method on one task without its models: which calls it makes, and which messages it asks for."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import Any

from pluralism_eval import plugin, requests
from pluralism_eval.errors import PluralismError
from pluralism_eval.planning.describe import Described
from pluralism_eval.planning.lengths import Lengths
from pluralism_eval.planning.pools import StandInPool
from pluralism_eval.planning.standin import stand_in
from pluralism_eval.planning.work import Work
from pluralism_eval.presets import get_preset
from pluralism_eval.schema import Query
from pluralism_eval.settings import Settings, parse, read_weights
from pluralism_eval.study import RunSpec
from pluralism_eval.variants import expand

_JUDGED = (
    f"{plugin.JUDGED} is not planned: its LLM answers as for pluralism_overton_nli; the judge, and the baseline that it "
    "may have to write, come on top"
)
_NOT_THE_METHODS = (
    "llm",
    "llm_args",
    "communities",
    "weights",
    "messages",
    "transcript",
    "listening",
)


class Tasks:
    """lm-eval's tasks and their requests, each loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, dict[str, Any]] = {}
        self._requests: dict[tuple[Any, ...], list[Any]] = {}
        self.notes: dict[str, None] = {}
        """What is left out."""

    def of(self, spec: RunSpec) -> dict[str, Any]:
        """Name → task. Nothing that scores is loaded.

        Raises:
            PluralismError: no such task, missing data, or malformed items.
        """
        plugin.register()
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        from lm_eval.tasks import TaskManager

        shared = {k: spec.settings[k] for k in ("preset", "orders") if k in spec.settings}
        metadata = {**shared, **spec.metadata, "nli": "embedded"}
        key = repr((spec.tasks, sorted(metadata.items(), key=str), dict(spec.gen_kwargs)))
        if key not in self._loaded:
            ours = all(name.startswith("pluralism") for name in spec.tasks)
            manager = TaskManager(
                include_path=str(plugin.task_folder()) if ours else None,
                include_defaults=not ours,
                metadata=metadata,
            )
            missing = [name for name in spec.tasks if not manager.match_tasks([name])]
            if missing:
                raise PluralismError(
                    f"--tasks {' '.join(missing)}: no such task. Ours: pluralism, {', '.join(plugin.AUTOMATIC)}"
                )
            with quiet():
                found = manager.load(manager.match_tasks(list(spec.tasks)))["tasks"]
            if found.pop(plugin.JUDGED, None) is not None:
                self.notes[_JUDGED] = None
            if not found:
                raise PluralismError(f"--tasks {' '.join(spec.tasks)}: nothing to plan. {_JUDGED}")
            for task in found.values():
                if spec.gen_kwargs and task.OUTPUT_TYPE == "generate_until":
                    task.set_config("generation_kwargs", dict(spec.gen_kwargs), update=True)
            self._loaded[key] = found
        return self._loaded[key]

    def requests(self, spec: RunSpec, task: str, model: Any) -> list[Any]:
        """As lm-eval makes them for ``model``."""
        loaded = self.of(spec)[task]
        key = (id(loaded), spec.limit, spec.llm.chat)
        if key not in self._requests:
            with quiet():
                loaded.build_all_requests(
                    limit=docs_of(loaded, spec.limit),
                    rank=0,
                    world_size=1,
                    apply_chat_template=spec.llm.chat,
                    fewshot_as_multiturn=True,
                    chat_template=model.apply_chat_template if spec.llm.chat else None,
                    tokenizer_name=model.tokenizer_name if spec.llm.chat else "",
                )
            self._requests[key] = [r for r in loaded.instances for _ in range(r.repeats or 1)]
        return self._requests[key]

    def queries(self, spec: RunSpec, task: str) -> list[Query]:
        """What communities are asked about, as :func:`pluralism_eval.messages.task_queries` has it.

        Prompts do not matter here, so that no model is needed.
        """
        settings = parse(spec.method, spec.model_args())
        preset, plain = (
            get_preset(settings.preset),
            replace(spec, llm=replace(spec.llm, chat=False)),
        )
        made = self.requests(plain, task, None)
        scored = [r for r in made if r.request_type == "loglikelihood"]
        texts = [r for r in made if r.request_type == "generate_until"]
        found = requests.option_queries(scored, settings, preset)[0]
        found += requests.text_queries(texts, settings, preset)
        unique = {query.key: query for query in found}.values()
        return [way for query in unique for way in expand(query, 1, settings.message_samples)]


def docs_of(task: Any, limit: float | None) -> int:
    """Docs of ``task`` that are used; a limit below 1 is a share, as in lm-eval."""
    from lm_eval.evaluator_utils import get_sample_size

    wanted = get_sample_size(task, limit)
    there = len(task.eval_docs)
    return there if wanted is None else min(there, int(wanted))


def dry_run(
    spec: RunSpec,
    task: str,
    tasks: Tasks,
    llm: Described,
    pool: StandInPool | None,
    lengths: Lengths,
    upper: bool,
) -> Work:
    """The LLM's work in ``task``; ``pool`` notes which messages were asked for.

    Args:
        upper: with every text as long as its limit allows.

    Raises:
        PluralismError: whatever a real run would refuse before its first call.
    """
    settings = parse(spec.method, spec.model_args())
    model = _method(spec.method, settings, llm, pool, lengths, upper)
    inner = model.llm.inner
    by_type: dict[str, list[Any]] = {}
    for request in tasks.requests(spec, task, model):
        by_type.setdefault(request.request_type, []).append(request)
    if not set(by_type) <= {"loglikelihood", "generate_until"}:
        raise PluralismError(
            f"{task} asks for {', '.join(by_type)}, which methods here do not answer"
        )
    with quiet():
        for kind, members in by_type.items():
            inner.options_task = kind == "loglikelihood"
            getattr(model, kind)(members)
    longest = min(inner.longest + (inner.limit if inner.generated else 0), llm.window)
    return Work(model.llm.usage, inner.generated, inner.limit, longest)


def _method(
    method: str,
    settings: Settings,
    llm: Described,
    pool: StandInPool | None,
    lengths: Lengths,
    upper: bool,
) -> Any:
    """The real method over stand-ins for its LLM and its pool."""
    plugin.register_models()
    from lm_eval.api.registry import get_model

    own = {
        f.name: value for f in fields(settings) if (value := getattr(settings, f.name)) != f.default
    }
    kept = {name: value for name, value in own.items() if name not in _NOT_THE_METHODS}
    dry = type(
        "Dry", (get_model(method),), {"uses_communities": False, "pool": property(lambda _: pool)}
    )
    model = dry(llm="dummy", transcript=os.devnull, listening=False, **kept)
    model.llm = stand_in(llm, lengths, upper, settings.batch_tokens)
    model.inner = model.llm.inner
    model.weights = read_weights(settings.weights, pool.names) if pool else []
    return model


def settings_of(settings: Settings) -> dict[str, Any]:
    """What differs from the defaults, the LLM aside: a study's ``settings``."""
    default = asdict(Settings())
    return {
        name: value
        for name, value in asdict(settings).items()
        if value != default[name] and name not in ("llm", "llm_args")
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars: nothing here takes long."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
