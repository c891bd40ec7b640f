"""Nothing that comes from elsewhere runs, and nothing listens: by reading the code, and by trying it."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch

from pluralism_eval import train
from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import Community, load_pool
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.load import load_llm
from pluralism_eval.llm.named import check_client, named_settings
from pluralism_eval.metrics import nli_classifier
from pluralism_eval.metrics.nli_classifier import ClassifierScorer, check_classifier
from pluralism_eval.planning import counting, models
from pluralism_eval.prompts import Prompts
from pluralism_eval.serving.files import write
from pluralism_eval.serving.plan import make_plan
from pluralism_eval.serving.runs import Run
from pluralism_eval.serving.servers import Choices
from pluralism_eval.settings import parse
from pluralism_eval.yaml_files import read_yaml
from tests.conftest import ROOT

FOLDERS = ("pluralism_eval", "model_wrappers", "task_configs")
EXEMPT = {
    ("pluralism_eval/train.py", "torch.load without weights_only=True"): (
        "checkpoints that this very training wrote; transformers' Trainer loads the same files on resuming"
    ),
    ("pluralism_eval/report/figures/figure.py", "XML"): "the SVG that matplotlib has just made",
    ("pluralism_eval/serving/files.py", "0.0.0.0"): (
        "within a container, whose port compose.yaml publishes on 127.0.0.1 alone"
    ),
    ("pluralism_eval/serving/files.py", "jinja2 without sandbox"): "templates of this package only",
    ("pluralism_eval/hijack/corpus.py", "jinja2 without sandbox"): "templates of this package only",
    ("pluralism_eval/cli.py", "import_module"): "the modules of commands.COMMANDS",
}
"""(file, rule) → why it is allowed there."""


def dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts] if isinstance(node, ast.Name) else ["", *parts])


def keywords(call: ast.Call) -> dict[str, Any]:
    """Keyword → its constant, or the expression; ``**more`` is under the empty name."""
    return {
        k.arg or "": k.value.value if isinstance(k.value, ast.Constant) else k.value
        for k in call.keywords
    }


def of_call(call: ast.Call) -> Iterator[str]:
    name, given = dotted(call.func), keywords(call)
    last = name.rpartition(".")[2]
    if name in ("eval", "exec", "__import__", "os.system", "os.popen", "tempfile.mktemp", "yaml.load", "yaml.full_load",
                "yaml.unsafe_load"):  # fmt: skip
        yield name
    if last == "import_module":
        yield last
    if given.get("shell"):
        yield "shell=True"
    if given.get("trust_remote_code") is True:
        yield "trust_remote_code=True"
    if given.get("verify") is False:
        yield "verify=False"
    if given.get("allow_pickle") or last in ("read_pickle", "to_pickle"):
        yield "pickle"
    if name == "torch.load" and given.get("weights_only") is not True:
        yield "torch.load without weights_only=True"
    # None, transformers' default, asks whoever sits at the terminal
    decided = {"gguf_file", "trust_remote_code", ""} & set(given)
    if re.search(r"\bAuto\w+\.from_pretrained$", name) and not decided:
        yield "from_pretrained without trust_remote_code"
    if last in ("snapshot_download", "hf_hub_download") and "revision" not in given:
        yield "download without revision"
    if last in ("extractall", "extract", "unpack_archive"):
        yield "unpacking an archive"
    if name in ("ElementTree.fromstring", "ElementTree.parse", "minidom.parseString"):
        yield "XML"
    if last == "Environment" and not given.get("autoescape"):
        yield "jinja2 without sandbox"


def listens_at(call: ast.Call) -> ast.expr | None:
    """The host of ``HTTPServer((host, port), ...)``, ``socket.bind((host, port))`` or a subclass's call of either."""
    address = call.args[0] if call.args else None
    named = re.search(r"(Server|bind|__init__)$", dotted(call.func))
    pair = isinstance(address, ast.Tuple) and len(address.elts) == 2
    return address.elts[0] if named and pair and isinstance(address, ast.Tuple) else None


