"""lm-eval's generation settings (``gen_kwargs``), read as lm-eval's own models read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the limit of new tokens; where several are given, lm-eval takes the first of these."""


def normalised(settings: Mapping[str, Any], default: int, server: bool = False) -> dict[str, Any]:
    """``settings`` with ``until`` (a list), ``max_gen_toks``, ``do_sample`` and ``temperature``; the rest as it is.

    Args:
        default: new tokens where no limit is given.
        server: as lm-eval's clients of servers, which prefer ``max_tokens`` to the other names.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    given = {name: value for name, value in settings.items() if value is not None}
    if server and "max_tokens" in given:
        given = {k: v for k, v in given.items() if k == "max_tokens" or k not in LIMITS}
    until = given.get("until") or []
    given["until"] = [until] if isinstance(until, str) else list(until)
    return {"temperature": 0.0} | dict(normalize_gen_kwargs(given, default))
