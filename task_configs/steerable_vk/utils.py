"""Re-exports for steerable_vk.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.classification import METRICS, vk
from pluralism_eval.metrics.metric import metric_list

load = partial(load_docs, "vk")
metrics = metric_list(METRICS)

__all__ = ["load", "metrics", "vk"]
