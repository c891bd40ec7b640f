"""``pluralism-eval control``: an invented town whose answers are known. Does the benchmark find what is there?"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval import progress
from pluralism_eval.commands import control_simulate, studies
from pluralism_eval.control import effects, planted
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic

_WIDTH = 80
_SHORT = {
    "Overton: value coverage": "Overton ↑",
    "Steerable VK: accuracy": "steerable ↑",
    "Distr. GlobalOpinionQA: J-S": "distributional ↓",
}


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "control",
        description="Methods of known order on a town of known answers (data=control, pool control), and whether the "
        "paired tests find the effect of its messages.",
    )
    studies.flags(parser, "control_output")
    parser.set_defaults(action=_control)
    control_simulate.add_to(parser.add_subparsers(metavar="simulate", required=False))


def _control(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    llms, options, given = studies.read(arguments)
    if given or options.data or len(llms) > 1:
        raise PluralismError(
            "control runs one LLM on its own town: give one --llm, and no --data, methods, tasks or pools"
        )
    docs, output = planted.docs_of(options.limit), arguments.output
    with progress.one_line(output / "log.txt"):
        samples, runs = planted.run(llms[0], options, docs, output, report=lambda line: None)
    found = effects.as_dict(samples)
    picks = planted.fitting_picks(runs[effects.OURS])
    command = shlex.join(["pluralism-eval", *sys.argv[1:]])
    about = {
        "command": command,
        "llm": llms[0].name,
        "readout": runs[effects.OURS].ours["readout_used"],
        "docs": docs,
        "fitting_picks": list(picks),
    }
    lines = printed(found, about)
    _write(output, found | about, lines)
    print("\n".join(lines))
    print(f"{time.monotonic() - started:.0f} s. Written: {output}/control.md, control.json, runs/")


def printed(found: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """At most 24 lines of 80 columns."""
    docs = about["docs"]
    lines = [
        f"Control: {about['llm']} ({about['readout']}) on a town whose answers are known;"[:_WIDTH],
        f"docs: {', '.join(f'{task} {n}' for task, n in docs.items())}. Place, score, 95 % interval:",
        "",
        *_table(found["scores"]),
        "",
    ]
    mine = [e for e in found["effects"] if not e["title"].endswith("instrument")]
    for effect in mine:
        title = _title(effect["title"])
        lines += _wrapped(f"{title}: effect detected: {_yes(effect)}; {effect['why']}.")
    right, n = about["fitting_picks"]
    lines += _wrapped(f"The comment that fits the value was picked in {right} of {n} (chance 1/4).")
    checks = [e for e in found["effects"] if e["title"].endswith("instrument")]
    failed = [f"{_title(e['title'])}: {e['why']}" for e in checks if not e["detected"]]
    said = "; ".join(failed) if failed else "oracle above uniform above adversary on all scores"
    lines += _wrapped(f"The scores alone: {'NOT all in their known order; ' * bool(failed)}{said}.")
    return lines


def _title(title: str) -> str:
    for long, short in _SHORT.items():
        title = title.replace(long, short[:-2])
    return title.removesuffix(", instrument")


def _yes(effect: Mapping[str, Any]) -> str:
    return "yes" if effect["detected"] else "no"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _table(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A row a method, by its best place; a column a score."""
    places: dict[str, list[int]] = {}
    for rows in scores.values():
        for row in rows:
            places.setdefault(row["method"], []).append(row["place"])
    order = sorted(places, key=lambda name: sum(places[name]) / len(places[name]))
    head = f"{'':19}" + "".join(f"{_SHORT[title]:<20}" for title in scores)
    lines = [head.rstrip()]
    for name in order:
        cells = [next((_cell(r) for r in rows if r["method"] == name), "-") for rows in scores.values()]  # fmt: skip
        lines.append((f"{name:19}" + "".join(f"{cell:<20}" for cell in cells)).rstrip())
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['place']}. {row['value']:.3f} {row['low']:.2f}–{row['high']:.2f}"


def _write(output: Path, whole: Mapping[str, Any], lines: Sequence[str]) -> None:
    """``control.json``, and the same as text with every test."""
    write_atomic(output / "control.json", json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
    rows = [
        "| score | pair | difference | 95 % interval | p (Holm) | test | docs |",
        "|---|---|---|---|---|---|---|",
    ]
    for t in whole["tests"]:
        c = t["found"]
        rows.append(
            f"| {t['score']} | {t['first']} − {t['second']} | {c['difference']:+.4f} | [{c['low']:+.4f}, {c['high']:+.4f}] "
            f"| {t['p_holm']:.4f} | {c['test']} | {c['n_docs']} |"
        )
    verdicts = [f"- {e['title']}: {_yes(e)}; {e['why']}" for e in whole["effects"]]
    text = ["# The planted society", "", f"Made by `{whole['command']}`.", "", "```", *lines, "```", "",
            "Verdicts, the instrument's own among them:", "", *verdicts, "", "Paired tests:", "", *rows]  # fmt: skip
    write_atomic(output / "control.md", "\n".join(text) + "\n")
