"""The report page in a real headless Chromium: 3,000 examples (``PLURALISM_EVAL_TEST_EXAMPLES``), hostile texts, keys, narrow screens."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import plugin
from pluralism_eval.report import page
from pluralism_eval.report.page import packing
from pluralism_eval.report.page.entailed import TASK, Entailed, verdict_of
from pluralism_eval.report.tabular import Column, Number, Row, Table
from pluralism_eval.results import Run
from tests.conftest import NAMES
from tests.unit.test_report_page import Drawn, scripted_runs

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on PATH (Debian: apt-get install chromium chromium-driver)",
)

N = int(os.environ.get("PLURALISM_EVAL_TEST_EXAMPLES", "3000"))
COUNTRIES = ("Germany", "Japan", "Chile", "Kenya", "Brazil", "Türkiye")
TABLE = Table(
    "main", "Headline scores", (Column("Match", True), Column("J-S", False)),
    (
        Row("uniform", (Number(0.3), Number(0.3)), "baseline", "M"),
        Row("a", (Number(0.2, 0.1, 0.3), Number(0.5)), section="M"),
        Row("b", (Number(0.9, 0.8, 1.0, 4, "*", True), Number(0.4, best=True)), section="M"),
        Row("c", (Number(0.4, 0.3, 0.5), None), section="M"),
        Row("d", (Number(0.7), Number(0.1)), section="N"),
        Row("e", (Number(0.1), Number(0.9)), section="N"),
    ),
    ("* significant",),
)  # fmt: skip
HOSTILE = (
    "</script><script>window.pwned = 1</script><img src='http://127.0.0.1:{port}/x' onerror='window.pwned = 2'>"
    "<!--<script> \u2028 &amp; \\u003c ]]> {{{{title}}}} \x00\x07\x1b[31m \u202etxt.exe\u202c \u2066x\u2069 \ud800"
)
ARABIC = "هذا نص من اليمين إلى اليسار (abc) 123."
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
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--window-size=1400,900")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def unmoved(browser: Any) -> None:
    """Each test begins with a desktop window and an empty log."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get("about:blank")
    browser.get_log("browser")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return scripted_runs(tmp_path_factory.mktemp("page"))


# ---------------------------------------------------------------------- many examples


class Many:
    """N examples made of real samples and transcript lines: own texts, numbers and groups for each."""

    def __init__(self, runs: dict[str, Run], n: int) -> None:
        self.draw = random.Random(7)
        docs = [s["doc"] for samples in runs["moe"].samples.values() for s in samples]
        texts = [str(e) for doc in docs for e in doc.get("explanations", [doc["query"]])]
        self.words = re.findall(r"[A-Za-z']+", " ".join(texts))
        self.samples: dict[str, dict[str, list[Any]]] = {
            label: {t: [] for t in plugin.AUTOMATIC} for label in runs
        }
        self.lines: dict[str, list[Any]] = {label: [] for label in runs}
        lines = {
            label: {task: run.transcript_of(task) for task in plugin.AUTOMATIC}
            for label, run in runs.items()
        }
        for i in range(n):
            task, base = plugin.AUTOMATIC[i % 5], self.draw.choice((0, 2, 3))
            old = runs["moe"].samples[task][base]["doc"]
            doc = {**old, "query": f"{old['query']} {self.said(12)}"}
            if "group" in doc and task.endswith("globalopinionqa"):
                doc["group"] = self.draw.choice(COUNTRIES)
            messages = {m["text"]: self.said(self.draw.randint(72, 100))
                        for m in lines["modular_pluralism"][task][base]["messages"]}  # fmt: skip
            for label in runs:
                self.add(
                    label,
                    task,
                    i // 5,
                    runs[label].samples[task][base],
                    lines[label][task][base],
                    doc,
                    messages,
                )
        self.runs = {
            label: replace(run, samples=self.samples[label], transcript=self.lines[label])
            for label, run in runs.items()
        }

    def said(self, n: int) -> str:
        return " ".join(self.draw.choices(self.words, k=n))

    def add(
        self,
        label: str,
        task: str,
        doc_id: int,
        sample: Any,
        line: Any,
        doc: Any,
        messages: dict[str, str],
    ) -> None:
        draw = self.draw

        def new(text: str) -> str:
            for old, own in messages.items():
                text = text.replace(old, own)
            return text.replace(sample["doc"]["query"], doc["query"])

        own = {
            "doc_id": doc_id, "doc": doc, "filtered_resps": sample["filtered_resps"],
            "resps": [[[str(-draw.expovariate(1)), "False"]] for _ in sample["resps"]] if task != TASK else [[self.said(60)]],
            "acc": (0, draw.randint(0, 1)), "match": draw.randint(0, 1), "jsd": draw.random(), "coverage": draw.random(),
        }  # fmt: skip
        if task == TASK:
            own["filtered_resps"] = [{**verdict_of(sample), "response": own["resps"][0][0]}]
        self.samples[label][task].append(own)
        self.lines[label].append({
            **line, "doc_id": doc_id, "query": doc["query"],
            "messages": [{**m, "text": messages[m["text"]], "stopped": draw.random() < 0.9} for m in line.get("messages", [])],
            "selections": [{**s, "community": draw.choice(NAMES)} for s in line.get("selections", [])],
            "sent": [{**s, "prompt": new(s["prompt"])} for s in line["sent"]],
        })  # fmt: skip


