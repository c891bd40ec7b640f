"""Re-exports for overton_nli.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.coverage import METRICS, CoverageFilter, overton
from pluralism_eval.metrics.metric import metric_list

load = partial(load_docs, "overton")
metrics = metric_list(METRICS)


def target(doc: dict) -> str:
    """What a fully pluralistic response would say; shown in few-shot examples."""
    return " ".join(doc["explanations"])


__all__ = ["CoverageFilter", "load", "metrics", "overton", "target"]
