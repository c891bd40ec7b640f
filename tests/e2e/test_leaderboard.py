"""Runs of lm-eval become submissions, are verified and ranked; the page in a real headless Chromium."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.cli import main
from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file
from pluralism_eval.metrics import coverage
from pluralism_eval.plugin import AUTOMATIC
from pluralism_eval.study import RunSpec, StudyLLM, execute
from pluralism_eval.tasks import TASKS

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LIMIT = 3


def entailment(name: str, pairs: Any) -> dict[Any, tuple[float, float, float]]:
    """A scorer whose verdicts depend on the texts alone."""
    found = {}
    for pair in pairs:
        p = hashlib.sha256("\0".join(pair).encode()).digest()[0] / 255
        found[pair] = (p, 0.6 * (1 - p), 0.4 * (1 - p))
    return found


@pytest.fixture
def runs(
    tmp_path: Path,
    scripted: Any,
    exported: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[Path]:
    """Our method on all tasks of the sample data, vanilla on two, as lm-eval saves them; the LLM is scripted."""
    monkeypatch.setattr(coverage, "score_pairs", entailment)
    monkeypatch.setattr(coverage, "check_accuracy", lambda name: (0.5, 66))
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: "2. " + prompt[-60:]))
    for task in TASKS:
        path = input_file(task, "sample")
        messages = exported(path.stem, read_items(path))
    found = []
    for method in ("vanilla", "modular_pluralism"):
        settings = {} if method == "vanilla" else {"communities": "embedded", "messages": messages}
        tasks = AUTOMATIC if settings else AUTOMATIC[1:4:2]
        llm = StudyLLM("tiny/aligned", "scripted")
        spec = RunSpec(method, method, llm, tasks, settings, {"data": "sample", "nli": "embedded"}, {}, LIMIT)  # fmt: skip
        execute(spec, tmp_path / "runs")
        found.append(spec.folder(tmp_path / "runs"))
    return found


def test_from_lm_eval_to_the_leaderboard(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    submissions = results / "submissions"
    for run in runs:
        assert main(["submit", str(run), "--by", "the tests", "--output", str(submissions)]) == 0
    folders = sorted(submissions.iterdir())
    assert len(folders) == 2
    ours = next(f for f in folders if f.name.startswith("modular-pluralism"))
    content = json.loads((ours / "submission.json").read_text())
    assert set(content["tasks"]) == set(AUTOMATIC)
    assert content["system"]["method"] == "modular_pluralism"
    assert len(content["system"]["communities"]) == 6
    assert content["hashes"]["messages"]
    assert content["hashes"]["prompts"]
    assert content["command"].startswith(
        "lm_eval --model modular_pluralism --tasks pluralism_overton_nli,"
    )
    assert str(tmp_path) not in (ours / "submission.json").read_text()
    capsys.readouterr()
    assert main(["verify", *map(str, folders), "--rescore"]) == 0
    out = capsys.readouterr().out
    assert out.count("=> verified") == 2
    assert "verdicts pluralism_overton_nli: the same by embedded" in out
    assert main(["leaderboard", "--submissions", str(submissions), "--output", str(results)]) == 0
    plain = (results / "README.md").read_text()
    assert "2 submissions: 2 verified." in plain
    assert f"## Partial runs: of each task the first {LIMIT} docs of the sample data" in plain
    assert len({v["n"] for v in content["tasks"]["pluralism_steerable_vk"]["scores"].values()}) == 1
    value = content["tasks"]["pluralism_distributional_moralchoice"]["scores"]["jsd"]["value"]
    row = next(r for r in plain.splitlines() if r.startswith("| [modular"))
    assert f"{value:.3f}" in row
    assert main(["submit", str(runs[0]), "--output", str(submissions)]) == 2
    assert "submitted already" in capsys.readouterr().err


def test_a_changed_run_is_refused(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    file = next(runs[0].rglob("results_*.json"))
    raw = json.loads(file.read_text())
    raw["results"]["pluralism_steerable_vk"]["acc,none"] = 0.99
    file.write_text(json.dumps(raw))
    assert main(["submit", str(runs[0]), "--output", str(tmp_path / "s")]) == 2
    assert f"{file.name} was changed after the run" in capsys.readouterr().err
    (runs[0] / "study.json").unlink()  # as of a run without a study
    assert main(["submit", str(runs[0]), "--output", str(tmp_path / "s")]) == 2
    assert "the results file says 0.99" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


# ---------------------------------------------------------------------- the page


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_argument("--window-size=1400,900")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(tmp_path: Path) -> str:
    """Address of a page with three submissions on the same docs, one with a hostile name."""
    from tests.unit.leaderboard.runs import HOSTILE, make_run

    submissions = tmp_path / "results" / "submissions"
    for seed, name in enumerate(("alpha", "beta", HOSTILE)):
        run = make_run(tmp_path / f"run{seed}", ["moralchoice", "overton"], 6, seed)
        given = ["submit", str(run), "--name", name, "--by", f"team {seed}"]
        assert main([*given, "--output", str(submissions)]) == 0
    out = tmp_path / "results"
    assert main(["leaderboard", "--submissions", str(submissions), "--output", str(out)]) == 0
    return (out / "leaderboard.html").as_uri()


SEEN = """
const table = document.querySelector("table.scores");
return [...table.tBodies[0].rows].filter((row) => row.offsetParent !== null)
  .map((row) => [row.dataset.kind, row.cells[0].textContent, row.cells[2].dataset.value ?? null]);
