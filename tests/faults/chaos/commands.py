"""The command lines that meet faults, and what each must leave in the end."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from pluralism_eval.plugin import METHODS
from tests.faults.chaos import outcomes
from tests.faults.chaos.outcomes import Outcome

POOL = "pool.yaml"
OURS, OTHER = "runs/modular_pluralism", "runs/vanilla"
ANSWERS, SUBMISSIONS, KEPT = "answers.jsonl", "submissions", "kept"
_LIMIT = "3"  # docs a task
_SHORT = "vk,moralchoice"
_TASKS = "pluralism_overton_nli,pluralism_steerable_vk,pluralism_distributional_moralchoice"
_BATCH = ("--limit", _LIMIT, "--metadata", "data=sample")


@dataclass(frozen=True)
class Command:
    """One command line of ``pluralism-eval``."""

    name: str
    argv: tuple[str, ...]
    outcome: Outcome
    weight: int
    """Its share of the faults."""
    needs: tuple[str, ...] = ()
    """What earlier commands left that it reads."""
    done: str = ""
    """Typed again after it was finished, it refuses in these words."""
    pays: bool = True
    """Does it ask the server?"""
    model: bool = False
    """Does it compute with the embedded model?"""


def commands(url: str) -> list[Command]:
    """All of them, against the server at ``url``."""
    asked = f"model=llm;base_url={url};concurrency=4;timeout=5"
    return [_messages(), *(_run(method, asked) for method in METHODS), *_after(asked), _train()]


def _messages() -> Command:
    argv = ("messages", "generate", "--tasks", _TASKS, "--communities", POOL, *_BATCH)
    return Command("messages", argv, outcomes.messages, 10)


def _run(method: str, asked: str) -> Command:
    pool = f",communities={POOL}" if method in ("moe", "modular_pluralism") else ""
    argv = (
        *("run", "--model", method, "--tasks", _TASKS, *_BATCH, f"nli=llm:openai:{asked}"),
        *("--model_args", f"llm=openai,llm_args={asked}{pool}", "--log_samples"),
        *("--output_path", f"runs/{method}", "--use_cache", f"answers/{method}"),
    )
    return Command(f"run {method}", argv, outcomes.run(f"runs/{method}"), 1)


def _after(asked: str) -> list[Command]:
    """What is made of runs, and a whole study."""
    runs, judge, nli = (
        (OURS, OTHER),
        ("--judge", f"openai:{asked}"),
        ("--nli", f"llm:openai:{asked}"),
    )
    study = (
        *("compare", "--llm", f"small=openai:{asked}", "--tasks", _SHORT, "--pools", POOL),
        *("--limit", _LIMIT, "--data", "sample", *nli, "--output", "compare"),
    )
    formats = ("hf", "model-card", "every-eval-ever")
    return [
        Command("compare", study, outcomes.study("compare"), 3),
        Command("judge", ("judge", OURS, "--baseline", OTHER, *judge, "--json"), outcomes.printed, 10, runs),
        Command("report", ("report", *runs, *nli, "--output", "report"), outcomes.report("report"), 1, runs),
        Command("score", ("score", ANSWERS, "--task", "vk", "--json"), outcomes.printed, 2, (ANSWERS,), pays=False),
        Command("export", ("export", *runs, "--to", *formats, "--output", "exports"), outcomes.files("exports"), 4, runs, pays=False),
        Command("submit", ("submit", OURS, "--output", SUBMISSIONS), outcomes.files(SUBMISSIONS), 4, runs, "submitted already", pays=False),
        Command("verify", ("verify", KEPT), outcomes.printed, 2, (KEPT,), pays=False),
        Command("leaderboard", ("leaderboard", "--submissions", SUBMISSIONS, "--output", "board"), outcomes.files("board"), 2, (SUBMISSIONS,), pays=False),
    ]  # fmt: skip


def _train() -> Command:
    corpus = files("pluralism_eval.communities") / "embedded" / "corpora" / "news_left.jsonl"
    argv = (
        *(
            "train",
            "--corpus",
            str(corpus),
            "--max-pieces",
            "12",
            "--preset",
            "small",
            "--epochs",
            "2",
        ),
        *("--block-size", "32", "--batch-size", "4", "--name", "town", "--description", "a town"),
        *("--no-register", "--output", "town"),
    )
    return Command("train", argv, outcomes.adapter("town"), 1, pays=False, model=True)
