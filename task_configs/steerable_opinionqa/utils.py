"""Re-exports for steerable_opinionqa.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.metric import metric_list
from pluralism_eval.metrics.options import metrics_of, opinionqa

load = partial(load_docs, "opinionqa")
metrics = metric_list(metrics_of("opinionqa"))

__all__ = ["load", "metrics", "opinionqa"]
