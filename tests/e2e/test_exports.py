"""Real runs of all five tasks, exported by the command and read back with the official libraries."""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.registry import model_registry
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from pluralism_eval import plugin
from pluralism_eval.commands import export
from pluralism_eval.errors import PluralismError
from pluralism_eval.plugin import AUTOMATIC
from pluralism_eval.results import read_run
from pluralism_eval.scoring import scores_of
from pluralism_eval.tasks import headlines
from tests.conftest import NAMES, ScriptedLM
from tests.unit.test_exports import HOSTILE, MORAL, save

inspect_log = pytest.importorskip("inspect_ai.log", reason="inspect_ai is not installed")

METHODS = ("vanilla", "modular_pluralism")
DOCS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each method by a model whose answers are known, as lm-eval saves them."""
    folder = tmp_path_factory.mktemp("runs")
    plugin.register_models()
    if "scripted" not in model_registry:
        model_registry.register("scripted", target=ScriptedLM)
    messages = folder / "community_lm_msgs"
    messages.mkdir()
    for source in ("overton_test_valuekaleidoscope", "steerable_test_valuekaleidoscope", "steerable_test_opinionqa",
                   "distributional_test_moralchoice", "distributional_test_globalopinionqa"):  # fmt: skip
        items = json.loads((Path(plugin.__file__).parent / "data/sample" / f"{source}.json").read_text())  # fmt: skip
        for name in NAMES:
            texts = {str(item["id"]): f"{name} on {item['id']}." for item in items}
            (messages / f"{source}_mistral-{name}.json").write_text(json.dumps(texts))
    manager = TaskManager(
        include_path=str(plugin.task_folder()),
        include_defaults=False,
        metadata={"data": "sample", "nli": "embedded", "orders": 1},
    )
    for method in METHODS:
        tracker = EvaluationTracker(output_path=str(folder / method))
        arguments: dict[str, Any] = {
            "llm": "scripted",
            "transcript": str(folder / f"t_{method}.jsonl"),
            "orders": 1,  # exported messages know of one
        }
        if method == "modular_pluralism":
            arguments |= {
                "messages": str(messages), "communities": "embedded"
            }  # fmt: skip
        results = simple_evaluate(
            model=method, model_args=arguments, tasks=["pluralism"], task_manager=manager,
            limit=DOCS, bootstrap_iters=0, evaluation_tracker=tracker,
        )  # fmt: skip
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for task in samples:
            tracker.save_results_samples(task_name=task, samples=samples[task])
    return folder


def call(*arguments: Any) -> None:
    """``pluralism-eval export ...``"""
    parser = argparse.ArgumentParser()
    export.add(parser.add_subparsers())
    given = parser.parse_args(["export", *map(str, arguments)])
    given.action(given)


@pytest.fixture(scope="module")
def exported(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    call(
        *(runs / m for m in METHODS), "--to", "all", "--output", folder, "--model", "maker/scripted"
    )
    return folder


def printed(folder: Path) -> dict[str, float]:
    found = scores_of(read_run(folder))
    return {
        f"{c.task}/{c.metric}": next(s.value for s in found[c.task] if s.name == c.metric)
        for c in headlines()
    }


def logs_of(folder: Path, method: str) -> dict[str, Any]:
    paths = sorted((folder / "inspect").iterdir())
    logs = [inspect_log.read_eval_log(str(path), resolve_attachments=True) for path in paths]
    return {log.eval.task: log for log in logs if log.eval.solver == method}


@pytest.mark.parametrize("method", METHODS)
def test_all_formats_and_lm_evals_results_have_the_same_numbers(
    runs: Path, exported: Path, method: str
) -> None:
    from huggingface_hub import ModelCard, parse_eval_result_entries

    wanted = printed(runs / method)
    (results,) = (runs / method).rglob("results_*.json")
    saved = json.loads(results.read_text())["results"]
    logs = logs_of(exported, method)
    for name, value in wanted.items():
        task, metric = name.split("/")
        assert next(v for k, v in saved[task].items() if k.partition(",")[0] == metric) == value
        scores = {score.name: score for score in logs[task].results.scores}
        assert scores[metric].metrics["value"].value == value
    records = [json.loads(p.read_text()) for p in (exported / "every-eval-ever").rglob("*.json")]
    (record,) = (r for r in records if r["model_info"]["additional_details"]["method"] == method)
    assert {r["evaluation_result_id"]: r["score_details"]["score"] for r in record["evaluation_results"]} == wanted  # fmt: skip
    hub = exported / f"hf/maker_scripted/.eval_results/pluralism_{method.replace('_', '-')}.yaml"
    if method == "modular_pluralism":
        hub = hub.with_stem(f"{hub.stem}_embedded")
    entries = parse_eval_result_entries(yaml.safe_load(hub.read_text()))
    assert [entry.value for entry in entries] == list(wanted.values())
    data = ModelCard.load(exported / "model-card/maker_scripted.md").data
    own = [r.metric_value for r in data.eval_results or [] if r.dataset_config == method]
    assert own == list(wanted.values())


def test_inspect_logs_say_what_was_run(exported: Path) -> None:
    logs = logs_of(exported, "modular_pluralism")
    assert set(logs) == set(AUTOMATIC)
    for task, log in logs.items():
        spec = log.eval
        assert (log.status, spec.model, spec.task_version) == ("success", "maker/scripted", "1.0")
        assert (spec.config.limit, len(log.samples), log.results.total_samples) == (DOCS, DOCS, DOCS)  # fmt: skip
        assert spec.dataset.samples > DOCS
        assert {str(s.id) for s in log.samples} == set(spec.dataset.sample_ids)
        assert len(spec.model_roles["communities"]) == 6
        assert spec.metadata["seeds"]["numpy_seed"] == 1234
        headline = log.results.headline
        assert headline.score == next(c.metric for c in headlines() if c.task == task)
        first = log.results.scores[0]
        assert first.name == headline.score
        shown = [set(score.metrics) for score in log.results.scores]
        assert all(found == {"value", "stderr", "ci95_low", "ci95_high"} for found in shown)
        assert not [s for s in log.results.scores if math.isnan(s.metrics["value"].value)]
        assert str(spec.metadata["command"]).startswith("lm_eval --model modular_pluralism")
        assert "/t_modular" not in json.dumps(spec.metadata)


def test_inspect_samples_show_messages_selections_and_reasons(runs: Path, exported: Path) -> None:
    run = read_run(runs / "modular_pluralism")
    logs = logs_of(exported, "modular_pluralism")
    for task, log in logs.items():
        lines = run.transcript_of(task)
        samples = {sample.metadata["doc_id"]: sample for sample in log.samples}
        for logged in run.samples_of(task):
            sample = samples[logged["doc_id"]]
            line = lines[logged["doc_id"]]
            assert sample.input == logged["doc"]["query"]
            info = [event for event in sample.events if event.event == "info"]
            assert [event.data for event in info] == [m["text"] for m in line["messages"]]
            assert info[0].source == f"community LM: {line['messages'][0]['community']}"
            asked = [event for event in sample.events if event.event == "model"]
            assert [event.input[0].text for event in asked] == [s["prompt"] for s in line["sent"]]
            assert [m.role for m in sample.messages] == ["user", "assistant"] * len(line["sent"])
            (column, *_) = (c for c in headlines() if c.task == task and c.number)
            score = sample.scores[column.metric]
            assert score.value == column.number(logged)
            for selection in line["selections"]:
                assert f"Selected community: {selection['community']}" in score.explanation
    (overton,) = (s for s in logs["pluralism_overton_nli"].samples if s.metadata["doc_id"] == 0)
    doc = run.samples_of("pluralism_overton_nli")[0]["doc"]
    assert overton.target == doc["explanations"]
    assert f"of {len(doc['explanations'])} explanations are covered" in overton.scores["coverage"].explanation  # fmt: skip
    assert {e["covered"] for e in overton.metadata["explanations"]} <= {True, False}
    (options,) = (s for s in logs[MORAL].samples if s.metadata["doc_id"] == 0)
    assert options.choices == run.samples_of(MORAL)[0]["doc"]["options"]
    assert sum(options.metadata["probabilities"].values()) == pytest.approx(1)


def test_made_again_the_files_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def content(folder: Path) -> dict[Path, bytes]:
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    run, one, two = save(tmp_path / "run"), tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        call(run, "--to", "all", "--output", folder)
    before = content(one)
    assert {path.parts[0] for path in before} == set(export.FORMATS)
    assert content(two) == before
    call(run, "--to", "all", "--output", two)
    assert capsys.readouterr().out.count(", 0 of them new or changed") == len(export.FORMATS)
    changed = next((two / "hf").rglob("*.yaml"))
    changed.write_text("mine")
    with pytest.raises(PluralismError, match="--force"):
        call(run, "--to", "all", "--output", two)
    assert changed.read_text() == "mine"
    call(run, "--to", "all", "--output", two, "--force")
    assert content(two) == before


@pytest.mark.skipif(not shutil.which("every_eval_ever"), reason="pipx install every-eval-ever (needs Python 3.12) gives the official validator")  # fmt: skip
def test_the_official_validator_passes_the_records(exported: Path) -> None:
    records = exported / "every-eval-ever/data/*/*/*/*.json*"
    done = subprocess.run(["every_eval_ever", "validate", "--format", "json", str(records)], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"valid": true' in done.stdout
    assert '"valid": false' not in done.stdout


@pytest.mark.parametrize("form", ["eval", "json"])
def test_hostile_and_huge_text_in_a_log(tmp_path: Path, form: str) -> None:
    folder = save(tmp_path / "run", words="WORDS")
    huge = HOSTILE + "x" * 10_000_000
    (transcript,) = folder.glob("t.jsonl")
    lines = transcript.read_text().splitlines()
    long = [lines[0].replace("WORDS", json.dumps(huge)[1:-1]), *lines[1:]]
    transcript.write_text("\n".join(long).replace("WORDS", json.dumps(HOSTILE)[1:-1]) + "\n")
    out = tmp_path / "out"
    call(folder, "--to", "inspect", "--output", out, "--inspect-format", form)
    (path,) = (out / "inspect").iterdir()
    log = inspect_log.read_eval_log(str(path), resolve_attachments=True)
    (sample,) = (s for s in log.samples if s.id == "L1")  # Inspect sorts by id
    message = next(e for e in sample.events if e.event == "info").data
    assert len(message) > 10_000_000
    assert "␀ \\ud800 <script>" in message
    assert log.eval.viewer.trust_content is False


def test_without_inspect_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(PluralismError, match=r"pip install 'pluralism-eval\[exports\]'"):
        call(save(tmp_path / "run"), "--to", "inspect", "--output", tmp_path / "out")
    call(tmp_path / "run", "--to", "hf", "--output", tmp_path / "out")


def test_into_needs_the_card_and_leaves_the_rest_alone(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n")
    with pytest.raises(PluralismError, match="--to model-card"):
        call(runs / "vanilla", "--to", "hf", "--into", readme, "--output", tmp_path)
    for _ in range(2):
        call(runs / "vanilla", "--to", "model-card", "--into", readme, "--output", tmp_path)
    assert "is up to date" in capsys.readouterr().out
    text = readme.read_text()
    assert text.startswith("# Mine\n")
    assert text.count("## Modular Pluralism") == 1


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,1200"):  # fmt: skip
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def test_inspect_view_shows_our_samples(exported: Path, tmp_path: Path, browser: Any) -> None:
    from inspect_ai.log import bundle_log_dir
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    bundle_log_dir(log_dir=str(exported / "inspect"), output_dir=str(tmp_path / "site"))
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *a: None})
    handler: Callable[..., Any] = functools.partial(quiet, directory=str(tmp_path / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log = logs_of(exported, "modular_pluralism")["pluralism_steerable_vk"]
    sample = log.samples[0]
    name = Path(log.location).name
    base = f"http://127.0.0.1:{server.server_address[1]}/#/logs/{name}"

    def shows(path: str, *wanted: str) -> None:
        browser.get("about:blank")
        browser.get(base + path)
        WebDriverWait(browser, 30).until(
            lambda b: all(w in b.find_element(By.TAG_NAME, "body").text for w in wanted)
        )

    try:
        shows("", "pluralism_steerable_vk", "maker/scripted", "ci95_low", "Question: given")
        where = f"/samples/sample/{sample.id}/1"
        people = sample.metadata["community_messages"]
        shows(f"{where}/transcript", *(texts[0] for texts in people.values()))
        shows(f"{where}/scoring", "acc", f"Selected community: {sample.metadata['selected'][0]}")
    finally:
        server.shutdown()
