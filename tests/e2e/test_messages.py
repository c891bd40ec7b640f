"""``pluralism-eval messages``: ahead of a run, out to the authors' files and back; figures by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from pluralism_eval import cli, plugin
from pluralism_eval.messages import message_overlap, message_stats
from pluralism_eval.schema import Message

TASK = "pluralism_distributional_moralchoice"
POOL = "embedded/news_left+embedded/news_right"


def command(action: str, store: Path, *rest: str) -> list[str]:
    return ["messages", action, "--tasks", TASK, "--communities", POOL, "--messages", str(store),
            "--metadata", "data=sample", "--limit", "2", "--message_max_tokens", "4", "--orders", "1", *rest]  # fmt: skip


@pytest.mark.model
def test_generated_ahead_exported_and_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task_manager: Callable[..., Any]
) -> None:
    here, there, files = tmp_path / "here", tmp_path / "there", tmp_path / "community_lm_msgs"
    assert cli.main(command("export", here, "--to", str(files))) == 2
    assert "4 of 4 messages are not in the store" in capsys.readouterr().err
    assert cli.main(command("generate", here)) == 0
    assert "4 messages about 2 queries; 4 of them written now" in capsys.readouterr().out
    assert cli.main(command("generate", here)) == 0
    assert "0 of them written now" in capsys.readouterr().out
    assert cli.main(command("export", here, "--to", str(files))) == 0
    assert len(list(files.glob("*_mistral-news_*.json"))) == 2
    both = command("generate", here)
    both[both.index("--orders") + 1] = "2"  # what MoralChoice takes by default
    assert cli.main(both) == 0
    assert "8 messages about 4 queries; 4 of them written now" in capsys.readouterr().out
    assert cli.main(command("import", there, "--from", str(files))) == 0
    assert "news_left: 2 imported, 0 of 2 queries have none" in capsys.readouterr().out
    assert cli.main(command("stats", there)) == 0
    assert "news_right" in capsys.readouterr().out

    plugin.register_models()
    texts, rates = {}, {}
    for store in (here, there, files):
        path = tmp_path / f"{store.name}.jsonl"
        found = simple_evaluate(
            "modular_pluralism",
            model_args={"messages": str(store), "communities": POOL, "message_max_tokens": 4,
                        "transcript": str(path), "orders": 1},
            tasks=[TASK], task_manager=task_manager(data="sample", orders=1), limit=2, bootstrap_iters=0,
        )  # fmt: skip
        rates[store.name] = found["config"]["pluralism"]["rates"][TASK]
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        texts[store.name] = [[m["text"] for m in e["messages"]] for e in entries]
    assert texts["here"] == texts["there"] == texts[files.name]
    assert all(rate["messages_generated"] == 0 for rate in rates.values())
    assert rates["there"]["imported_messages"] == 1


def test_figures_of_hand_made_messages() -> None:
    messages = {
        (0, 0): Message("a", "the cat sat down", 4, True),
        (1, 0): Message("a", "The cat sat down!", 4, False),
        (2, 0): Message("a", "", 0, True),
        (0, 1): Message("b", "I'm sorry, as an AI the cat sat", 8, True, imported=True),
    }
    stats = message_stats(messages, ["a", "b", "c"], 3)
    assert stats["a"]["messages"] == 3
    assert stats["a"]["missing"] == 0
    assert stats["a"]["words"] == pytest.approx(8 / 3)
    assert stats["a"]["empty"] == stats["a"]["cut"] == pytest.approx(1 / 3)
    assert stats["a"]["duplicates"] == pytest.approx(2 / 3)
    assert stats["a"]["distinct_2"] == pytest.approx(3 / 6)
    assert (stats["b"]["refusals"], stats["b"]["missing"]) == (1, 2)
    assert math.isnan(stats["b"]["cut"])
    assert stats["c"]["messages"] == 0
    overlap = message_overlap(messages, ["a", "b", "c"])
    assert (
        overlap["a"]["b"] == overlap["b"]["a"] == pytest.approx(1 / 8)
    )  # "the cat sat" of 2 + 7 - 1
    assert math.isnan(overlap["a"]["c"])