@pytest.fixture(scope="module")
def many(
    runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Many, page.Written]:
    made = Many(runs, N)
    path = tmp_path_factory.mktemp("many") / "many.html"
    return made, page.write(path, "Many", made.runs, [TABLE], [Drawn()], [["a", "b"]], {})


def opened(browser: Any, path: Path, hash_: str = "") -> None:
    """Loads the page anew (a change of the hash alone would not) and waits for its list."""
    browser.get("about:blank")
    browser.get(path.as_uri() + (f"#{hash_}" if hash_ else ""))
    WebDriverWait(browser, 20).until(lambda b: b.find_element(By.ID, "count").text)


def shown(browser: Any, name: str) -> str:
    """The text of the open example, once it is ``name``."""
    WebDriverWait(browser, 20).until(
        lambda b: (
            b.execute_script("return document.getElementById('example').dataset.example") == name
        )
    )
    return str(browser.execute_script("return document.getElementById('example').textContent"))


def choose(browser: Any, name: str, value: str) -> None:
    Select(browser.find_element(By.ID, name)).select_by_value(value)


def number(text: str) -> int:
    return int(text.split()[0].replace(",", ""))


def count(browser: Any) -> int:
    return number(browser.find_element(By.ID, "count").text)


def press(browser: Any, *keys: str) -> None:
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def test_many_examples_open_within_three_seconds(
    browser: Any, many: tuple[Many, page.Written]
) -> None:
    written = many[1]
    print(f"{written}")
    assert (written.examples, written.left_out) == (N, 0)
    assert written.megabytes < 30
    times = []
    for _ in range(3):
        opened(browser, written.path)
        times.append(
            browser.execute_script(
                "return performance.getEntriesByName('interactive')[0].startTime"
            )
        )
    print(
        f"{written.megabytes:.1f} MB; list and filters ready after {[f'{t:.0f}' for t in times]} ms"
    )
    assert min(times) < 3000
    assert count(browser) == N
    WebDriverWait(browser, 20).until(
        lambda b: b.execute_script("return document.readyState") == "complete"
    )
    took = browser.execute_async_script(
        "const done = arguments[0], from = performance.now(); open_ = open(19999, false); open_.then(() => done(performance.now() - from))".replace(
            "open_ = ", "const open_ = "
        )
    )
    print(f"the last example was shown after {took:.0f} ms")
    assert took < 1500
    refiltered = browser.execute_script(
        "const from = performance.now(); state.words = 'security'; update(); return performance.now() - from"
    )
    print(f"filtered by a word in {refiltered:.0f} ms")
    assert refiltered < 1000
    assert browser.get_log("browser") == []


def top(sample: Any) -> int:
    values = [float(r[0][0]) for r in sample["resps"]]
    return values.index(max(values))


