"""Inspect logs (UK AISI's ``inspect_ai``): one a task, which ``inspect view`` opens."""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralism_eval.cache import digest
from pluralism_eval.errors import PluralismError
from pluralism_eval.exports.facts import Exported, Facts
from pluralism_eval.exports.inspect_samples import Stamp, sample_of
from pluralism_eval.exports.items import items_of
from pluralism_eval.leaderboard import describe
from pluralism_eval.scoring import Summary

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalScore, EvalSpec, EvalStats

FORMATS = ("eval", "json")
_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


def check_installed() -> None:
    """Raises PluralismError unless ``inspect_ai`` can be imported."""
    try:
        import inspect_ai.log  # noqa: F401
    except ImportError as error:
        raise PluralismError(
            f"--to inspect needs inspect_ai ({error}); pip install 'pluralism-eval[exports]', or pip install inspect_ai"
        ) from error


def export(facts: Facts, form: str = "eval") -> Exported:
    """The run's logs: a file a task, named as Inspect names its own.

    Args:
        form: ``eval`` (packed; samples are loaded one by one) or ``json``.

    Raises:
        PluralismError: ``inspect_ai`` is not installed.
    """
    check_installed()
    files = {}
    for task in facts.scores:
        log = log_of(facts, task)
        stamp = facts.date.strftime("%Y-%m-%dT%H-%M-%S+00-00")
        name = f"{stamp}_{task.replace('_', '-')}_{log.eval.task_id}.{form}"
        files[name] = packed(log, form, facts)
    return Exported(files, ("open them with: inspect view --log-dir FOLDER",))


def log_of(facts: Facts, task: str) -> EvalLog:
    """One task of a run as an Inspect log. Equal runs give equal logs."""
    from inspect_ai.log import EvalLog, EvalPlan, EvalPlanStep, EvalResults, HeadlineMetric
    from inspect_ai.model import GenerateConfig

    stamp = Stamp(digest([facts.identity, task]), facts.date)
    items = items_of(facts, task)
    samples = [sample_of(facts, task, item, stamp) for item in items]
    first = facts.headlines(task)[0].metric
    measured = [s for s in facts.scores[task] if not math.isnan(s.value)]
    own = sorted((s for s in measured if not s.baseline), key=lambda s: s.name != first)
    nothing = [s.name for s in facts.scores[task] if math.isnan(s.value)]
    given = facts.raw.get("configs", {}).get(task, {}).get("generation_kwargs") or {}
    return EvalLog(
        status="success",
        eval=_spec(facts, task, stamp, [item.name for item in items]),
        plan=EvalPlan(
            name=facts.method,
            steps=[EvalPlanStep(solver=facts.method, params=_solver(facts))],
            config=GenerateConfig(
                max_tokens=given.get("max_gen_toks"),
                temperature=0.0 if given.get("do_sample") is False else None,
            ),
        ),
        results=EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples),
            scores=[_score(summary, len(samples)) for summary in own],
            headline=HeadlineMetric(scorer=first, score=first, metric="value"),
            metadata={
                "baselines": {s.name: s.value for s in measured if s.baseline},
                "not_measured": nothing,
            },
        ),
        stats=_stats(facts),
        samples=samples,
    )


def _spec(facts: Facts, task: str, stamp: Stamp, names: list[str]) -> EvalSpec:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalRevision, EvalSpec
    from inspect_ai.model import ModelConfig
    from inspect_ai.viewer import ViewerConfig

    run, raw = facts.run, facts.raw
    pool = describe.system(run, raw)["communities"]
    roles = [
        ModelConfig(model=str(c.get("adapter") or c.get("model") or c["name"]), args=c)
        for c in pool
    ]
    made = {
        name: value
        for name, value in describe.environment(raw, run).items()
        if value and name not in ("date", "git_hash")
    }
    commit = str(raw.get("git_hash") or "")
    limit = run.config.get("limit")
    return EvalSpec(
        eval_id=stamp.id("eval"),
        run_id=stamp.id("run", facts.identity),
        task_id=stamp.id("task"),
        created=facts.date.isoformat(),
        task=task,
        task_version=facts.version(task),
        task_args=describe.plain(describe.metadata(raw)),
        task_args_passed=describe.plain(describe.metadata(raw)),
        solver=facts.method,
        solver_args=_solver(facts),
        tags=["pluralism", facts.method],
        dataset=EvalDataset(
            name=facts.dataset(task), samples=facts.size(task)[1], sample_ids=list(names)
        ),
        model=facts.model,
        model_args=describe.plain(describe.arguments(run)),
        model_roles={"communities": list(roles)} if roles else None,
        config=EvalConfig(
            limit=int(limit) if isinstance(limit, (int, float)) and limit >= 1 else None, epochs=1
        ),
        # where lm_eval was started: what Inspect, too, calls the revision
        revision=EvalRevision(type="git", origin="", commit=commit) if commit else None,
        packages=made,
        metadata=_metadata(facts, task),
        viewer=ViewerConfig(trust_content=False),  # models wrote it
    )


