"""Re-exports for steerable_vk.yaml."""

from functools import partial

from pluralism_eval.data.docs import load_docs
from pluralism_eval.metrics.classification import accuracy, balanced_accuracy, macro_f1
from pluralism_eval.metrics.options import (
    acc_binary,
    balanced_acc_binary,
    macro_f1_binary,
    majority_match,
    vk,
)

load = partial(load_docs, "vk")

__all__ = [
    "acc_binary",
    "accuracy",
    "balanced_acc_binary",
    "balanced_accuracy",
    "load",
    "macro_f1",
    "macro_f1_binary",
    "majority_match",
    "vk",
]
