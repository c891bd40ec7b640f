"""Re-exports for distributional_globalopinionqa.yaml: one aggregation per country of Table 3."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.options import globalopinionqa, macro, majority_distance, of_group

load = partial(load_docs, "globalopinionqa")
united_states, france, germany = of_group("United States"), of_group("France"), of_group("Germany")
japan, india = of_group("Japan"), of_group("India")
argentina, nigeria = of_group("Argentina"), of_group("Nigeria")

__all__ = ["globalopinionqa", "load", "macro", "majority_distance"]
