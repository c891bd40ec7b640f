"""oneDNN's product of float32 matrices on x86 CPUs. It comes with torch, which takes a slower library for them.

Slower above all for a few rows: that library then spends most of its time on bringing the weights into an order of
its own. oneDNN takes them in its order as they are kept.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

_ROWS = 64
"""For which the order is made; products with more or fewer take it as well."""


@cache
def available() -> bool:
    """False on other processors, and where torch was built without it."""
    import torch

    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def product(x: Any, weight: Any, bias: Any = None) -> Any:
    """[..., n_out] of ``x`` [..., n_in] and ``weight`` [n_out, n_in], plain or :func:`in_order`, without gradients."""
    import torch

    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def in_order(weight: Any) -> Any:
    """A copy of ``weight`` [n_out, n_in] in oneDNN's order."""
    import torch

    return torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
