"""Re-exports for distributional_moralchoice.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.options import majority_distance, moralchoice, of_group

load = partial(load_docs, "moralchoice")
low, high = of_group("low_ambiguity"), of_group("high_ambiguity")

__all__ = ["load", "majority_distance", "moralchoice"]
