"""Re-exports for overton_nli.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.coverage import CoverageFilter, overton

load = partial(load_docs, "overton")


def target(doc: dict) -> str:
    """What a fully pluralistic response would say; shown in few-shot examples."""
    return " ".join(doc["explanations"])


__all__ = ["CoverageFilter", "load", "overton", "target"]
