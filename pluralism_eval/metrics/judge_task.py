"""The task ``pluralism_overton_judge``: a run against a baseline, judged pair by pair (Figure 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask

from pluralism_eval import ranks
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.data.docs import build_docs, read_items, shared_meta
from pluralism_eval.data.sources import input_file
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.llm.load import shared_llm
from pluralism_eval.metrics import pairwise
from pluralism_eval.metrics.judge import (
    AUDITS,
    PAIRS,
    SEED,
    Judge,
    Pair,
    check_judge,
    chosen_judge,
    injection_flip,
    judge_pairs,
    n_words,
    seeded_sample,
    self_tie,
)
from pluralism_eval.metrics.metric import Metric, means, with_errors
from pluralism_eval.metrics.pairwise import NAN
from pluralism_eval.metrics.responses import Key, key_of, read_responses
from pluralism_eval.metrics.summary import Of
from pluralism_eval.presets import get_preset
from pluralism_eval.requests import render_direct, text_decoding
from pluralism_eval.settings import Settings, parse

log = logging.getLogger(__name__)
Doc = Mapping[str, Any]
VANILLA = "vanilla"
FILTER = "judge"
_TASK_SETTINGS = (
    "data",
    "nli",
    "nli_directions",
    "judge",
    "baseline",
    "pairs",
    "pairs_seed",
    "audits",
)
_HARNESS = ("version", "config_source")  # what lm-eval adds to the metadata
_LOT = 64  # responses generated together; they are on disk before the next lot begins
_SHOWN = 10


@dataclass(frozen=True)
class Plan:
    """What ``--metadata`` says about the comparison, checked."""

    judge: str
    baseline: str
    """``vanilla``, or the folder of a run."""
    pairs: int
    """Situations judged, at most."""
    pairs_seed: int
    """Chooses them. Not the model's ``seed``, which lm-eval hands to tasks as well."""
    audits: int
    """Of them, how many are also audited."""
    llm: Settings | None
    """That writes the baseline; None where a run is the baseline."""


def read_plan(metadata: Mapping[str, Any]) -> Plan:
    """The plan in lm-eval's metadata (``--metadata`` on top of ``--model_args``). No model is loaded.

    Raises:
        PluralismError: one error with *all* problems.
    """
    problems: list[str] = []
    judge = chosen_judge(metadata.get("judge"))
    baseline = str(metadata.get("baseline") or VANILLA)
    whole = {
        name: _whole(name, metadata.get(name, default), least, problems)
        for name, default, least in (
            ("pairs", PAIRS, 1),
            ("pairs_seed", SEED, 0),
            ("audits", AUDITS, 0),
        )
    }
    llm = None
    try:
        check_judge(judge)
    except PluralismError as error:
        problems.append(str(error))
    if baseline == VANILLA:
        given = {k: v for k, v in metadata.items() if k not in (*_TASK_SETTINGS, *_HARNESS)}
        try:
            llm = parse(VANILLA, given)
        except PluralismError as error:
            problems.append(
                f"baseline=vanilla needs the run's LLM, and its --model_args name none that can be built: {error}\n"
                "    Give a finished run instead: --metadata baseline=RUN_FOLDER"
            )
    raise_all("pluralism_overton_judge", problems)
    return Plan(judge, baseline, **whole, llm=llm)


def _whole(name: str, value: Any, least: int, problems: list[str]) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdigit() or int(text) < least:
        problems.append(f"{name}={value!r} is wrong. Allowed: a whole number, {least} or more")
        return least
    return int(text)


# ---------------------------------------------------------------------- docs


