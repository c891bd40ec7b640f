"""The main job in small: all automatic tasks, all four methods, the embedded model, sample data."""

from __future__ import annotations

import logging
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

from pluralism_eval import plugin
from pluralism_eval.report.comparison import comparison_rows, comparisons
from pluralism_eval.report.table import build, markdown
from pluralism_eval.settings import parse

MESSAGE_TOKENS = 40
RESPONSE_TOKENS = 64
OURS = "modular_pluralism"


def run_demo(limit: int, output: Path) -> None:
    """Run everything, print the table, and leave results, samples, transcripts and a report.

    Args:
        limit: docs per task, from 2.
        output: folder; made if absent.
    """
    started = time.monotonic()
    plugin.register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    from pluralism_eval.llm.load import load_llm

    shared = {"llm": "embedded", "message_max_tokens": MESSAGE_TOKENS}
    llm = load_llm(
        parse("vanilla", shared), batch_size=1
    )  # held, so that the four methods share it
    metadata = {"data": "sample", "nli": "embedded"}
    tasks = TaskManager(
        include_path=str(plugin.task_folder()), include_defaults=False, metadata=metadata
    )
    runs: dict[str, dict[str, Any]] = {}
    rates: dict[str, Any] = {}
    for n, method in enumerate(plugin.METHODS, 1):
        print(
            f"\n[{n}/{len(plugin.METHODS)}] {method} ({time.monotonic() - started:.0f} s)",
            flush=True,
        )
        arguments = shared | {"transcript": str(output / f"transcript_{method}.jsonl")}
        results = _evaluate(method, arguments, tasks, limit)
        samples = results.pop("samples")
        tracker = EvaluationTracker(output_path=str(output / method))
        tracker.general_config_tracker.model_name = (
            tracker.general_config_tracker.model_name_sanitized
        ) = method
        tracker.save_results_aggregated(results=results, samples=samples)
        for task, rows in samples.items():
            # lm-eval turns what it saves into strings, in place
            tracker.save_results_samples(task_name=task, samples=deepcopy(rows))
        runs[method] = samples
        rates[method] = results["config"]["pluralism"]["rates"]
    report = _report(runs, rates, llm.name, limit, time.monotonic() - started)
    (output / "report.md").write_text(report, encoding="utf-8")
    print("\n" + report)
    print(f"Report: {output / 'report.md'}   results, samples, transcripts: {output}/")
    print(
        "Next: lm_eval --model modular_pluralism --model_args pretrained=<your model> --tasks 'pluralism_*'\n"
        "      (README: your own LLM on a GPU, pools, data)"
    )


def _evaluate(method: str, arguments: dict[str, Any], tasks: Any, limit: int) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    results: dict[str, Any] = simple_evaluate(
        model=method,
        model_args=arguments,
        tasks=["pluralism"],
        task_manager=tasks,
        limit=limit,
        gen_kwargs={"max_gen_toks": RESPONSE_TOKENS},
        log_samples=True,
        bootstrap_iters=0,
    )
    return results


def _report(
    runs: dict[str, Any], rates: dict[str, Any], llm: str, limit: int, seconds: float
) -> str:
    overton = next(iter(runs.values()))["pluralism_overton_nli"]
    name, (accuracy, n) = (
        overton[0]["filtered_resps"][0]["nli"],
        overton[0]["filtered_resps"][0]["nli_check"],
    )
    pairs = [(OURS, method) for method in runs if method != OURS]
    lines = [
        "# Demo: Modular Pluralism on the embedded model",
        "",
        markdown(build(runs)),
        "",
        f"- LLM {llm}, first {limit} docs of each task's sample data, messages of at most {MESSAGE_TOKENS} tokens,",
        f"  responses of at most {RESPONSE_TOKENS}. In brackets: 95 % bootstrap intervals over docs.",
        "  MoralChoice is asked in both option orders.",
        "  So few docs and so small a model show that everything runs, not that a method is better.",
        f"- Entailment scorer `{name}`: accuracy {accuracy:.3f} on {n} hand-written pairs (a guess: 0.333).",
        "  Coverage is only as good as this scorer; the paper's is `tals/albert-xlarge-vitaminc-mnli`.",
        "",
        "Does the paper's method differ from the others on these docs?",
        "",
        markdown(comparison_rows(comparisons(runs, pairs))),
        "",
        "Paired tests over docs, Holm's correction over these rows. d_z: mean difference in its standard deviations;",
        "g: share of disagreements won, minus one half.",
        "",
    ]
    for method, by_task in rates.items():
        total = {
            key: sum(int(r.get(key, 0)) for r in by_task.values())
            for key in ("prompts", "messages", "messages_generated")
        }
        fallbacks = [
            r["selection_fallbacks"] for r in by_task.values() if "selection_fallbacks" in r
        ]
        moved = [r["order_spread"] for r in by_task.values() if "order_spread" in r]
        masses = [r["mean_option_mass"] for r in by_task.values() if "mean_option_mass" in r]
        lines.append(
            f"- {method}: {total['prompts']} prompts, {total['messages']} messages used, "
            f"{total['messages_generated']} of them generated in this run"
            + (
                f", selections unparsed (seeded fallback) {sum(fallbacks) / len(fallbacks):.0%}"
                if fallbacks
                else ""
            )
            + f", mean option mass {sum(masses) / len(masses):.2f}"
            + (f", swapping the options moved the answer by {moved[0]:.2f} (of 1)" if moved else "")
        )
    return "\n".join([*lines, f"- Wall time {seconds:.0f} s.", ""])