def found_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    found: set[str] = set()
    if (
        re.search(r"\bAuto\w+\.from_pretrained\([^)]*\*\*", text)
        and '"trust_remote_code"' not in text
    ):
        found.add("from_pretrained without trust_remote_code")
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {a.name.partition(".")[0] for a in node.names}
            if isinstance(node, ast.ImportFrom):
                names = {(node.module or "").partition(".")[0]}
                if node.module in ("http.server", "socketserver", "wsgiref.simple_server"):
                    found.add("a listening port")
            found |= {
                f"import {n}"
                for n in names & {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
            }
        elif isinstance(node, ast.Call):
            found |= set(of_call(node))
            if listens_at(node):
                found.add("a listening port")
        elif isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
            found.add("0.0.0.0")
    return found


def sources() -> list[Path]:
    return sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))


def test_no_forbidden_call_in_the_package() -> None:
    found = {(str(p.relative_to(ROOT)), rule) for p in sources() for rule in found_in(p)}
    assert sorted(found - set(EXEMPT)) == []
    assert sorted(set(EXEMPT) - found) == []  # an exemption that nothing needs any more


def test_servers_of_the_package_and_of_its_tests_are_on_loopback() -> None:
    hosts = []
    for path in [*sources(), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "Server(" in text or "bind(" in text else ():
            host = listens_at(node) if isinstance(node, ast.Call) else None
            if host is not None:
                hosts.append((str(path.relative_to(ROOT)), ast.unparse(host)))
    assert len(hosts) > 4
    assert [h for h in hosts if h[1] != "'127.0.0.1'"] == []


def test_what_has_to_listen_beyond_this_machine_is_said(tmp_path: Path) -> None:
    split = make_plan("org/large", Choices(llms=("org/large",), nodes=2))
    assert any("Ray's ports are open" in note and "no password" in note for note in split.notes)
    write(split, Run("vanilla"), tmp_path)
    assert "ask for no password" in (tmp_path / "job.slurm").read_text()
    open_ = make_plan("org/large", Choices(llms=("org/large",), host="node7"))
    assert any("the servers listen on node7" in note for note in open_.notes)
    closed = make_plan("org/large", Choices(llms=("org/large",)))
    assert not any("listen" in note or "open" in note for note in closed.notes)


def test_the_hook_file_is_one_import_that_cannot_fail() -> None:
    text = (ROOT / "pluralism_eval" / "_hook.pth").read_text()
    assert (
        text
        == 'import sys; exec("try:\\n import pluralism_eval._hook\\nexcept BaseException:\\n pass")\n'
    )


# ---------------------------------------------------------------------- models of strangers


LOADERS: dict[str, Callable[[str], Any]] = {
    "community base": lambda folder: LocalModel(folder, "main"),
    "adapter": lambda folder: adapters._expected_shapes(
        Community("mine", "d", base=folder), Path(adapters.__file__).parent / "embedded/adapters/news_left"
    ),
    "training": train._load,
    "entailment, before": check_classifier,
    "entailment": ClassifierScorer,
    "judge, before": lambda folder: check_client(named_settings(f"hf:pretrained={folder}", "judge"), "judge"),
    "LLM": lambda folder: load_llm(parse("vanilla", {"pretrained": folder}), device="cpu"),
    "plan": lambda folder: (counting.counter_of(folder), models._local(folder)),
}  # fmt: skip


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once code of a stranger ran. Whoever is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.setattr("sys.path", [*sys.path])
    return tmp_path / "code ran"


def model_folder(folder: Path, **config: Any) -> str:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<unk>"
    ).save_pretrained(folder)
    labels = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    (folder / "config.json").write_text(
        json.dumps(
            {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}} | config
        )
    )
    return str(folder)


def with_code(folder: Path, marker: Path) -> str:
    parts = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    found = model_folder(
        folder, model_type="stranger", auto_map=dict.fromkeys(parts, "stranger.Its")
    )
    own = json.loads((folder / "tokenizer_config.json").read_text())
    own |= {"auto_map": {"AutoTokenizer": ["stranger.Its", None]}, "tokenizer_class": "Its"}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    (folder / "stranger.py").write_text(
        f"open({str(marker)!r}, 'w')\nfrom transformers import PretrainedConfig\nclass Its(PretrainedConfig): pass\n"
    )
    return found


def with_pickle(folder: Path, marker: Path) -> str:
    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(marker), "w")

    size = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 8,
    }
    found = model_folder(folder, model_type="llama", architectures=["LlamaForCausalLM"], **size)
    torch.save({"model.embed_tokens.weight": Evil()}, folder / "pytorch_model.bin")
    return found


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("make", [with_code, with_pickle], ids=["remote code", "pickle"])
def test_a_model_that_brings_code_does_not_get_to_run_it(
    make: Callable[[Path, Path], str], kind: str, tmp_path: Path, marker: Path
) -> None:
    source = make(tmp_path / "model", marker)
    with suppress(
        PluralismError, OSError, ValueError, UnpicklingError
    ):  # or read without running anything
        LOADERS[kind](source)
    assert not marker.exists()