def load_judge_docs(**metadata: Any) -> dict[str, Any]:
    """``{"test": Dataset}`` for lm-eval's ``custom_dataset``: a seeded sample of the Overton docs.

    A smaller sample is the beginning of a larger one with the same seed.

    Args:
        metadata: ``data`` as for every task; ``judge`` (else ``$PLURALISM_EVAL_JUDGE``, else
            ``embedded``), ``baseline`` (``vanilla`` or a run's folder), ``pairs``, ``pairs_seed``, ``audits``;
            and the model's arguments.

    Raises:
        PluralismError: a judge or an LLM that cannot be had, malformed data, or docs that the baseline's
            run has no response to, all before anything is generated.
    """
    from datasets import Dataset

    plan = read_plan(metadata)
    path = input_file("overton", metadata.get("data"))
    common = shared_meta(path, *(metadata.get(name) for name in ("preset", "orders", "config")))
    docs = build_docs("overton", read_items(path), common, path.name)
    docs = seeded_sample(docs, key_of, plan.pairs, plan.pairs_seed)
    if plan.baseline != VANILLA:
        _check_baseline(plan, [key_of(doc) for doc in docs])
    for i, doc in enumerate(docs):
        doc["audited"] = i < plan.audits
    return {"test": Dataset.from_list(docs)}


def _check_baseline(plan: Plan, keys: Sequence[Key]) -> None:
    texts = read_responses(Path(plan.baseline)).texts
    missing = [name for name, situation in keys if (name, situation) not in texts]
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise PluralismError(
            f"baseline={plan.baseline!r} has no response to {len(missing)} of the {len(keys)} situations (ids "
            f"{', '.join(missing[:_SHOWN])}{more}). It needs the same data and pairs_seed and at least as many pairs: "
            "set --metadata pairs=N in both runs instead of --limit, or judge the situations that two finished runs "
            "share: pluralism-eval judge RUN --baseline RUN"
        )


# ---------------------------------------------------------------------- the task


class JudgeTask(ConfigurableTask):
    """lm-eval's task, which judges all its docs at once in the place of a filter.

    A filter is told neither prompts nor generation settings, and a baseline that is written on the
    spot must have those of the run.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        given = dict(config or {})
        given.pop("class", None)
        super().__init__(config=given)

    def apply_filters(self) -> None:
        """Sets ``filtered_resps`` of every instance: see :func:`judge_pairs`, and ``baseline_name``."""
        plan = read_plan(self.config.metadata)
        instances = self.instances
        name, baselines = _baseline(plan, instances)
        pairs = [
            Pair(r.doc["situation"], str(r.resps[0]), text, r.doc["audited"])
            for r, text in zip(instances, baselines, strict=True)
        ]
        rows = judge_pairs(Judge(plan.judge), pairs)
        for instance, row in zip(instances, rows, strict=True):
            instance.filtered_resps[FILTER] = {**row, "baseline_name": name}


def _baseline(plan: Plan, instances: Sequence[Any]) -> tuple[str, list[str]]:
    """(name of the baseline, [n_instances] its responses)."""
    if plan.llm is None:
        run = read_responses(Path(plan.baseline))
        return run.name, [run.texts[key_of(instance.doc)] for instance in instances]
    return _vanilla(plan.llm, instances)


@ranks.together()
def _vanilla(settings: Settings, instances: Sequence[Any]) -> tuple[str, list[str]]:
    """The LLM's own answers to the run's own prompts, decoded as a method's responses are.

    Greedy ones are kept on disk. A vanilla run meets itself here.
    """
    llm = shared_llm(settings)
    name = f"{VANILLA} of {llm.name}"
    prompts = [render_direct(instance, llm, bool(settings.chat)).args[0] for instance in instances]
    preset = get_preset(settings.preset)
    decoding = [text_decoding(instance.args[1], preset) for instance in instances]
    keys = [digest([llm.identity, str(p), d]) for p, d in zip(prompts, decoding, strict=True)]
    store = Store(cache_root() / "judge.sqlite", "vanilla")
    greedy = {k for k, d in zip(keys, decoding, strict=True) if not d.get("do_sample")}
    texts: dict[str, str] = ranks.agree(store.get(sorted(greedy)))
    todo = [i for i, key in enumerate(keys) if key not in texts]
    log.warning(
        "baseline=vanilla: %s writes %d responses, %d are known", llm.name, len(todo), len(texts)
    )

    def write(lot: list[int]) -> dict[str, str]:
        found = llm.generate([prompts[i] for i in lot], decoding[lot[0]])
        new = {keys[i]: text for i, text in zip(lot, found, strict=True)}
        store.put({key: text for key, text in new.items() if key in greedy})
        return new

    lots = [todo[start : start + _LOT] for start in range(0, len(todo), _LOT)]
    for new in ranks.by_turns(lots, write, llm.usage):
        texts |= new
    return name, [texts[key] for key in keys]


# ---------------------------------------------------------------------- scores


def overton_judge(doc: Doc, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of one pair for lm-eval's ``process_results``; NaN where unparsed or not audited."""
    result = results[0]
    verdicts, audits = result["verdicts"], result["audits"]
    outcome = pairwise.outcome(verdicts)
    scored = outcome == outcome  # not NaN
    words = n_words(result["response"]), n_words(result["baseline"])
    empty = pairwise.outcome(audits["empty"]) if audits else NAN
    scores = {
        "win": float(outcome > 0) if scored else NAN,
        "tie": float(outcome == 0) if scored else NAN,
        "lose": float(outcome < 0) if scored else NAN,
        "net_win": outcome,
        "half_tie_win": (outcome + 1) / 2,
        "length_controlled_win": (*words, outcome),
        "sign_test_p": outcome,
        "disagreement": pairwise.disagrees(verdicts),
        "unparsed": float(not scored),
        "position_first": pairwise.named(verdicts),
        "position_p": pairwise.named(verdicts),
        "position_of_disagreements": list(verdicts),
        "position_of_disagreements_p": list(verdicts),
        "words": float(words[0]),
        "words_baseline": float(words[1]),
        "length_correlation": (*words, outcome),
        "length_correlation_p": (*words, outcome),
        "responses_cut": float(result["cut"] > 0),
        "empty_response": float(not result["response"].strip()),
        "empty_baseline": float(not result["baseline"].strip()),
        "audit_self_tie": self_tie(audits),
        "audit_empty_win": float(empty > 0) if empty == empty else NAN,
        "audit_injection_flip": injection_flip(audits),
    }
    return with_errors(METRICS, doc, scores)


