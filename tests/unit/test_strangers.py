"""Files of strangers: one clear error within seconds, no gigabytes, and nothing outside of their folder."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pluralism_eval import bounded, json_files
from pluralism_eval.communities import adapter_files, adapters, registry
from pluralism_eval.communities.catalogue import Community
from pluralism_eval.communities.store import MessageSource, _read
from pluralism_eval.corpora import read_corpus
from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import samples, schema, submit
from pluralism_eval.leaderboard.verify import verify
from pluralism_eval.metrics.responses import read_responses
from pluralism_eval.people import exports
from pluralism_eval.prompt_texts import prompt_text
from pluralism_eval.prompts import Prompts
from pluralism_eval.report import tabular
from pluralism_eval.report.page.examples import collect
from pluralism_eval.report.page.reader import Reader
from pluralism_eval.report.table import markdown as rows_of_text
from pluralism_eval.results import read_run, runs_in
from pluralism_eval.scoring import score_file
from pluralism_eval.secrets import without_secrets
from pluralism_eval.yaml_files import read_yaml, yaml_value
from tests.conftest import ROOT
from tests.fuzz import JSON, TEXTS, fuzz, ours
from tests.unit.test_exports import MORAL, VK, save

DEEP = "[" * 100_000
UNUSABLE = '{"a":' + "[" * 900 + "]" * 900 + "}"
"""Python's parser reads this one; what writes or walks it afterwards does not."""


@pytest.fixture(autouse=True)
def within_seconds() -> Iterator[None]:
    """The processor time of this process, whatever else the machine does."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < 8


# ---------------------------------------------------------------------- runs


def changed(folder: Path, pattern: str, change: Callable[[dict[str, Any]], Any]) -> None:
    for path in folder.rglob(pattern):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            change(row)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def chat(text: str, form: str) -> Any:
    """A chat prompt as files keep it: of llm=openai, as turns, with content in parts, as ids."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": "x"}]
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts if form == "parts" else text},
    ]
    return {"openai": [json.dumps(turns)], "turns": turns, "parts": turns, "ids": [1, 2, 3]}[form]


@pytest.mark.parametrize("form", ["openai", "turns", "parts", "ids"])
def test_chat_prompts_are_text_for_every_reader(form: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "run", (VK, MORAL))

    def in_line(line: dict[str, Any]) -> None:
        for sent in line["sent"]:
            sent["prompt"] = chat(sent["prompt"], form)

    def in_sample(sample: dict[str, Any]) -> None:
        for request in sample["arguments"].values():
            request["arg_0"] = chat(request["arg_0"], form)
        if sample["doc_id"] == 1:  # as older versions of lm-eval log them
            sample["arguments"] = [list(r.values()) for r in sample["arguments"].values()]

    changed(folder, "t.jsonl", in_line)
    changed(folder, "samples_*", in_sample)
    run = read_run(folder)
    prompts = [sent["prompt"] for line in run.transcript for sent in line["sent"]]
    prompts += [s["arguments"]["gen_args_0"]["arg_0"] for s in run.samples_of(MORAL)[:1]]
    assert all(isinstance(prompt, str) for prompt in prompts)
    if form != "ids":
        assert prompts[-1].startswith("system\nBe brief.\nuser\nA\nA. I stay.")
    reader = Reader({"run": run}, {})
    for found in collect([run]):
        _, detail = reader.read(found)
        assert all(isinstance(p, int) for a in detail["answers"] for s in a["sent"] for p in s["prompt"])  # fmt: skip


@given(JSON)
@example([[{"role": "user"}]])
@example(["[[[["])
@fuzz(60)
def test_any_prompt_is_text(prompt: Any) -> None:
    assert isinstance(prompt_text(prompt), str)
    assert prompt_text("as it is") == "as it is"


def pointing(folder: Path, transcript: str) -> Path:
    """The run, whose results name ``transcript``."""
    (file,) = folder.rglob("results_*.json")
    results = json.loads(file.read_text())
    results["config"]["pluralism"]["transcript"] = transcript
    file.write_text(json.dumps(results))
    return file


