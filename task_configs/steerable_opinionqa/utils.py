"""Re-exports for steerable_opinionqa.yaml: one aggregation per attribute category (Table 2)."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.options import majority_match, of_group, opinionqa

load = partial(load_docs, "opinionqa")
polparty, polideology = of_group("POLPARTY"), of_group("POLIDEOLOGY")
relig, race = of_group("RELIG"), of_group("RACE")
education, income = of_group("EDUCATION"), of_group("INCOME")
cregion, sex = of_group("CREGION"), of_group("SEX")

__all__ = ["load", "majority_match", "opinionqa"]
