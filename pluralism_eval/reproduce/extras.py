"""What figures 3 and 5 need besides scores: a judge's verdicts, and the faithfulness of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pluralism_eval.metrics import judge as judges
from pluralism_eval.metrics import pairwise
from pluralism_eval.metrics.exchanges import chosen_scorer, community_names, exchanges
from pluralism_eval.metrics.faithfulness import Share, faithfulness
from pluralism_eval.metrics.responses import read_responses
from pluralism_eval.plugin import JUDGED
from pluralism_eval.reproduce import paper
from pluralism_eval.reproduce.build import Entry
from pluralism_eval.reproduce.targets import OURS
from pluralism_eval.results import Run

Done = Sequence[tuple[Entry, Run]]
PAIRS = 600
"""Of GPT-4's judgement in the paper."""


def judged(done: Done, spec: str) -> dict[str, dict[str, pairwise.Report]]:
    """LLM → baseline method → the verdicts on our responses against its own (Figure 3).

    Args:
        spec: the judge, ``NAME`` or ``NAME:key=value;key=value``.
    """
    judge = judges.Judge(spec)
    found: dict[str, dict[str, pairwise.Report]] = {}
    for ours in (run for _, run in done if run.name == OURS):
        llm = next(entry.spec.llm.name for entry, run in done if run is ours)
        for entry, run in done:
            if entry.spec.llm.name == llm and run.name != OURS:
                report = pairwise.report(verdicts(judge, ours, run))
                found.setdefault(llm, {})[run.name] = report
    return found


def verdicts(judge: judges.Judge, ours: Run, other: Run) -> list[pairwise.Judged]:
    """What ``judge`` says of up to 600 Overton responses of ``ours`` against those of ``other``."""
    mine, theirs = (read_responses(run.path).texts for run in (ours, other))
    common = [key for key in mine if key in theirs]
    keys = judges.seeded_sample(common, lambda key: key, PAIRS, judges.SEED)
    pairs = [judges.Pair(key[1], mine[key], theirs[key]) for key in keys]
    return judges.judged(pairs, judges.judge_pairs(judge, pairs))


def judged_run(ours: Run, other: str, found: Sequence[pairwise.Judged]) -> Run:
    """``ours`` with ``found`` as the samples of the judged task, for Figure 3."""
    samples = [
        {
            "doc": {"cluster": pair.cluster},
            "words": pair.words[0],
            "words_baseline": pair.words[1],
            "filtered_resps": [{"verdicts": pair.verdicts, "baseline_name": other}],
        }
        for pair in found
    ]
    return replace(ours, samples={JUDGED: samples})


def judge_rows(found: Mapping[str, Mapping[str, pairwise.Report]]) -> list[list[str]]:
    """Rows of text, the header first; the paper's are GPT-4's on ChatGPT, in percent."""
    header = [
        "LLM",
        "against",
        "pairs",
        "win",
        "tie",
        "lose",
        "orders disagree",
        "unread",
        "paper: win / tie / lose",
    ]
    rows = [header]
    for llm, by_method in found.items():
        for method, r in by_method.items():
            printed = paper.tables()["figure3"]["data"]["gpt4"].get(method, {})
            rows.append(
                [
                    llm, method, str(r.pairs), _percent(r.win), _percent(r.tie), _percent(r.lose),
                    _percent(r.disagreement), f"{100 * r.unparsed:.1f}",
                    " / ".join(f"{printed[k]}" for k in ("win", "tie", "lose") if k in printed),
                ]
            )  # fmt: skip
    return rows


def judge_note(spec: str) -> str:
    return (
        f"- judged by {spec}; the paper's judge is GPT-4 and its LLM ChatGPT, so no cell can be compared unless these "
        "are yours too. `pluralism-eval judge RUN --baseline RUN` shows the judge's biases and audits."
    )


def faithful(done: Done, nli: str | None) -> dict[str, list[list[str]]]:
    """LLM → rows of text: messages reflected by community, and new content (Figure 5, percent)."""
    found = {}
    for entry, run in done:
        names = community_names(run)
        result = faithfulness(exchanges(run), names, chosen_scorer(run, nli, None))
        rows = [["", "of", "share (%)", "another situation's messages (%)"]]
        for name, c in [*result.communities.items(), ("all messages", result.all_messages)]:
            rows.append([name, str(c.covered.n), _percent(c.covered), _percent(c.shuffled)])
        new, other = result.new_content, result.new_content_shuffled
        own = [
            "new content",
            str(new.sentences.n),
            _percent(new.sentences),
            _percent(other.sentences),
        ]
        found[entry.spec.llm.name] = [*rows, own]
    return found


def faithful_note() -> str:
    said = paper.tables()["figure5"]["in_text"]
    return (
        f"- the paper's text: {said['community_coverage_avg_percent']} % of messages reflected (news "
        f"{said['news_coverage_avg_percent']}, social media {said['reddit_coverage_avg_percent']}), "
        f"{said['new_content_avg_percent']} % new content; with its own LLM, communities and data."
    )


def _percent(share: Share | pairwise.Rate) -> str:
    value: Any = share.value
    if value != value:
        return "–"
    interval = "" if share.low != share.low else f" [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return f"{100 * value:.1f}{interval}"