"""


def test_the_page_sorts_filters_and_fetches_nothing(browser: Any, page: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    browser.get(page)
    everything = browser.execute_script(SEEN)
    assert [kind for kind, *_ in everything].count("system") == 3
    assert browser.execute_script("return window.pwned") is None
    assert not browser.find_elements(By.CSS_SELECTOR, "main img")

    table = browser.find_element(By.CSS_SELECTOR, "table.scores")
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")
    assert "J-S" in heads[2].text
    button = heads[2].find_element(By.TAG_NAME, "button")
    for key, direction, sign in ((Keys.ENTER, "ascending", 1), (Keys.SPACE, "descending", -1)):
        button.send_keys(key)  # low is better there: the best come first at first
        assert heads[2].get_attribute("aria-sort") == direction
        rows = browser.execute_script(SEEN)
        values = [sign * float(value) for *_, value in rows if value]
        assert values == sorted(values)
        assert len(values) > 3
        assert all(value is None for *_, value in rows[len(values) :])  # without a value: last
    heads[1].find_element(By.TAG_NAME, "button").click()
    assert heads[2].get_attribute("aria-sort") is None
    assert heads[1].get_attribute("aria-sort") == "descending"
    status = browser.find_element(By.ID, "status")
    assert "Sorted by Overton: value coverage" in status.text

    browser.find_element(By.ID, "filter").send_keys("TEAM alph")
    assert [row[0] for row in browser.execute_script(SEEN)] == ["system"]
    assert status.text.startswith("1 of ")
    browser.find_element(By.ID, "filter").send_keys(Keys.BACKSPACE, "9")
    assert browser.execute_script(SEEN) == []
    assert browser.find_element(By.CSS_SELECTOR, "tfoot.none").is_displayed()
    browser.find_element(By.ID, "filter").clear()
    browser.find_element(By.ID, "filter").send_keys(" ")
    browser.find_element(By.CSS_SELECTOR, "input[value=baseline]").click()
    assert {row[0] for row in browser.execute_script(SEEN)} == {"system"}
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("Overton")
    assert not heads[2].is_displayed()
    assert heads[1].is_displayed()

    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert [m["request"]["url"] for m in sent if m["documentURL"] == page] == [page]
    assert browser.get_log("browser") == []  # no error, and nothing that the policy had to stop


@pytest.mark.parametrize("width", [360, 800])
def test_the_page_fits_narrow_screens(browser: Any, page: str, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    first = "return document.querySelector('tbody th').getBoundingClientRect().left"
    before = browser.execute_script(first)
    browser.execute_script(
        "document.querySelectorAll('.scroll').forEach((s) => { s.scrollLeft = 200; })"
    )
    assert browser.execute_script(first) == before  # names stay while scores scroll


def test_the_page_without_scripts_still_shows_everything(page: str) -> None:
    text = Path(page.removeprefix("file://")).read_text()
    body = text.split("<script>")[0]
    assert body.count('class="system"') == 3
    assert 'id="controls" hidden' in body
