"""The annotation page in a real headless Chromium: typed through, reloaded, exported, read back."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.cli import main

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on PATH (Debian: apt-get install chromium chromium-driver)",
)

OUTCOMES = ["win"] * 5 + ["tie"] * 2 + ["lose"] * 3
HOSTILE = (
    "</script><script>window.pwned = 1</script><img src='http://127.0.0.1:{port}/x' "
    "onerror='window.pwned = 2'><!--<script>{{{{title}}}} \u2028 &amp; \\u003c ]]>"
)
ATTACK = """
const url = arguments[0], done = arguments[1];
new Image().src = url + "picture";
fetch(url + "fetch").catch(() => null);
const script = document.createElement("script");
script.textContent = "window.pwned = 3";
document.body.append(script);
document.body.insertAdjacentHTML("beforeend", "<b onclick='window.pwned = 4'>x</b>");
document.body.lastChild.click();
setTimeout(() => done(window.pwned), 500);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and the paths that somebody asked it for."""
    asked: list[str] = []

    class Noting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http.server_port, asked
    http.shutdown()


def text_of(system: str, i: int, port: int) -> str:
    if i == 3 and system == "run":
        return HOSTILE.format(port=port)
    return "" if i == 4 and system == "base" else f"{system} about {i}.\n\nAnd more of it."


@pytest.fixture
def study(tmp_path: Path, server: tuple[int, list[str]]) -> Path:
    """The page of ten pairs, one response hostile, one empty."""
    files = {}
    for system in ("run", "base"):
        items = [
            {"id": i, "situation": f"situation {i} <b>", "output": text_of(system, i, server[0])}
            for i in range(10)
        ]
        files[system] = tmp_path / f"{system}.json"
        files[system].write_text(json.dumps(items))
    page = tmp_path / "study.html"
    given = ["annotate", "make", str(files["run"]), "--baseline", str(files["base"])]
    assert main([*given, "--output", str(page)]) == 0
    return page


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_argument("--window-size=1200,900")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def press(browser: Any, *keys: str) -> None:
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def status(browser: Any) -> str:
    return str(browser.find_element(By.ID, "status").text)


def begin(browser: Any, page: Path, name: str) -> None:
    browser.get(page.as_uri())
    browser.find_element(By.ID, "name").send_keys(name, Keys.ENTER)


def on_screen(browser: Any) -> tuple[int, list[str]]:
    """Which situation, and its two responses as they are written in the document."""
    situation = browser.find_element(By.ID, "situation").get_property("textContent")
    texts = [e.get_property("textContent") for e in browser.find_elements(By.CLASS_NAME, "text")]
    return int(situation.split()[1]), texts


def key_for(outcome: str, doc: int, texts: list[str], port: int) -> str:
    run_first = texts[0] == text_of("run", doc, port)
    return "t" if outcome == "tie" else "1" if (outcome == "win") == run_first else "2"


def downloaded(folder: Path) -> Path:
    for _ in range(100):
        found = [p for p in folder.glob("*_*.json") if p.stat().st_size]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"nothing was downloaded to {folder}")


def test_ten_pairs_by_keyboard_with_a_reload_an_export_and_the_rates_that_were_clicked(
    study: Path, browser: Any, server: tuple[int, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(browser, study, "  Åsa   B/..\\ <i> ")
    order = []
    for i in range(10):
        assert status(browser) == f"Pair {i + 1} of 10, {i} answered"
        doc, texts = on_screen(browser)
        order.append(doc)
        if i == 4:  # in the middle: the same tab finds its place, another tab asks for the name
            time.sleep(1)  # browsers hand what is kept to their storage a moment later
            browser.refresh()
            assert on_screen(browser) == (doc, texts)
            assert status(browser) == "Pair 5 of 10, 4 answered"
            browser.switch_to.new_window("tab")
            browser.get(study.as_uri())
            name = browser.find_element(By.ID, "name")
            assert name.get_property("value") == "Åsa B/..\\ <i>"
            name.send_keys(Keys.ENTER)
            assert on_screen(browser) == (doc, texts)
        wanted = "tie" if i == 6 else OUTCOMES[doc]
        press(browser, key_for(wanted, doc, texts, server[0]))
        if i == 7:  # two back, the wrong answer replaced, and on again
            press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
            back, texts = on_screen(browser)
            assert back == order[6]
            pressed = browser.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")
            assert [button.get_attribute("data-choice") for button in pressed] == ["tie"]
            press(browser, key_for(OUTCOMES[back], back, texts, server[0]))
            assert status(browser) == "Pair 8 of 10, 8 answered"
            press(browser, Keys.ARROW_RIGHT)
    assert sorted(order) == list(range(10))
    assert order != sorted(order)
    assert browser.find_element(By.ID, "finished").text == "All done, thank you!"
    browser.find_element(By.ID, "save").click()
    export = downloaded(study.parent)
    key = study.with_suffix(".key.json")
    assert export.name == f"{json.loads(key.read_text())['study']}_Åsa-B-i-.json"
    written = json.loads(export.read_text())
    assert set(written) == {"format", "study", "annotator", "pairs", "answers"}
    assert [row["seconds"] >= 0 for row in written["answers"]] == [True] * 10

    capsys.readouterr()
    assert main(["annotate", "read", str(key), str(export), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = found["annotators"]["Åsa B/..\\ <i>"]
    assert (rates["win"], rates["tie"], rates["lose"]) == (0.5, 0.2, 0.3)
    assert {v["id"]: v["outcome"] for v in found["votes"]} == {
        str(i): outcome for i, outcome in enumerate(OUTCOMES)
    }
    # not one complaint of the browser, and nothing asked for but the page itself
    assert browser.get_log("browser") == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if "request" in e.get("params", {})]
    assert study.as_uri() in urls
    started = {"data", "chrome"}  # the browser's own empty tabs
    assert {url for url in urls if url.split(":")[0] not in {*started, "blob"}} == {study.as_uri()}


def test_hostile_responses_are_text_and_nothing_reaches_the_network(
    study: Path, browser: Any, server: tuple[int, list[str]]
) -> None:
    port, asked = server
    begin(browser, study, "eve")
    seen = {}
    for _ in range(10):
        doc, texts = on_screen(browser)
        assert set(texts) == {
            text_of(s, doc, port).strip() or "(empty response)" for s in ("run", "base")
        }
        seen[doc] = texts
        press(browser, Keys.ARROW_RIGHT)
    assert len(seen) == 10
    assert browser.find_element(By.ID, "left").text == "10 of 10 pairs have no answer yet."
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    attacked = browser.execute_async_script(ATTACK, f"http://127.0.0.1:{port}/")
    assert attacked is None
    assert asked == []
    # without the policy the very same attacks succeed
    bare = study.with_name("bare.html")
    bare.write_text(re.sub(r"<meta http-equiv.*?>", "", study.read_text()))
    browser.get(bare.as_uri())
    assert browser.execute_async_script(ATTACK, f"http://127.0.0.1:{port}/") == 4
    assert "/picture" in asked


def test_orders_are_fixed_by_the_name_and_balanced(study: Path, browser: Any) -> None:
    browser.get(study.as_uri())
    plans = browser.execute_script(
        """const plan = (name) => planFor(name).map((p) => [p.pair.id, p.shown.map((r) => r.id)]);
        const names = [...Array(400).keys()].map((i) => "annotator " + i);
        return [names.map(plan), names.map(plan)];"""
    )
    assert plans[0] == plans[1]
    pairs = json.loads(study.with_suffix(".key.json").read_text())["pairs"]
    ids = {pair["pair"] for pair in pairs}
    assert all({pair for pair, _ in plan} == ids and len(plan) == 10 for plan in plans[0])
    assert len({json.dumps(plan) for plan in plans[0]}) == 400
    run = {pair["pair"]: pair["run"] for pair in pairs}
    sides = Counter((pair, shown[0] == run[pair]) for plan in plans[0] for pair, shown in plan)
    places = Counter((pair, i) for plan in plans[0] for i, (pair, _) in enumerate(plan))
    # 400 draws of 1/2 and of 1/10: five standard deviations
    assert all(abs(sides[pair, True] - 200) < 50 for pair in ids)
    assert all(abs(places[pair, i] - 40) < 30 for pair in ids for i in range(10))
    for plan in plans[0]:  # within an annotator, half of the pairs have their sides swapped
        swapped = sum(shown != sorted(shown) for _, shown in plan)
        assert swapped == 5
    neighbours = [  # two annotators' sides agree as often as by chance: 5 of 10 on average
        sum(dict(one)[pair] == shown for pair, shown in other)
        for one, other in zip(plans[0], plans[0][1:], strict=False)
    ]
    assert abs(sum(neighbours) / len(neighbours) - 5) < 0.5


def test_time_counts_only_while_the_page_is_visible(study: Path, browser: Any) -> None:
    begin(browser, study, "timer")
    turn = (
        "Object.defineProperty(document, 'visibilityState', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'));"
    )
    time.sleep(0.6)
    browser.execute_script(turn, "hidden")
    time.sleep(3)
    browser.execute_script(turn, "visible")
    press(browser, "0")
    time.sleep(0.3)
    seconds = [row["seconds"] for row in browser.execute_script("return record().answers")]
    assert len(seconds) == 1
    assert 0.6 <= seconds[0] < 2.5


def test_what_cannot_be_kept_or_read_is_said(study: Path, browser: Any) -> None:
    browser.get(study.as_uri())
    browser.execute_script("localStorage.setItem(place('ann'), '{')")
    browser.find_element(By.ID, "name").send_keys("ann", Keys.ENTER)
    warning = browser.find_element(By.ID, "warning")
    assert "damaged" in warning.text
    browser.execute_script("Storage.prototype.setItem = () => { throw new DOMException('full'); };")
    press(browser, "2")
    assert "Export them before you close" in warning.text
    assert browser.execute_script("return record().answers.length") == 1
    browser.find_element(By.ID, "leave").click()
    WebDriverWait(browser, 10).until(lambda b: b.find_element(By.ID, "intro").is_displayed())


def test_it_fits_a_narrow_screen_and_names_its_controls(study: Path, browser: Any) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
    )
    begin(browser, study, "narrow")
    for _ in range(10):
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        press(browser, Keys.ARROW_RIGHT)
    press(browser, Keys.ARROW_LEFT)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (n["role"]["value"], n.get("name", {}).get("value", ""))
        for n in tree
        if not n.get("ignored")
        and n.get("role", {}).get("value") in ("button", "status", "article")
    ]
    assert all(name for role, name in named if role != "status")
    assert {name for role, name in named if role == "article"} == {"Response 1", "Response 2"}
    assert "status" in {role for role, _ in named}
