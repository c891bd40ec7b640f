"""``pluralism-eval doctor``: would this ``lm_eval`` command work?"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import ChainMap, Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralism_eval.errors import PluralismError

if TYPE_CHECKING:
    from pluralism_eval.doctor.asked import Asked
    from pluralism_eval.doctor.findings import Finding

_PASSED_OVER = ("--num_fewshot", "--max_batch_size", "--use_cache", "--seed", "--verbosity", "--include_path")  # fmt: skip


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "doctor",
        description="Flags as lm_eval's: put `pluralism-eval doctor` in the place of `lm_eval`. Exit status 0 if no "
        "check finds a problem, else 1.",
    )
    parser.add_argument("--model", "-M", default="modular_pluralism", help="default: modular_pluralism")  # fmt: skip
    parser.add_argument("--model_args", "-a", nargs="+", default=[], help="as lm_eval's")
    parser.add_argument("--tasks", "-t", nargs="+", default=["pluralism"], help="default: pluralism")  # fmt: skip
    parser.add_argument("--metadata", nargs="+", default=[], help="as lm_eval's: data=sample ...")
    parser.add_argument("--gen_kwargs", nargs="+", default=[], help="as lm_eval's")
    parser.add_argument("--apply_chat_template", nargs="?", const=True, default=False)
    parser.add_argument("--system_instruction")
    parser.add_argument("--device", help="as lm_eval's: cuda, cuda:0, mps, cpu")
    parser.add_argument("--batch_size", "-b", default="1")
    parser.add_argument("--output_path", "-o", type=Path)
    parser.add_argument("--limit", "-L", type=float, help="docs a task")
    parser.add_argument("--trust_remote_code", action="store_true")
    parser.add_argument("--json", action="store_true", help="all findings as JSON")
    for name in _PASSED_OVER:  # so that a whole command can be pasted
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--log_samples", "-s", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(action=_doctor)


def _doctor(arguments: argparse.Namespace) -> None:
    """Raises SystemExit(1) where there is a problem."""
    started = time.monotonic()
    from pluralism_eval.doctor.checks import examine

    found = []
    for finding in examine(_asked(arguments)):
        found.append(finding)
        if not arguments.json and finding.level != "skipped":
            do = f" → {finding.do}" if finding.do else ""
            print(f"{finding.level:<8} {finding.check}: {finding.seen}{do}", flush=True)
    seconds = time.monotonic() - started
    counts = Counter(finding.level for finding in found)
    if arguments.json:
        table = {
            "ok": not counts["problem"],
            "seconds": round(seconds, 2),
            "findings": [asdict(finding) for finding in found],
        }
        print(json.dumps(table, ensure_ascii=False, indent=1))
    else:
        _print_skipped(found)
        shown = ", ".join(f"{counts[level]} {level}" for level in ("problem", "warning", "ok", "skipped") if counts[level])  # fmt: skip
        verdict = "This run would fail." if counts["problem"] else "Nothing stands in the way."
        print(f"\n{verdict} {shown}; {seconds:.1f} s")
    if counts["problem"]:
        sys.exit(1)


def _print_skipped(found: Sequence[Finding]) -> None:
    """One line a reason."""
    reasons: dict[str, list[str]] = {}
    for finding in found:
        if finding.level == "skipped":
            reasons.setdefault(finding.seen, []).append(finding.check)
    for reason, names in reasons.items():
        print(f"skipped  {', '.join(names)}: {reason}")


def _asked(arguments: argparse.Namespace) -> Asked:
    from pluralism_eval.doctor.asked import Asked

    args = _pairs("--model_args", arguments.model_args)
    if arguments.trust_remote_code:
        args["trust_remote_code"] = True
    limit = arguments.limit
    return Asked(
        model=arguments.model,
        model_args=args,
        tasks=[name for part in arguments.tasks for name in part.split(",") if name],
        metadata=_pairs("--metadata", arguments.metadata),
        chat=arguments.apply_chat_template,
        system_instruction=arguments.system_instruction,
        device=arguments.device,
        batch_size=arguments.batch_size,
        output_path=arguments.output_path,
        limit=int(limit) if limit and limit >= 1 else None,
        gen_kwargs=_pairs("--gen_kwargs", arguments.gen_kwargs),
    )


def _pairs(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """As lm_eval reads them: JSON, or ``key=value`` joined by commas or blanks.

    Raises:
        PluralismError: neither; the text itself is not repeated, it may hold a key.
    """
    from lm_eval._cli.utils import key_val_to_dict, try_parse_json

    from pluralism_eval.doctor.checks import quiet

    try:
        with quiet():  # a key given twice is logged with its values
            whole = try_parse_json(given[0]) if given else {}
            pairs = [] if isinstance(whole, dict) else [key_val_to_dict(part) for part in given]
        return dict(whole) if isinstance(whole, dict) else dict(ChainMap(*reversed(pairs)))
    except ValueError as error:
        raise PluralismError(f"{flag}: expected key=value,key=value, or a JSON object") from error