@pytest.mark.parametrize("name", ["{}/secret.jsonl", "../../secret.jsonl", "../secret.jsonl"])
def test_a_transcript_outside_of_the_run_is_not_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "given")
    (folder / "t.jsonl").rename(tmp_path / "secret.jsonl")
    file = pointing(folder, name.format(tmp_path))
    monkeypatch.chdir(folder)
    if (folder / name.format(tmp_path)).exists():
        with pytest.raises(PluralismError, match="outside of the run's folder and is not read"):
            read_run(folder)
    else:
        assert read_run(folder).transcript == []
    assert (tmp_path / "secret.jsonl").exists()
    (tmp_path / "secret.jsonl").rename(folder / "secret.jsonl")
    assert len(read_run(folder).transcript) == 2
    assert len(runs_in(folder)[0].transcript) == 2
    assert read_run(file).transcript == []  # only the model's folder was given


def replaced_by_link(file: Path) -> None:
    outside = file.parents[3] / f"outside-{file.name}"
    file.rename(outside)
    file.symlink_to(outside)


@pytest.mark.parametrize("pattern", ["t.jsonl", "samples_*", "results_*"])
def test_a_link_in_a_run_is_not_followed(pattern: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "a" / "b" / "run")
    for file in list(folder.rglob(pattern)):
        replaced_by_link(file)
    with pytest.raises(PluralismError, match=r"is a link to .*, outside of its folder"):
        read_run(folder)


def test_a_run_with_a_hole_of_20_gb_is_an_error(tmp_path: Path) -> None:
    for pattern in ("t.jsonl", "samples_*", "results_*"):
        folder = save(tmp_path / pattern.strip("_*"))
        for file in folder.rglob(pattern):
            os.truncate(file, 20 << 30)
        with pytest.raises(PluralismError, match="21,474,836,480 bytes; at most"):
            read_run(folder)


# ---------------------------------------------------------------------- links elsewhere


def test_a_link_or_pipe_in_a_corpus_is_left_out_and_counted(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i in range(12):
        (corpus / f"{i}.txt").write_text(f"text {i}")
    (tmp_path / "secret").write_text("the secret")
    (corpus / "link.txt").symlink_to(tmp_path / "secret")
    (corpus / "inside.txt").symlink_to(corpus / "0.txt")
    os.mkfifo(corpus / "pipe.txt")
    found = read_corpus(str(corpus))
    assert "the secret" not in found.pieces
    assert (len(found.pieces), found.duplicates) == (12, 1)
    assert found.left_out == {"links out of the folder": 2}


def test_a_corpus_with_a_hole_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a\n\nb")
    os.truncate(tmp_path / "c.txt", 1 << 30)
    with pytest.raises(PluralismError, match="is binary"):
        read_corpus(str(tmp_path / "c.txt"))
    os.truncate(tmp_path / "c.txt", 20 << 30)
    with pytest.raises(PluralismError, match="bytes; at most"):
        read_corpus(str(tmp_path / "c.txt"))


def test_links_in_inputs_messages_and_submissions_are_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    folder = tmp_path / "folder"
    folder.mkdir()
    name = input_file("vk", "sample").name
    (folder / name).symlink_to(outside)
    with pytest.raises(PluralismError, match="is a link"):
        input_file("vk", str(folder))
    (folder / "input_mistral-a.json").symlink_to(outside)
    source = MessageSource(str(folder))
    path = folder / "input_mistral-a.json"
    _read.cache_clear()
    with pytest.raises(PluralismError, match="is a link"):
        _read(path)
    assert source.exported
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert submit.folders(folder) == []
    assert "link out of the folder" in caplog.text


# ---------------------------------------------------------------------- JSON


READERS: dict[str, Callable[[Path], Any]] = {
    "input": read_items,
    "messages": _read,
    "responses": read_responses,
    "scores": lambda path: score_file(path.rename(path.with_suffix(".jsonl")), "vk"),
    "samples": lambda path: read_responses(path.rename(path.with_suffix(".jsonl"))),
    "corpus": lambda path: read_corpus(str(path)),
    "results": lambda path: read_run(path.rename(path.with_name("results_x.json"))),
    "key": exports.read_key,
    "verdicts": lambda path: exports.read_judge(path, None),  # type: ignore[arg-type]
    "submission": lambda path: schema.load(path.rename(path.with_name(schema.FILE)).parent),
    "logged": lambda path: samples.read_logged("vk", path),
    "llm_args": lambda path: json_files.loads(path.read_text()),
    "adapter": lambda path: adapters._config(
        Community("a", "d", adapter="a"), path.rename(path.with_name(adapters.CONFIG)).parent
    ),
    "registry": lambda _: registry.registered(),
}  # fmt: skip


@pytest.mark.parametrize("text", [DEEP, UNUSABLE, '{"a":' * 100_000], ids=["deep", "whole", "objects"])  # fmt: skip
@pytest.mark.parametrize("reader", READERS)
def test_deep_json_is_one_error(
    reader: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    monkeypatch.setenv(registry.REGISTRY_VARIABLE, str(file))
    with pytest.raises(ValueError, match=r"nested more than 100 levels|increasing flow level"):
        READERS[reader](file)


@given(JSON)
@fuzz(60)
def test_what_is_within_the_limits_is_read_as_json_reads_it(value: Any) -> None:
    text = json.dumps(value)
    with ours(ValueError):  # a number of 5,000 digits
        assert json.dumps(json_files.loads(text)) == json.dumps(json.loads(text))


def test_a_text_of_brackets_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="more than 5,000,000 lists and objects"):
        json_files.loads(b"[" + b"[]," * 6_000_000 + b"0]")


# ---------------------------------------------------------------------- YAML

HOSTILE_YAML = {
    "a million values": "- a\n" * 1_000_000,
    "in one line": "[" + "a, " * 400_000 + "]",
    "pairs": "".join(f"k{i}: v\n" for i in range(300_000)),
    "documents": "--- a\n" * 500_000,
    "deep lists": "- " * 100_000,
    "deep keys": "? " * 100_000,
    "a long number to base 60": "1" + ":59" * 300_000,
    "a long number": "0x" + "f" * 3_000_000,
    "no number": "!!int ''",
    "no float": "!!float ''",
    "no time": "!!timestamp x",
    "no truth": "!!bool x",
}


@pytest.mark.parametrize("kind", HOSTILE_YAML)
def test_hostile_yaml_is_one_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PluralismError, match="is no YAML"):
        yaml_value(HOSTILE_YAML[kind])
    (tmp_path / "pool.yaml").write_text(HOSTILE_YAML[kind])
    with pytest.raises(PluralismError, match="cannot be read as YAML"):
        read_yaml(tmp_path / "pool.yaml", "communities")


