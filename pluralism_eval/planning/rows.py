"""What a plan consists of: one model's work in one task a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pluralism_eval.communities.catalogue import Community
from pluralism_eval.planning.models import Card
from pluralism_eval.planning.work import Work
from pluralism_eval.usage import Usage

WITH_COMMUNITIES = ("moe", "modular_pluralism")
LLM, MESSAGES, ENTAILMENT = "llm", "messages", "entailment"


@dataclass(frozen=True)
class Planned:
    """One model's work in one task: an LLM's in one run, a pool's messages, or a scorer's pairs."""

    kind: str
    model: Card
    what: str
    task: str
    docs: int
    work: Work
    most: Work
    """The upper bound."""
    method: str = ""
    llm: str = ""
    """The study's name of it, for an LLM's row and its entailment pairs."""
    local: bool = True
    """It needs a device of ours."""
    batch: int = 1
    static: bool = True
    """A batch ends with its longest text (transformers); False: a place is filled again at once (vLLM)."""
    needed: Work = field(default_factory=Work)
    """Messages: all of them, the stored ones included."""
    needed_most: Work = field(default_factory=Work)
    stored: int = 0
    """Messages that are there already."""

    @property
    def flops(self) -> float | None:
        """2 · parameters · tokens: a forward pass of a dense decoder, attention left out."""
        size = self.model.computed
        return None if size is None else self.work.usage.flops(size)

    def times(self, factor: float) -> Planned:
        """On paper; nothing is stored there."""
        written = self.kind == MESSAGES
        work, most = (self.needed, self.needed_most) if written else (self.work, self.most)
        return replace(
            self, docs=round(self.docs * factor), work=work.times(factor), most=most.times(factor),
            needed=self.needed.times(factor), needed_most=self.needed_most.times(factor), stored=0,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    rows: Sequence[Planned]
    notes: Sequence[str] = ()
    """What is assumed, and where figures are from."""
    members: Mapping[str, Sequence[Community]] = field(default_factory=dict)
    """Pool → its communities."""
    pools: Mapping[str, str] = field(default_factory=dict)
    """LLM → the pool that it works with."""
    flops_a_second: float | None = None
    """As a pilot reached on this device, loading included."""

    def of(self, *kinds: str) -> list[Planned]:
        return [row for row in self.rows if row.kind in kinds]

    def total(self, kind: str, most: bool = False) -> Usage:
        total = Usage()
        for row in self.of(kind):
            total = total.plus((row.most if most else row.work).usage)
        return total


def rows_of_a_batch(given: int | str | None, llm: str, engine: bool) -> int:
    """Texts generated together: lm-eval's flag; 8 for the embedded model, 64 for engines and ``auto``."""
    text = str(given or 1)
    if llm == "embedded" and (text == "1" or text.startswith("auto")):
        return 8
    rows = int(text) if text.isdigit() else 64
    return max(64, rows) if engine else rows