def _solver(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = describe.configuration(facts.run, facts.raw)
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _metadata(facts: Facts, task: str) -> dict[str, Any]:
    config, ours = facts.run.config, facts.run.ours
    found = {
        "llm": facts.run.llm,
        "pool": facts.run.pool,
        "seeds": {name: config.get(name) for name in _SEEDS},
        "limit": config.get("limit"),
        "num_fewshot": facts.raw.get("n-shot", {}).get(task),
        "model_revision": config.get("model_sha") or config.get("model_revision"),
        "baselines": {c.metric: facts.baselines(c) for c in facts.headlines(task)},
        "irregular": ours.get("rates", {}).get(task, {}),
        "usage_of_all_tasks": ours.get("usage") or {},
        "command": facts.command,
        "lacks": list(facts.lacks),
        "source": "exported by pluralism-eval from results of lm-eval",
    }
    plain: dict[str, Any] = describe.plain({k: v for k, v in found.items() if v not in (None, "", {}, [])})  # fmt: skip
    return plain


def _score(summary: Summary, docs: int) -> EvalScore:
    from inspect_ai.log import EvalMetric, EvalScore

    values = {
        "value": summary.value,
        "stderr": summary.stderr,
        "ci95_low": summary.low,
        "ci95_high": summary.high,
    }
    return EvalScore(
        name=summary.name,
        scorer=summary.name,
        scored_samples=summary.n,
        unscored_samples=docs - summary.n,
        # NaN where there is none: the viewer shows one table for scores with equal metrics only
        metrics={k: EvalMetric(name=k, value=v) for k, v in values.items()},
        metadata={"higher_is_better": summary.higher_is_better, **_sd(summary)},
    )


def _sd(summary: Summary) -> dict[str, float]:
    return {} if math.isnan(summary.sd) else {"sd_over_docs": summary.sd}


def _stats(facts: Facts) -> EvalStats:
    """Times and, where the run has one task only, tokens: they are counted for a whole run."""
    from inspect_ai.log import EvalStats
    from inspect_ai.model import ModelUsage

    usage = {}
    if len(facts.run.results) == 1 or len(facts.scores) == len(facts.run.samples) == 1:
        for name, used in (facts.run.ours.get("usage") or {}).items():
            tokens = int(used["prompt_tokens"]), int(used["new_tokens"])
            usage[facts.model if name == "llm" else str(name)] = ModelUsage(
                input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens)
            )
    ended = facts.ended
    return EvalStats(
        started_at=facts.date.isoformat() if ended else "",  # one alone is shown as "NaN days"
        completed_at=ended.isoformat() if ended else "",
        model_usage=usage,
    )


def packed(log: EvalLog, form: str, facts: Facts) -> bytes:
    """The file that Inspect writes of ``log``; times in a packed one are the run's, not the clock's."""
    from inspect_ai.log import write_eval_log

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"log.{form}"
        write_eval_log(log, str(path))
        content = path.read_bytes()
    return content if form == "json" else _dated(content, facts)


def _dated(content: bytes, facts: Facts) -> bytes:
    when = max(facts.date.timetuple()[:6], (1980, 1, 1, 0, 0, 0))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            info = zipfile.ZipInfo(entry.filename, when)
            info.compress_type, info.external_attr = entry.compress_type, entry.external_attr
            target.writestr(info, source.read(entry))
    return out.getvalue()
