"""The run that is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Asked:
    """What the run is told, as lm_eval's flags say it."""

    model: str = "modular_pluralism"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    tasks: Sequence[str] = ("pluralism",)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chat: bool | str = False
    """``--apply_chat_template``, or the template's name."""
    system_instruction: str | None = None
    device: str | None = None
    batch_size: str = "1"
    output_path: Path | None = None
    limit: int | None = None
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
