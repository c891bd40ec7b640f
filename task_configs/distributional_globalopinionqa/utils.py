"""Re-exports for distributional_globalopinionqa.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.metric import metric_list
from pluralism_eval.metrics.options import globalopinionqa, metrics_of

load = partial(load_docs, "globalopinionqa")
metrics = metric_list(metrics_of("globalopinionqa"))

__all__ = ["globalopinionqa", "load", "metrics"]