def test_that_code_would_have_run(tmp_path: Path, marker: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.from_pretrained(with_code(tmp_path / "a", marker), trust_remote_code=True)
    assert marker.exists()
    marker.unlink()
    with_pickle(tmp_path / "b", marker)
    torch.load(tmp_path / "b" / "pytorch_model.bin", weights_only=False)
    assert marker.exists()


def test_an_adapter_that_makes_peft_import_modules_is_refused(tmp_path: Path) -> None:
    good = Path(adapters.__file__).parent / "embedded" / "adapters" / "news_left"
    own = json.loads((good / adapters.CONFIG).read_text())
    own |= {"megatron_config": {"a": 1}, "megatron_core": "stranger"}
    (tmp_path / adapters.CONFIG).write_text(json.dumps(own))
    (tmp_path / adapters.WEIGHTS).write_bytes((good / adapters.WEIGHTS).read_bytes())
    entry = Community("mine", "d", base="embedded", adapter=str(tmp_path))
    with pytest.raises(PluralismError, match="megatron_config, which makes PEFT import a module"):
        adapters.resolve_all([entry])


# ---------------------------------------------------------------------- files of strangers


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
MERGES = "a0: &a0 {a: 1, b: 2, c: 3}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALIASES, "aliases .* make more than 100,000 values"),
        (MERGES, "aliases .* make more than 100,000 values"),
        ("&a [*a]", "aliases .* make more than 100,000 values"),
        ("[" * 600, "nested more than 100 levels"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: \0", "(special|control) characters are not allowed"),
    ],
    ids=["aliases", "merges", "itself", "deep", "python", "zero"],
)
def test_hostile_yaml_is_one_error(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(text)
    for read in (lambda: load_pool(str(file)), lambda: Prompts(str(file))):
        with pytest.raises(PluralismError, match=said):
            read()


def test_a_huge_yaml_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(20 << 30)
    with pytest.raises(PluralismError, match="at most 4,194,304 are read"):
        read_yaml(file, "communities")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ query.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ self.__init__.__globals__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
        ("{{ messages.append('x') }}", "unsafe|not safely callable"),
        ("{% for i in range(10 ** 9) %}x{% endfor %}", "Range too big"),
        ("{% include '/etc/passwd' %}", "no loader"),
    ],
)
def test_prompts_of_a_stranger_reach_nothing_but_their_variables(
    template: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text(json.dumps({"moe": {"respond": template}}))
    with pytest.raises(PluralismError, match=said):
        Prompts(str(file)).render("moe", "respond", query="q", messages=["m"], attribute="")


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", "..", "a\\b", "a b", "é", "x\x1b[2J", "", "__base__"]
)
def test_a_name_of_a_community_is_no_path(name: str, tmp_path: Path) -> None:
    entry = {
        "name": name,
        "description": "d",
        "engine": "prompted",
        "base": "embedded",
        "persona": "p",
    }
    file = tmp_path / "pool.yaml"
    file.write_text(json.dumps([entry]))
    with pytest.raises(PluralismError, match=r"letters, digits, _ and - only|missing"):
        load_pool(str(file))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/nli", ("org/nli", "main", None)),
        ("org/nli:float32", ("org/nli", "main", "float32")),
        ("org/nli@v1", ("org/nli", "v1", None)),
        ("org/nli@0123abc:float16", ("org/nli", "0123abc", "float16")),
    ],
)
def test_an_entailment_model_is_pinned_by_its_name(
    name: str, expected: tuple[str, str, str | None]
) -> None:
    assert nli_classifier._split(name) == expected


def test_a_folder_with_such_a_name_is_a_folder(tmp_path: Path) -> None:
    for name in ("a@b", "a:float32"):
        (tmp_path / name).mkdir()
        assert nli_classifier._split(str(tmp_path / name)) == (str(tmp_path / name), "main", None)
    both = f"{tmp_path / 'a@b'}:float32"
    assert nli_classifier._split(both) == (str(tmp_path / "a@b"), "main", "float32")
