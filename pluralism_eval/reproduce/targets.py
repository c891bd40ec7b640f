"""What each table and figure of the paper consists of: rows (runs) and columns (scores)."""

from __future__ import annotations

from dataclasses import dataclass

from pluralism_eval import tasks
from pluralism_eval.errors import PluralismError
from pluralism_eval.presets import PAPER_NLI, WANLI

VK, OQA = tasks.VK, tasks.OPINIONQA
MC, GOQA = tasks.MORALCHOICE, tasks.GLOBALOPINIONQA
OVK = tasks.OVERTON
OURS = "modular_pluralism"
PAPER_METHODS = {"vanilla": "vanilla", "prompting": "prompting", "moe": "moe", OURS: "ours"}


@dataclass(frozen=True)
class Score:
    """One column."""

    title: str
    task: str
    metric: str
    keys: tuple[str, ...]
    """Where the paper's number stands below a row's and an LLM's keys."""
    scale: float = 1.0
    """Ours times this is the paper's unit (100: percent)."""


@dataclass(frozen=True)
class Row:
    """One run an LLM."""

    label: str
    method: str
    key: str
    """The row's key in the paper's data."""
    pool: str = ""
    """Pool as the paper calls it; empty: the default."""


@dataclass(frozen=True)
class Target:
    """One table or figure."""

    name: str
    title: str
    rows: tuple[Row, ...]
    scores: tuple[Score, ...]
    path: tuple[str, ...] = ("alignment", "row", "model")
    """Order of keys in the paper's data, before a score's own."""
    nli: str = PAPER_NLI
    as_printed: bool = True
    """Ask as the paper did: MoralChoice once, the good option listed first."""
    extra: str = ""
    """``judge``, ``faithfulness`` or ``patching``: what is computed from the runs besides scores."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(score.task for score in self.scores))


_METHODS = tuple(Row(method, method, key) for method, key in PAPER_METHODS.items())
_TWO = tuple(row for row in _METHODS if row.method in ("vanilla", OURS))
_COVERAGE = Score("coverage", OVK, "coverage", ())
_FIVE = (
    Score("O-VK ↑", OVK, "coverage", ("O-VK",)),
    Score("S-VK ↑", VK, "acc", ("S-VK",)),
    Score("S-OQA (J-S) ↓", OQA, "jsd", ("S-OQA",)),
    Score("D-MC ↓", MC, "jsd", ("D-MC",)),
    Score("D-GOQA ↓", GOQA, "jsd", ("D-GOQA",)),
)
_CATEGORIES = {
    "party": "polparty", "ideo": "polideology", "relig": "relig", "race": "race", "edu": "education",
    "inc": "income", "regi": "cregion", "sex": "sex",
}  # fmt: skip
_COUNTRIES = {
    "US": "united_states", "Fr": "france", "Ge": "germany", "Ja": "japan", "In": "india",
    "Ar": "argentina", "Ni": "nigeria",
}  # fmt: skip
_VK3 = {"acc": "acc", "bacc": "balanced_acc", "maf": "macro_f1"}


def _vk(group: str, suffix: str, scale: float) -> tuple[Score, ...]:
    keys = (group,) if group else ()
    title = f"{group.replace('_', '-')} " if group else ""
    return tuple(
        Score(f"{title}{key}", VK, f"{metric}{suffix}", (*keys, key), scale)
        for key, metric in _VK3.items()
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("table1", "Steerable, Value Kaleidoscope (%)", _METHODS,
               (*_vk("binary", "_binary", 100), *_vk("three_way", "", 100))),
        Target("table2", "Steerable, OpinionQA: most likely option matches (%)", _METHODS,
               (*(Score(k, OQA, f"match_{v}", (k,), 100) for k, v in _CATEGORIES.items()),
                Score("avg", OQA, "match", ("avg",), 100))),
        Target("table3", "Distributional, GlobalOpinionQA: J-S distance", _METHODS,
               (*(Score(k, GOQA, f"jsd_{v}", (k,)) for k, v in _COUNTRIES.items()),
                Score("Avg", GOQA, "jsd", ("Avg",)))),
        Target("table4", "Community LM settings",
               tuple(Row(label, OURS, key, pool) for label, key, pool in (
                   ("perspective", "perspectives", "perspective"), ("culture", "culture", "culture"),
                   ("mixed", "mixed", "mixed"))),
               _FIVE, ("row", "model")),
        Target("table5", "Overton coverage by WANLI", _METHODS, (_COVERAGE,), nli=WANLI),
        Target("table6", "Entropy of the answers in OpinionQA (nats)", _METHODS,
               (Score("entropy", OQA, "entropy", ()),)),
        Target("table7", "LLM sizes", _TWO, _FIVE, ("model", "row")),
        Target("table8", "Other LLMs, Overton coverage", _METHODS,
               (Score("coverage", OVK, "coverage", ("coverage",)),)),
        Target("table9", "Other LLMs, steerable Value Kaleidoscope, three-way", _METHODS, _vk("", "", 1)),
        Target("table10", "Other LLMs, MoralChoice: J-S distance", _METHODS,
               (Score("low", MC, "jsd_low", ("low",)), Score("high", MC, "jsd_high", ("high",)),
                Score("overall", MC, "jsd", ("overall",)))),
        Target("figure2", "Overton coverage", _METHODS, (_COVERAGE,)),
        Target("figure3", "Overton by a judge: win, tie, lose of ours (%)", _METHODS, (_COVERAGE,), extra="judge"),
        Target("figure4", "MoralChoice: J-S distance", _METHODS, (Score("overall", MC, "jsd", ()),)),
        Target("figure5", "Message faithfulness (%)",
               tuple(row for row in _METHODS if row.method == OURS), (_COVERAGE,), extra="faithfulness"),
        Target("figure6", "Patching: J-S distance on GlobalOpinionQA",
               (Row("perspective", OURS, "", "perspective"),
                Row("+ Asia", OURS, "", "perspective+asia"), Row("+ Africa", OURS, "", "perspective+africa")),
               (Score("Avg", GOQA, "jsd", ()),), extra="patching"),
    )
}  # fmt: skip

POOLS = {
    "paper": {
        "": "perspective", "perspective": "perspective", "culture": "culture", "mixed": "mixed",
        "perspective+asia": "perspective+asia_culture", "perspective+africa": "perspective+africa_culture",
    },
    "embedded": {
        "": "embedded", "perspective": "embedded", "culture": "embedded_culture", "mixed": "embedded_mixed",
        "perspective+asia": "embedded+asia_persona", "perspective+africa": "embedded+africa_persona",
    },
}  # fmt: skip
"""The paper's pools, and those that stand in for them on the embedded model (prompted personas for
the cultures): they show that it runs and compare to nothing in the paper."""


def target_of(name: str) -> Target:
    """Raises PluralismError for an unknown table or figure."""
    if name not in TARGETS:
        raise PluralismError(f"reproduce {name!r} is unknown. Allowed: {', '.join(TARGETS)}")
    return TARGETS[name]