def _sign_test(outcomes: Sequence[float]) -> float:
    won, lost = sum(o > 0 for o in outcomes), sum(o < 0 for o in outcomes)
    return pairwise.share(won, won + lost).p_value


def _part(statistic: Callable[[Any], Any], name: str) -> Of:
    """One field of what ``statistic`` makes of all docs."""

    def value(items: Sequence[Any]) -> float:
        return float(getattr(statistic(items), name))

    value.__name__ = f"{name} of {statistic.__name__}"
    return Of(value)


METRICS = (
    *means("win", "net_win", "half_tie_win", higher=True),
    *means("tie", "lose"),
    Metric("length_controlled_win", _part(pairwise.length_controlled, "rate"), True),
    Metric("sign_test_p", Of(_sign_test), baseline=True),
    *means("disagreement", "unparsed"),
    Metric("position_first", _part(pairwise.position, "value")),
    Metric("position_p", _part(pairwise.position, "p_value"), baseline=True),
    Metric("position_of_disagreements", _part(pairwise.position_of_disagreements, "value")),
    Metric(
        "position_of_disagreements_p",
        _part(pairwise.position_of_disagreements, "p_value"),
        baseline=True,
    ),
    *means("words", "words_baseline"),
    Metric("length_correlation", _part(pairwise.length_correlation, "value")),
    Metric("length_correlation_p", _part(pairwise.length_correlation, "p_value"), baseline=True),
    *means("responses_cut", "empty_response", "empty_baseline"),
    *means("audit_self_tie", higher=True),
    *means("audit_empty_win", "audit_injection_flip"),
)
"""p-values have no standard error of their own."""
