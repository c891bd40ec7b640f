"""What the subcommands of ``pluralism-eval`` parse and print; each module adds its own."""

COMMANDS: dict[str, dict[str, str]] = {
    "train": {
        "train": "train a community LM (LoRA) on a corpus and register it",
        "perplexity": "held-out perplexity of every adapter on every corpus",
    },
    "communities": {"communities": "which there are, and whether they are alive"},
    "messages": {"messages": "write messages ahead, exchange them, look at them"},
    "plan": {
        "plan": "what it would cost: calls, tokens, memory, time, money; in seconds, without loading a model"
    },
    "score": {"score": "score finished answers: the authors' output files, or lm-eval's samples"},
    "judge": {"judge": "win, tie, lose of one finished run's Overton responses against another's"},
    "faithfulness": {
        "faithfulness": "share of messages that the response reflects, and of its new content"
    },
    "influence": {
        "influence": "leave-one-out and Shapley influence of each community, from a run's transcript"
    },
    "hijack": {
        "hijack": "plant a malicious community: success of prompt injection, for every task and method"
    },
    "compare": {
        "compare": "all methods x tasks x pools for your LLMs: the paper's tables filled in, and a report"
    },
    "report": {
        "report": "one self-contained page from finished runs: tables, plots, every example; LaTeX, CSV, PDF beside it"
    },
    "export": {"export": "runs as Inspect logs, Every Eval Ever records, Hub results, model cards"},
    "submit": {"submit": "make a submission of a finished run, every score recomputed"},
    "verify": {"verify": "recompute everything a submission says from its raw responses"},
    "leaderboard": {
        "leaderboard": "verify all submissions and write README.md and leaderboard.html"
    },
    "reproduce": {
        "reproduce": "a table or figure of the paper: ours beside the paper's numbers",
        "pools": "community pools compared on the same docs: patching, community settings",
    },
    "readouts": {
        "readouts": "one model read by letters, likeliest tokens, samples, stated shares: compared"
    },
    "data": {"data": "data card; inputs from the original sources"},
    "doctor": {"doctor": "would this run work? checks in seconds, before anything expensive"},
    "annotate": {"annotate": "people compare two runs: a page, and its results"},
    "serve": {
        "serve": "server command lines, pool.yaml, compose.yaml and a SLURM array for vLLM or SGLang"
    },
    "control": {
        "control": "is the instrument right? a town whose answers are known; `control simulate`: intervals and tests"
    },
}
"""Module → its commands and what ``pluralism-eval --help`` says of them: no module is imported before it is asked for."""