def test_filters_count_what_the_runs_hold(browser: Any, many: tuple[Many, page.Written]) -> None:
    made, written = many
    opened(browser, written.path)
    lines = {
        (label, line["task"], line["doc_id"]): line
        for label, run in made.runs.items()
        for line in run.transcript
    }
    docs = [
        (task, s["doc_id"], s["doc"])
        for task, samples in made.runs["moe"].samples.items()
        for s in samples
    ]

    def chosen(task: str, doc_id: int, community: str) -> bool:
        own = (lines[label, task, doc_id] for label in made.runs)
        return any(s["community"] == community for line in own for s in line.get("selections", []))

    def cut(task: str, doc_id: int) -> bool:
        return any(
            not m["stopped"]
            for label in made.runs
            for m in lines[label, task, doc_id].get("messages", [])
        )

    kenya = {
        (t, i) for t, i, doc in docs if t.endswith("globalopinionqa") and doc["group"] == "Kenya"
    }
    choose(browser, "group", "globalopinionqa:Kenya")
    assert count(browser) == len(kenya) > 0
    kenya_left = {pair for pair in kenya if chosen(*pair, "news_left")}
    choose(browser, "community", "news_left")
    assert count(browser) == len(kenya_left) > 0
    choose(browser, "kind", "message cut at its length limit")
    assert count(browser) == sum(cut(*pair) for pair in kenya_left) > 0
    browser.find_element(By.ID, "reset").click()
    assert count(browser) == N

    def words_of(i: int) -> list[str]:
        return str(docs[i][2]["query"]).lower().split()[-2:]

    wanted = words_of(77)
    browser.find_element(By.ID, "words").send_keys(" ".join(wanted))
    found = sum(
        all(w in d["query"].lower() or w in d["pluralism"]["attribute"].lower() for w in wanted)
        for _, _, d in docs
    )
    WebDriverWait(browser, 10).until(lambda b: count(b) == found)
    assert 0 < found < N
    browser.find_element(By.ID, "reset").click()

    vk = [
        [run.samples["pluralism_steerable_vk"][i] for run in made.runs.values()]
        for i in range(N // 5)
    ]
    choose(browser, "task", "vk")
    assert count(browser) == N // 5
    choose(browser, "differ", "top")
    differing = sum(len(set(map(top, own))) > 1 for own in vk)
    assert count(browser) == differing > 0
    # each choice says what it would leave
    label = browser.find_element(
        By.CSS_SELECTOR, "#community option[value=social_right]"
    ).get_property("textContent")
    choose(browser, "community", "social_right")
    assert count(browser) == int(re.sub(r"\D", "", label.split("(")[1]))
    choose(browser, "community", "")
    choose(browser, "sort", "most")
    measures = browser.execute_script("return matches.map((i) => columns.measure[i])")
    assert measures == sorted(measures, reverse=True)
    assert len(measures) == differing
    # nothing matches: it says so, and offers the way back
    browser.find_element(By.ID, "words").send_keys("xyzzy")
    WebDriverWait(browser, 10).until(lambda b: b.find_element(By.ID, "nothing").is_displayed())
    assert count(browser) == 0
    browser.find_element(By.ID, "reset-too").click()
    assert count(browser) == N
    assert browser.get_log("browser") == []


def test_a_link_opens_its_example_with_its_filters(
    browser: Any, many: tuple[Many, page.Written]
) -> None:
    made, written = many
    opened(browser, written.path)
    choose(browser, "task", "opinionqa")
    choose(browser, "sort", "most")
    browser.find_elements(By.CSS_SELECTOR, "#list a")[3].click()
    name = browser.execute_script("return state.ex")
    text = shown(browser, name)
    browser.find_element(By.ID, "copy").click()
    WebDriverWait(browser, 10).until(lambda b: b.find_element(By.ID, "copied").text)
    address = browser.current_url
    browser.get("about:blank")
    browser.get(address)
    assert shown(browser, name) == text
    assert count(browser) == N // 5
    assert (
        Select(browser.find_element(By.ID, "sort")).first_selected_option.get_attribute("value")
        == "most"
    )
    doc = int(name.split("-")[1])
    for label, run in made.runs.items():
        line = run.transcript_of("pluralism_steerable_opinionqa")[doc]
        assert label in text
        assert all(m["text"] in text for m in line["messages"])
        assert all(s["prompt"] in text for s in line["sent"])
    opened(browser, written.path, "ex=vk-999999")
    assert "is not on this page" in browser.find_element(By.ID, "trouble").text
    # another link in the same tab
    last = f"overton-{N // 5 - 1}"
    browser.execute_script(f"location.hash = '#ex={last}'")
    assert f"Overton {N // 5 - 1}" in shown(browser, last)


# ---------------------------------------------------------------------- hostile texts


def hostile_runs(runs: dict[str, Run], port: int) -> dict[str, Run]:
    """The first overton doc of moe and modular_pluralism with hostile messages and responses."""
    hostile = HOSTILE.format(port=port)
    bad = {
        "news_left": hostile,
        "news_center": "x" * 10_000_000,
        "news_right": ARABIC,
        "social_left": "\n \t",
    }
    found = {}
    for label, run in runs.items():
        lines = []
        for line in run.transcript:
            if line["task"] == TASK and line["doc_id"] == 0 and line.get("messages"):
                messages = [
                    {**m, "text": bad.get(m["community"], m["text"])} for m in line["messages"]
                ]
                prompt = "\n\n".join(m["text"] for m in messages)
                sent = [{**s, "prompt": prompt} for s in line["sent"]]
                selections = [{**s, "raw": hostile} for s in line["selections"]]
                line = {**line, "messages": messages, "sent": sent, "selections": selections}
            lines.append(line)
        samples = dict(run.samples)
        first, *rest = samples[TASK]
        doc = {**first["doc"], "values": [hostile, *first["doc"]["values"][1:]]}
        verdict = {**verdict_of(first), "response": hostile}
        samples[TASK] = [{**first, "doc": doc, "filtered_resps": [verdict]}, *rest]
        found[f"{label} {hostile}"] = replace(run, transcript=lines, samples=samples, name=hostile)
    return found


def test_hostile_texts_are_shown_as_text_and_reach_nothing(
    browser: Any, runs: dict[str, Run], server: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, asked = server
    hostile = HOSTILE.format(port=port)
    table = Table(
        hostile,
        hostile,
        (Column(hostile, True),),
        (Row(hostile, (Number(0.5),), section=hostile),),
        (hostile,),
    )
    drawn = Drawn(name=hostile, title=hostile, caption=hostile, alt=hostile)
    path = tmp_path / "page.html"
    written = page.write(
        path, hostile, hostile_runs(runs, port), [table], [drawn], [[hostile], [hostile]], {}
    )
    assert written.texts_cut == 1
    assert written.megabytes < 1
    opened(browser, path, "ex=overton-0")
    text = shown(browser, "overton-0")
    visible = (
        hostile.replace("\x00", "␀")
        .replace("\x07", "␇")
        .replace("\x1b", "␛")
        .replace("\ud800", "\ufffd")
    )
    for sign in "\u2028\u202e\u202c\u2066\u2069":
        visible = visible.replace(sign, f"[U+{ord(sign):04X}]")
    assert text.count(visible) > 6
    assert "… 9,980,000 more characters cut" in text
    assert ARABIC in text
    rtl = browser.execute_script(
        "return [...document.querySelectorAll('#example .card p.text')].filter((p) => p.textContent === arguments[0])"
        ".map((p) => getComputedStyle(p).direction)", ARABIC)  # fmt: skip
    assert rtl == ["rtl"]
    browser.execute_script(
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    assert browser.find_elements(By.TAG_NAME, "img") == []
    scripts = browser.execute_script("return [...document.scripts].filter((s) => !s.type).length")
    assert scripts == 1
    assert browser.execute_script("return window.pwned") is None
    for width in (360, 1400):
        resize(browser, width)
        assert browser.execute_script(OVERFLOW) <= 0
    assert browser.get_log("browser") == []
    assert browser.execute_async_script(ATTACK, f"http://127.0.0.1:{port}/") is None
    assert asked == []
    # without the policy the very same attacks succeed
    bare = path.with_name("bare.html")
    bare.write_text(
        re.sub(r"<meta http-equiv.*?>", "", path.read_text(encoding="utf-8")), encoding="utf-8"
    )
    browser.get(bare.as_uri())
    assert browser.execute_async_script(ATTACK, f"http://127.0.0.1:{port}/") == 4
    assert "/picture" in asked


# ---------------------------------------------------------------------- one small page


@pytest.fixture(scope="module")
def small(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    verdict = Entailed(
        "words",
        ("First sentence.", "Second."),
        NAMES[:2],
        ((True, False), (True, False)),
        ((True, False), (False, False)),
        3,
    )
    path = tmp_path_factory.mktemp("small") / "page.html"
    page.write(path, "A small report", runs, [TABLE], [Drawn()], [["score", "p"], ["a", "0.5"]],
               {"modular_pluralism": {TASK: {0: verdict}}})  # fmt: skip
    return path


def resize(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_keys(browser: Any, small: Path) -> None:
    opened(browser, small)
    names = [
        a.get_attribute("href").split("ex=")[1]
        for a in browser.find_elements(By.CSS_SELECTOR, "#list a")
    ]
    assert len(names) == 20
    press(browser, "j")
    shown(browser, names[0])
    press(browser, "j")
    press(browser, "j")
    shown(browser, names[2])
    press(browser, "k")
    shown(browser, names[1])
    assert browser.switch_to.active_element.get_attribute("id") == "example"
    press(browser, "/")
    press(browser, "j", "?")  # into the field, where keys are letters
    assert browser.switch_to.active_element.get_attribute("value") == "j?"
    WebDriverWait(browser, 10).until(lambda b: b.find_element(By.ID, "nothing").is_displayed())
    press(browser, Keys.ESCAPE)
    assert browser.switch_to.active_element.tag_name == "body"
    browser.find_element(By.ID, "reset").click()
    press(browser, Keys.ESCAPE)
    press(browser, "?")
    dialog = browser.find_element(By.ID, "keys")
    assert dialog.is_displayed()
    press(browser, Keys.ESCAPE)
    assert not dialog.is_displayed()
    press(browser, Keys.ESCAPE)
    assert browser.execute_script("return opened") == -1
    assert "Choose an example" in browser.find_element(By.ID, "example").text
    focused = browser.switch_to.active_element
    assert focused.get_attribute("data-example") == "0"
    press(browser, Keys.ENTER)
    shown(browser, names[0])
    browser.find_elements(By.CSS_SELECTOR, "#list a")[0].send_keys(Keys.ARROW_DOWN)
    shown(browser, names[1])
    press(browser, Keys.ARROW_UP)
    shown(browser, names[0])
    assert browser.switch_to.active_element.get_attribute("data-example") == "0"
    assert browser.get_log("browser") == []


def test_everything_is_reached_with_tab_and_focus_is_seen(browser: Any, small: Path) -> None:
    opened(browser, small, "ex=moralchoice-0")
    shown(browser, "moralchoice-0")
    seen: set[str] = set()
    ends = 0
    for _ in range(200):  # from the example to the end of the page, and from its beginning on
        press(browser, Keys.TAB)
        found = browser.execute_script(
            "const e = document.activeElement; return [e.id || e.className || e.tagName, getComputedStyle(e).outlineStyle]"
        )
        if found[0] == "BODY":
            ends += 1
            if ends == 2:
                break
            continue
        assert found[1] != "none", found
        seen.add(found[0])
    assert {
        "words",
        "task",
        "group",
        "community",
        "role",
        "differ",
        "kind",
        "sort",
        "help",
        "copy",
        "theme",
        "box",
    } <= seen


def test_overton_sentence_by_sentence(browser: Any, small: Path) -> None:
    opened(browser, small, "ex=overton-0")
    shown(browser, "overton-0")
    sentences = [e.text for e in browser.find_elements(By.CSS_SELECTOR, ".sentences li")]
    assert len(sentences) == 2
    assert "covers 1 " in sentences[0]
    assert "from news_left" in sentences[0]
    assert "no message entails it" in sentences[1]
    text = browser.find_element(By.ID, "example").text
    assert "3 pairs without a verdict" in text
    assert text.count("not computed") == 3  # for the other three runs
    choose(browser, "role", "entails")
    choose(browser, "community", "news_center")
    assert count(browser) == 1


def test_no_width_overflows_and_nothing_is_complained_about(browser: Any, small: Path) -> None:
    for width in (360, 800, 1400):
        resize(browser, width)
        for example in ("overton-0", "vk-2", "moralchoice-0", "globalopinionqa-3"):
            opened(browser, small, f"ex={example}")
            shown(browser, example)
            browser.execute_script(
                "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
            )
            assert browser.execute_script(OVERFLOW) <= 0, (width, example)
    assert browser.get_log("browser") == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    urls = {e["params"]["request"]["url"] for e in events if "request" in e.get("params", {})}
    assert {url for url in urls if url.split(":")[0] not in {"data", "chrome", "about"}} <= {
        small.as_uri(),
        *_other_pages(urls),
    }


def _other_pages(urls: set[str]) -> set[str]:
    """Pages and attacks of the other tests: the log is one for all."""
    return {url for url in urls if url.endswith(".html") or url.startswith("http://127.0.0.1")}


def test_names_landmarks_and_headings(browser: Any, small: Path) -> None:
    opened(browser, small, "ex=overton-0")
    shown(browser, "overton-0")
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (n["role"]["value"], n.get("name", {}).get("value", ""))
        for n in tree if not n.get("ignored") and "role" in n
    ]  # fmt: skip
    controls = (
        "button",
        "link",
        "combobox",
        "searchbox",
        "region",
        "table",
        "navigation",
        "article",
        "image",
        "search",
    )
    assert [pair for pair in named if pair[0] in controls and not pair[1]] == []
    roles = {role for role, _ in named}
    assert {"main", "banner", "contentinfo", "navigation", "search", "article", "status"} <= roles
    assert ("image", 'Bars "of" coverage') in named
    assert ("article", "Example overton-0") in named
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4,h5')].filter((h) => h.checkVisibility()).map((h) => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_columns_sort_systems_within_their_section(browser: Any, small: Path) -> None:
    opened(browser, small)

    def rows() -> list[str]:
        return [
            str(e.text).split(" (")[0]
            for e in browser.find_elements(By.CSS_SELECTOR, ".scores tbody th")
        ]

    listed = ["M", "uniform", "a", "b", "c", "N", "d", "e"]
    assert rows() == listed
    match, distance = browser.find_elements(By.CSS_SELECTOR, ".scores button.sort")
    heads = browser.find_elements(By.CSS_SELECTOR, ".scores thead th.number")
    for wanted, order in (("descending", "bca de"), ("ascending", "acb ed"), (None, "abc de")):
        match.click()
        assert heads[0].get_attribute("aria-sort") == wanted
        first, second = order.split()
        assert rows() == ["M", "uniform", *first, "N", *second]
    distance.click()
    assert rows() == ["M", "uniform", *"abc", "N", *"ed"]  # c has no value and stays last
    assert heads[1].get_attribute("aria-sort") == "descending"
    assert heads[0].get_attribute("aria-sort") is None


def test_colours_follow_the_system_and_the_button(browser: Any, small: Path) -> None:
    def back() -> str:
        return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))

    seen = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        opened(browser, small)
        seen[scheme] = back()
    assert seen["light"] != seen["dark"]
    button = browser.find_element(By.ID, "theme")
    assert button.text == "Light"
    button.click()
    assert back() == seen["light"]
    assert button.text == "Dark"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_without_scripts_tables_and_figures_are_there(browser: Any, small: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get("about:blank")
        browser.get(small.as_uri())
        text = browser.find_element(By.TAG_NAME, "main").text
        assert "0.900" in text
        assert "Looking at examples needs JavaScript" in text
        assert browser.find_element(By.CSS_SELECTOR, ".plot svg rect").is_displayed()
        assert not browser.find_element(By.ID, "browser").is_displayed()
        assert not browser.find_element(By.ID, "theme").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize(
    "texts",
    [
        ["aaaa", "a" * 5, "a" * 255, "a" * 259, "a" * 260, "b" * 100_000],
        ["ab" * 1000 + "é漢🙂" * 50],
        ["".join(random.Random(1).choices("etaoin shrdlu\n", k=400_000))],
        [
            "".join(map(chr, random.Random(2).choices(range(32, 0xD7FF), k=500_000)))
        ],  # several blocks
    ],
    ids=("runs of one letter", "few signs", "one block", "several blocks"),
)
def test_what_python_packs_the_page_unpacks(
    browser: Any, small: Path, texts: Sequence[str]
) -> None:
    opened(browser, small)
    for small_ in (True, False):
        found = browser.execute_async_script(
            """const [text, small, done] = arguments, carrier = document.createElement("script");
            carrier.type = "text/plain"; carrier.id = "packed"; carrier.textContent = text;
            document.body.append(carrier);
            Promise.resolve(small ? unbzipped(bytesOf("packed")) : unzipped(bytesOf("packed"))).then((found) => {
              carrier.remove(); done(JSON.parse(found)); });""",
            packing.packed(packing.as_json(texts), small_), small_,
        )  # fmt: skip
        assert found == texts
