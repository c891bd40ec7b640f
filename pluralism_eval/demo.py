"""The main job in small: all automatic tasks, all four methods, the embedded model, sample data."""

from __future__ import annotations

import logging
from pathlib import Path

from pluralism_eval.commands import compare as command
from pluralism_eval.reproduce import build, compare
from pluralism_eval.study import parse_llm


def run_demo(limit: int, output: Path) -> None:
    """Run everything, print the tables, and leave results, samples, transcripts and the report.

    Args:
        limit: docs per task, from 2.
        output: folder; made if absent.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    target = compare.target([], [], [])
    command.go(target, [parse_llm("embedded")], build.Options(limit=limit), output)
    print(
        f"\nA 135M model and {limit} docs a task show that everything runs, not that a method is better.\n"
        "Your own LLM: pluralism-eval compare --llm hf:pretrained=<your model>, or\n"
        "      lm_eval --model modular_pluralism --model_args pretrained=<your model> --tasks 'pluralism_*'"
    )
