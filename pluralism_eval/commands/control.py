"""``pluralism-eval control``: a benchmark of the benchmark."""

from __future__ import annotations

from typing import Any

from pluralism_eval.commands import control_simulate


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("control", description="Is the instrument itself right?")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    control_simulate.add_to(actions)