def test_a_pipe_is_no_pool(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PluralismError, match="no regular file"):
        read_yaml(tmp_path / "pipe", "communities")


# ---------------------------------------------------------------------- templates and patterns

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}"
ENDS = "{% endfor %}{% endfor %}{% endfor %}"
BOMBS = {
    "loops": (LOOP + ENDS, "takes more than 0.3 s"),
    "loops that write": (LOOP + "xxxxxxxxxx" + ENDS, "4,000,000 characters|takes more than"),
    "a constant": ("{{ 'x' * 10**9 }}", "more than 512 MB"),
    "a variable": ("{{ query * 10**9 }}", "more than 512 MB"),
    "center": ("{{ query|center(10**9) }}", "more than 512 MB"),
    "indent": ("{{ (query ~ '\n')|indent(10**9, true) }}", "more than 512 MB"),
    "a format": ("{{ '%1000000000d' % 1 }}", "more than 512 MB"),
    "a method": ("{{ query.ljust(10**10) }}", "more than 512 MB"),
    "doubling": ("{% set x = query * 99 %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}", "512 MB|takes more"),
    "a number": ("{{ 9 ** (9 ** (9 ** 9)) }}", "takes more than|512 MB"),
    "lorem ipsum": ("{{ lipsum(n=10**7) }}", "takes more than|512 MB"),
    "itself": ("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "only now and then": ("{% if query == 'Q' %}{{ 'x' * 10**9 }}{% endif %}", "more than 512 MB"),
    "nested": ("{{ " + "(" * 50_000, "recursion"),
}  # fmt: skip


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The limits work alike with less time."""
    worker = bounded._Worker()
    monkeypatch.setattr(bounded, "SECONDS", 0.3)
    monkeypatch.setattr(bounded, "_worker", worker)
    yield
    worker.end()


def filled_in(file: Path, template: str) -> str:
    file.write_text(json.dumps({"moe": {"respond": template}}))
    return Prompts(str(file)).render("moe", "respond", query="Q", messages=["é", "m"])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", BOMBS)
def test_templates_that_loop_or_grow_are_errors(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    template, said = BOMBS[kind]
    with pytest.raises(PluralismError, match=said):
        filled_in(file, template)
    again = filled_in(file, "{{ query }} ü {{ messages|join(', ') }}")
    assert again == "Q ü é, m"  # and the process is there again


@pytest.mark.usefixtures("impatient")
def test_an_answer_is_never_anothers() -> None:
    with pytest.raises(bounded.BoundedError):
        bounded.render(LOOP + ENDS, {})
    assert [bounded.render("{{ n }}", {"n": n}) for n in range(20)] == [str(n) for n in range(20)]


@dataclass
class Tokenizer:
    chat_template: Any
    name_or_path: str = "org/stranger"
    special_tokens_map: Mapping[str, Any] = field(default_factory=lambda: {"bos_token": "<s>"})


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "template",
    [
        LOOP + ENDS,
        "{{ bos_token * 10**9 }}",
        "{% for m in messages %}{% generation %}{{ m.content.ljust(10**9) }}{% endgeneration %}{% endfor %}",
    ],
)
def test_a_chat_template_that_loops_or_grows_is_one_error(template: str) -> None:
    turns = [{"role": "user", "content": "Hello"}]
    with pytest.raises(PluralismError, match="chat template of 'org/stranger' cannot be used: it"):
        bounded.check_chat_template(Tokenizer(template), turns)


def test_other_chat_templates_are_left_to_transformers() -> None:
    turns = [{"role": "user", "content": "Hello"}]
    for template in (
        None, {"default": "x"}, "{{ raise_exception('no system role') }}", "{{ nothing.at_all }}", "{% x",
        "{{ strftime_now('%Y') }}{{ messages|tojson(indent=2) }}{% for m in messages %}{% break %}{% endfor %}",
    ):  # fmt: skip
        bounded.check_chat_template(Tokenizer(template), turns)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_template_cannot_see_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "verysecret")
    worker = bounded._Worker()
    try:
        worker.ask("render", "", {})
        assert worker._process is not None
        assert b"verysecret" not in Path(f"/proc/{worker._process.pid}/environ").read_bytes()
    finally:
        worker.end()


EVIL = "(([a-z_.0-9]+)+)+#"
MODULES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(30) for p in "qkvo"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_modules", EVIL),
        ("exclude_modules", EVIL),
        ("layers_pattern", EVIL),
        ("layers_pattern", [EVIL]),
        ("modules_to_save", ["lm_head", EVIL]),
        ("rank_pattern", {EVIL: 4}),
        ("alpha_pattern", {"x": 1, "(a|a)*(.|..)*(.|.)*#": 4}),
        ("rank_pattern", {f"(.*){i}": 1 for i in range(19_000)}),
    ],
)
def test_patterns_that_never_end_are_refused(field: str, value: Any) -> None:
    with pytest.raises(PluralismError, match=f"{field}=.*takes more than 0.3 s"):
        adapter_files.check_config({field: value}, MODULES, 30)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rank_pattern": {"((": 4}}, "is no regular expression"),
        ({"alpha_pattern": {"(" * 5000 + ")" * 5000: 4}}, "is no regular expression"),
        ({"target_modules": ["m"] * 100_000}, "100,000 entries"),
        ({"layer_replication": [[0, 30]] * 2000}, "60,000 layers of the base's 30; at most 120"),
        ({"layer_replication": [[0, 10**9]]}, "1,000,000,000 layers"),
        ({"layer_replication": [0, 30]}, "must be a list of"),
    ],
)
def test_what_peft_would_take_long_for_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(PluralismError, match=said):
        adapter_files.check_config(config, MODULES, 30)


def test_ordinary_configurations_pass() -> None:
    ordinary = {
        "target_modules": r".*\.(q|v)_proj", "rank_pattern": {r"layers\.[0-9]+\.self_attn\.q_proj": 4}, "exclude_modules": None,
        "layers_pattern": "layers", "modules_to_save": {"lm_head"}, "layer_replication": [[0, 20], [10, 30]],
    }  # fmt: skip
    adapter_files.check_config(ordinary, MODULES, 30)


# ---------------------------------------------------------------------- weights


def header(file: Path, shape: list[int], size: int) -> None:
    one = {"a.lora_A.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(one).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + size)


def test_a_file_of_weights_is_as_long_as_its_header_says(tmp_path: Path) -> None:
    file = tmp_path / adapters.WEIGHTS
    header(file, [4, 2], 32)
    adapter_files.check_header(file)
    assert not adapter_files.is_large(file)
    os.truncate(file, 20 << 30)
    with pytest.raises(PluralismError, match="has 21,474,836,480 bytes, its header says"):
        adapter_files.check_header(file)
    file.write_bytes((1 << 60).to_bytes(8, "little"))
    with pytest.raises(PluralismError, match="its header has 1,152,921,504,606,846,976 bytes"):
        adapter_files.check_header(file)
    file.write_bytes((100_000).to_bytes(8, "little") + DEEP.encode())
    with pytest.raises(PluralismError, match="nested more than 100"):
        adapter_files.check_header(file)


def test_a_hole_that_the_header_admits_is_larger_than_the_configuration_implies(
    tmp_path: Path,
) -> None:
    file = tmp_path / adapters.WEIGHTS
    header(file, [5 << 30], 20 << 30)
    adapter_files.check_header(file)
    assert adapter_files.is_large(file)
    with pytest.raises(PluralismError, match="with its configuration it can have at most"):
        adapter_files.check_size(file, {"a.lora_A.weight": (8, 4096)})


def test_a_packed_pickle_counts_as_what_it_comes_to(tmp_path: Path) -> None:
    file = tmp_path / adapters.PICKLED
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("data", "w") as part:  # fmt: skip
        for _ in range(257):
            part.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 20
    assert adapter_files.is_large(file)
    file.write_bytes(b"PK\x05\x06" + b"\xff" * 18)  # the end of a zip, and nothing before
    assert not adapter_files.is_large(file)


@pytest.mark.parametrize("name", [adapters.CONFIG, adapters.WEIGHTS, adapters.RECORD])
def test_a_link_in_an_adapter_is_not_followed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "models--a--b" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    for part in (adapters.CONFIG, adapters.WEIGHTS, adapters.RECORD):
        (folder / part).write_text("{}")
    (folder / name).unlink()
    blob = folder.parents[1] / "blobs" / "f00"
    blob.parent.mkdir()
    blob.write_text("{}")
    (folder / name).symlink_to(blob)
    adapter_files.check_links(folder, [name])  # as the Hub's cache has it
    (tmp_path / "elsewhere").write_text("{}")
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PluralismError, match="outside of its folder"):
        adapter_files.check_links(folder, [name])


# ---------------------------------------------------------------------- Markdown

TAG = "<img src=x onerror=alert(1)>"
NAME = f"news{TAG}![x](http://a.b/c)\n\n# head\x1b[2J"


def harmful(text: str) -> list[str]:
    """Tags, and links or images with an address, outside of code."""
    outside = re.sub(r"(`+)[^`].*?\1", "", text, flags=re.DOTALL)
    return re.findall(r"<[A-Za-z/!?]|\](?=[(\[:])|\x1b", outside)


def test_no_markdown_table_holds_markup_of_a_name() -> None:
    column = tabular.Column(NAME, True)
    row = tabular.Row(NAME, (tabular.Number(0.5),), section=NAME)
    made = tabular.markdown(tabular.Table("t", NAME, (column,), (row,), (NAME,)))
    assert "news" in made
    assert harmful(made) == []
    assert harmful(rows_of_text([[NAME], [NAME]])) == []
    assert "# head" not in made.splitlines()


@given(st.lists(st.one_of(TEXTS, st.sampled_from([TAG, NAME, "]", "(x)", "<", "b>", "\\"])), max_size=6))  # fmt: skip
@fuzz(60)
def test_a_document_holds_no_markup(parts: list[str]) -> None:
    made = tabular.document(["".join(parts), *parts])
    assert harmful(made.replace("`", "")) == []
    assert tabular.document([made]) == made
    assert tabular.code("".join(parts)).count("`") == 2
    block = tabular.fenced("\n".join(parts)).split("\n")
    assert block[0] not in block[1:-1]


# ---------------------------------------------------------------------- submissions


def test_a_submission_with_a_hundred_thousand_faults_is_rejected_at_once(tmp_path: Path) -> None:
    (source,) = (ROOT / "results/submissions").glob("modular-pluralism-*")
    content = json.loads((source / schema.FILE).read_text())
    content["system"]["communities"] = [{"a": 1}] * 100_000
    (tmp_path / schema.FILE).write_text(json.dumps(content))
    tracemalloc.start()
    reasons = verify(tmp_path).reasons()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("and more" in reason for reason in reasons)
    assert len(reasons) < 30
    assert peak < 200 << 20


@pytest.mark.parametrize("piece", ["a", "a-", "x-", "eyJ-", "key=", "a ", "x_key: "])
def test_secrets_are_looked_for_in_a_time_that_grows_with_the_text(piece: str) -> None:
    text = piece * (60_000 // len(piece))
    begun = time.process_time()
    assert without_secrets({"x": f"{text};api_key=hunter2222"})["x"].endswith("***")
    assert time.process_time() - begun < 3
