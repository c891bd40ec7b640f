"""The benchmark's figures as a short page of Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

Row = Mapping[str, Any]


def table(found: Row) -> str:
    """What ``results/bench/README.md`` says of ``cpu.json``."""
    m = found["machine"]
    peaks = [both for row in found["phases"].values() for both in row["peaks"]]
    matmul = [rate for row in found["phases"].values() for rate in row["matmul"]]
    whole = "\n".join(_study(found))
    return (
        f"""# What the models' work costs

`{found["command"]}` wrote this page and `cpu.json` in {found["seconds"] / 60:.1f} minutes, on {m["cores"]} cores of {m["cpu"]} without a GPU:
torch {m["torch"]} ({m["threads"]} threads), transformers {m["transformers"]}, Python {m["python"]}, float32. Peaks measured around every \
repetition: {three([f / 1e9 for f, _ in peaks], 0)} GFLOP/s, {three([b / 1e9 for _, b in peaks], 1)} GB/s (least, median, most).
*Plain* is the authors' algorithm (`tests/bench/plain.py`): one prompt, one adapter, one pair at a time. *hf* is lm-eval's at its
default batch size 1; it has no mixed adapters, so its messages are the bare model's. *Floor* is the least time that the work could take on \
these peaks (`pluralism_eval/utilisation.py`), of which the first is oneDNN's product of matrices; by `torch.mm` it is {three([f / 1e9 for f in matmul], 0)} GFLOP/s.

## The same questions, models loaded, in turn

Ours answers all of them {len(found["phases"]["messages"]["ours"])} times; in between, the others go through them once. Ratios are their time over ours, floor / ours \
the share of the device that is used: least, median, most over the repetitions.

| phase | questions | ours (s) | plain / ours | hf / ours | floor / ours | by `torch.mm` |
|---|---|---|---|---|---|---|
"""
        + "\n".join(_phase(name, row) for name, row in found["phases"].items())
        + f"\n\n{_equal(found['phases'])}\n\n{whole}\n"
    )


def _phase(name: str, row: Row) -> str:
    ours = row["ours"]
    hf = three([sum(row["hf"]) / s for s in ours])
    floor, matmul = (
        three([f / s for f, s in zip(row[name], ours, strict=True)])
        for name in ("floors", "matmul_floors")
    )
    plain = three([sum(row["plain"]) / s for s in ours])
    return f"| {name} | {row['questions']} | {median(ours):.2f} | {plain} | {hf} | {floor} | {matmul} |"


def _equal(phases: Mapping[str, Row]) -> str:
    differ = [line for row in phases.values() for line in row["differ"]]
    ties = [line for row in phases.values() for line in row["ties"]]
    said = (
        "Option distributions and entailment readings equal the plain algorithm's within 1e-4, greedy texts letter by letter."
        if not differ
        else "**Answers that differ from the plain algorithm's:**\n\n"
        + "\n".join(f"- {line}" for line in differ)
    )
    if ties:
        said += "\n\nTexts that part where rounding decides between two equally likely tokens:\n\n"
        said += "\n".join(f"- {line}" for line in ties)
    return said


def _study(found: Row) -> list[str]:
    study, sizes = found["study"], found["sizes"]
    times = [estimate(row["plain"], study["phases"][name]["questions"]) for name, row in found["phases"].items()]  # fmt: skip
    plain = sum(t for t, _ in times)
    error = math.sqrt(sum(e * e for _, e in times))
    measured = "measured" if not error else f"± {error:.0f} (standard error), from the seconds of the questions above"  # fmt: skip
    lines = [
        f"## A whole study: `{study['command']}`", "",
        f"{len(sizes['methods'].split(','))} methods on {len(sizes['tasks'].split(','))} tasks, nothing kept from before, {len(study['seconds'])} times: "
        f"{three(study['seconds'], 1)} s with start-up, loading, scoring and report. The models' work alone by the plain algorithm, models loaded: "
        f"{plain:.0f} s, {measured}. Plain / ours: {three([plain / s for s in study['seconds']])}. Peak memory of ours {study['peak_gb']:.2f} GB.",
        "", "| phase | questions | ours (s) | plain (s) | plain / ours | floor / ours |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for (name, row), (seconds, _) in zip(study["phases"].items(), times, strict=True):
        ours = row["seconds"]
        floor = three([f / s for f, s in zip(row["floor_seconds"], ours, strict=True)])
        ratio = three([seconds / s for s in ours])
        lines.append(f"| {name} | {row['questions']} | {median(ours):.1f} | {seconds:.1f} | {ratio} | {floor} |")  # fmt: skip
    stored, rerun = study["stored_messages"], study["rerun"]
    lines += [
        "",
        f"It made {study['calls']['llm']} calls of the LLM and {study['calls']['communities']} of the communities. The same command again: {rerun['seconds']:.1f} s, "
        + ("**runs were repeated**" if rerun["runs_repeated"] else "no model call, no run repeated")
        + f". `--methods modular_pluralism` anew over the stored messages: {stored['seconds']:.1f} s, {stored['calls']['llm']} calls of the LLM, "
        f"{stored['calls']['communities']} of the communities.",
    ]  # fmt: skip
    long = found["long_messages"]
    if long:
        own, fixed = long["ours"], long["fixed_batches"]
        lines += [
            "", f"## Messages of up to {long['max_tokens']} tokens", "",
            f"{long['messages']} messages by the bare model, {long['rows']} at once. Ours, where a row that ends makes place: {own['new_tokens']} new tokens in "
            f"{own['seconds']:.1f} s; transformers' `generate` in fixed batches of {long['rows']}: {fixed['new_tokens']} in {fixed['seconds']:.1f} s. "
            f"New tokens a second, ours / `generate`: {long['tokens_per_second_ratio']:.2f}.",
        ]  # fmt: skip
    return lines


def estimate(seconds: Sequence[float], count: int) -> tuple[float, float]:
    """(seconds for ``count`` questions, its standard error) from those of an even sample of them."""
    n = len(seconds)
    left = math.sqrt(max(0.0, 1 - n / count)) if count else 0.0  # of a sample without replacement
    error = count * stdev(seconds) / math.sqrt(n) * left if n > 1 else math.nan
    return count * fmean(seconds), error


def three(values: Sequence[float], digits: int = 2) -> str:
    """Least, median and most; one figure where there is but one."""
    shown = [min(values), median(values), max(values)] if len(values) > 1 else list(values)
    return ", ".join(f"{value:.{digits}f}" for value in shown)
