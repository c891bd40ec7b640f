"""Re-exports for distributional_moralchoice.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.metric import metric_list
from pluralism_eval.metrics.options import metrics_of, moralchoice

load = partial(load_docs, "moralchoice")
metrics = metric_list(metrics_of("moralchoice"))

__all__ = ["load", "metrics", "moralchoice"]
