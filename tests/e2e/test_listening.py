"""The check in a run: measured once, told in the results, and without any effect on the run's answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import heard, listening
from pluralism_eval.llm.load import load_llm
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import parse
from tests.conftest import ScriptedLM
from tests.e2e.test_scripted import data as scripted_data
from tests.e2e.test_scripted import run as scripted_run

data, run = scripted_data, scripted_run  # fixtures
TASK = "pluralism_distributional_globalopinionqa"


def test_a_run_tells_it_and_answers_as_without(
    run: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(heard, "cache_root", lambda: tmp_path / "cache")
    before = run("modular_pluralism", TASK)
    sent = len(ScriptedLM.seen)
    caplog.set_level(logging.WARNING)
    found = run("modular_pluralism", TASK, listening=True)
    plain, ours = (r["config"]["pluralism"] for r in (before, found))
    row = heard.figures(ours["listening"])
    assert list(row) == list(heard.NAMES)
    assert abs(row["quoted"].value) < heard.HARDLY  # it scores by hash
    assert (row["quoted"].n, ours["listening"]["readout"]) == (60, "letters")
    assert plain["listening"] == {heard.NOT_MEASURED: f"{heard.VARIABLE}=off"}
    assert "hardly hears messages" in caplog.text
    assert "Try: readout=cloze" in caplog.text
    for name in ("fingerprint", "usage", "rates"):
        assert plain[name] == ours[name]
    assert before["transcript"] == found["transcript"]
    assert len(ScriptedLM.seen) > 3 * sent

    measured = len(ScriptedLM.seen)
    again = run("moe", TASK, listening=True)["config"]["pluralism"]["listening"]
    assert again == ours["listening"]
    assert len(ScriptedLM.seen) - measured < 3 * sent
    assert "listening" not in run("vanilla", TASK)["config"]["pluralism"]


def test_the_shipped_figures_are_the_embedded_llms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All probes that name an option are read again (the rest: `make listening`)."""
    monkeypatch.setattr(heard, "cache_root", lambda: tmp_path)
    settings = parse("modular_pluralism", {})
    llm, prompts, preset = load_llm(settings), Prompts(None), get_preset("paper")
    way = listening.Way("cloze", True)
    monkeypatch.setattr(listening, "_measure", lambda _: pytest.fail("not the package's figures"))
    shipped = heard.figures(listening.listening(llm, prompts, settings, preset, way))
    assert shipped["quoted"].value >= 0.7
    found = listening._options(
        listening._Asked(llm, prompts, settings, preset, way), heard.LEVELS[0]
    )
    assert found.value == pytest.approx(shipped["quoted"].value, abs=1e-3)
    # another template is another measurement
    monkeypatch.setattr(listening, "_measure", lambda asked: dict.fromkeys(heard.NAMES, found))
    other = listening.listening(
        llm, prompts, settings, preset, listening.Way("cloze", True, "Be brief.")
    )
    assert other["argued"]["value"] == found.value
