"""Generated files at work: the SLURM array with stand-ins for SLURM, Ray and vLLM; the pool on real adapters."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import cli
from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.communities.pool import make_pool
from pluralism_eval.llm import embedded
from pluralism_eval.llm.load import load_llm
from pluralism_eval.messages import task_queries
from pluralism_eval.prompts import Prompts
from pluralism_eval.serving.plan import make_plan
from pluralism_eval.serving.servers import Choices
from pluralism_eval.settings import parse
from tests.openai_server import Reply, serve

VLLM = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

words = sys.argv[1:]
value = lambda flag: words[words.index(flag) + 1]
record, name = Path(os.environ["RECORD"]), "communities" if "--enable-lora" in words else "llm"
kept = {n: os.environ.get(n) for n in ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY", "RAY_ADDRESS", "VLLM_HOST_IP")}
(record / f"{name}.json").write_text(json.dumps({"words": words, "pid": os.getpid(), **kept}))
fault = os.environ.get(f"FAULT_{name}", "")
if fault == "dies":
    sys.exit("CUDA out of memory")
if fault == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
began = time.time()
names = [value("--served-model-name"), *(w.split("=")[0] for w in words if "=" in w)]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            ready = fault != "never" and time.time() - began > 0.5
            return self.reply(200 if ready else 503, {})
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.reply(401, {})
        self.reply(200, {"data": [{"id": n} for n in names]})

    def reply(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass

ThreadingHTTPServer((value("--host"), int(value("--port"))), Handler).serve_forever()
"""

# Stands for lm_eval: both servers must answer to the key; it leaves what a run leaves.
LM_EVAL = """
import json, os, sys, time, urllib.request
from pathlib import Path

words = sys.argv[1:]
record, cache = Path(os.environ["RECORD"]), Path(os.environ["PLURALISM_EVAL_CACHE"])
served = []
for url in os.environ["URLS"].split():
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["PLURALISM_API_KEY"]})
    served += [m["id"] for m in json.load(urllib.request.urlopen(request))["data"]]
store = cache / "messages.sqlite"
row = {"words": words, "cache": str(cache), "served": served, "messages": store.read_text() if store.exists() else None,
       "links": sorted(p.name for p in cache.iterdir() if p.is_symlink()), "pid": os.getpid(), "no_proxy": os.environ["no_proxy"]}
store.write_text(f"of {cache.name}")
with (record / "runs.jsonl").open("a") as file:
    file.write(json.dumps(row) + chr(10))
if os.environ.get("SLOW"):
    time.sleep(60)
sys.exit(int(os.environ.get("STATUS", "0")))
"""

SRUN = """
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    if words[0].startswith("--nodelist="):
        os.environ["ON"] = words[0].split("=")[1]
    words.pop(0)
os.execvp(words[0], words)
"""

SCONTROL = """
import os, sys
from pathlib import Path
if sys.argv[1:3] == ["show", "hostnames"]:
    print(chr(10).join(sys.argv[3].split(",")))
else:
    with (Path(os.environ["RECORD"]) / "scontrol").open("a") as file:
        print(*sys.argv[1:], file=file)
"""

RAY = """
import json, os, sys, time
from pathlib import Path
record = Path(os.environ["RECORD"])
if sys.argv[1] == "start":
    row = {"words": sys.argv[1:], "on": os.environ["ON"], "pid": os.getpid(), "ip": os.environ["VLLM_HOST_IP"],
           "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}
    (record / f"ray-{os.environ['ON']}.json").write_text(json.dumps(row))
    time.sleep(120)
print(" 0.0/1.0 CPU", f" 0.0/{2.0 * len(list(record.glob('ray-*.json')))} GPU", sep=chr(10))
"""

HOSTNAME = """
import os
print("127.0.1.1 10.0.0." + os.environ["ON"].removeprefix("node"))
"""


@dataclass
class Cluster:
    """A job script and the stand-ins that it finds on its PATH."""

    folder: Path
    record: Path
    environment: dict[str, str]

    def start(self, element: int = 0, **more: str) -> subprocess.Popen[str]:
        given = {
            "SLURM_ARRAY_JOB_ID": "41",
            "SLURM_JOB_ID": "42",
            "SLURM_ARRAY_TASK_ID": str(element),
        }
        return subprocess.Popen(
            ["bash", self.folder / "job.slurm"],
            env=self.environment | given | more,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, element: int = 0, **more: str) -> tuple[int, str]:
        """(exit status, what the job said)."""
        job = self.start(element, **more)
        _, said = job.communicate(timeout=60)
        return job.returncode, said

    def runs(self) -> list[dict[str, Any]]:
        file = self.record / "runs.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def seen(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.record / f"{name}.json").read_text())
        return found

    def requeued(self) -> list[str]:
        file = self.record / "scontrol"
        return file.read_text().splitlines() if file.exists() else []

    def nothing_is_left(self) -> bool:
        """A process that was killed may take a moment to be gone."""
        pids = [json.loads(path.read_text())["pid"] for path in self.record.glob("*.json")]
        everyone = [*pids, *(r["pid"] for r in self.runs())]
        for _ in range(50):
            if not any(alive(pid) for pid in everyone):
                return bool(pids)
            time.sleep(0.1)
        return False


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def free_ports(count: int) -> int:
    """The first of ``count`` free ports in a row."""
    for first in range(20000 + os.getpid() % 20000, 64000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")


def cluster(tmp_path: Path, *more: str) -> Cluster:
    folder, record, bin, port = tmp_path / "it's ours", tmp_path / "record", tmp_path / "bin", free_ports(2)  # fmt: skip
    tasks = "pluralism_steerable_vk,pluralism_overton_nli"
    given = ["embedded", "--llm", "org/large", "--port", str(port), "--tasks", tasks, *more]
    assert cli.main(["serve", *given, "--output", str(folder)]) == 0
    record.mkdir()
    bin.mkdir()
    programs = {"vllm": VLLM, "lm_eval": LM_EVAL, "srun": SRUN, "scontrol": SCONTROL, "ray": RAY, "hostname": HOSTNAME}  # fmt: skip
    for name, text in programs.items():
        (bin / name).write_text(f"#!{sys.executable}\n{text}")
        (bin / name).chmod(stat.S_IRWXU)
    environment = {
        "PATH": f"{bin}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "RECORD": str(record),
        "URLS": " ".join(f"http://127.0.0.1:{p}/v1/models" for p in (port, port + 1)),
        "HEALTH_LIMIT": "20",
        "HEALTH_EVERY": "0.2",
        "STOP_LIMIT": "10",
        "SLURM_JOB_NODELIST": "node1,node2",
    }
    return Cluster(folder, record, environment)


@pytest.fixture(autouse=True)
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "model" not in request.keywords:  # else the embedded model would be unpacked
        monkeypatch.setattr(embedded, "_gguf", lambda: None)


# ---------------------------------------------------------------------- the array


def test_job_serves_runs_and_stops(tmp_path: Path) -> None:
    slurm = cluster(tmp_path)
    status, said = slurm.run()
    assert status == 0, said
    assert slurm.nothing_is_left()
    communities, llm = slurm.seen("communities"), slurm.seen("llm")
    assert (llm["CUDA_VISIBLE_DEVICES"], communities["CUDA_VISIBLE_DEVICES"]) == ("0", "1")
    assert len(communities["VLLM_API_KEY"]) == 32  # none was given, so the job made one
    (run,) = slurm.runs()
    assert len(run["served"]) == 8  # two bases and six adapters
    assert run["words"][:4] == ["--model", "modular_pluralism", "--tasks", "pluralism_steerable_vk"]
    assert run["words"][-4:] == [
        "--use_cache", f"{slurm.folder}/cache/0/answers", "--output_path", f"{slurm.folder}/results/0",
    ]  # fmt: skip
    assert run["links"] == ["adapters", "data", "models"]
    assert run["no_proxy"].startswith("127.0.0.1")
    status, said = slurm.run()
    assert (status, len(slurm.runs())) == (0, 1)
    assert "is done" in said


def test_other_elements_begin_with_the_firsts_messages_in_a_store_of_their_own(
    tmp_path: Path,
) -> None:
    slurm = cluster(tmp_path)
    given = {
        "PLURALISM_API_KEY": "given-by-the-user",
        "PLURALISM_EVAL_CACHE": str(tmp_path / "shared"),
    }
    assert slurm.run(0, **given)[0] == 0
    assert slurm.run(1, **given)[0] == 0
    first, second = slurm.runs()
    assert (first["messages"], second["messages"]) == (None, "of 0")
    assert first["cache"] != second["cache"]
    assert second["words"][3] == "pluralism_overton_nli"
    assert slurm.seen("llm")["VLLM_API_KEY"] == "given-by-the-user"
    assert (slurm.folder / "messages.sqlite").read_text() == "of 0"
    assert (slurm.folder / "cache/1/data").resolve() == tmp_path / "shared/data"
    assert not any("given-by-the-user" in p.read_text() for p in slurm.folder.rglob("*.log"))
    assert slurm.run(2)[0] == 1


def running(slurm: Cluster, **more: str) -> subprocess.Popen[str]:
    """A job in the midst of its run."""
    job = slurm.start(SLOW="1", **more)
    until = time.monotonic() + 30
    while not slurm.runs() and time.monotonic() < until:
        time.sleep(0.1)
    assert slurm.runs()
    return job


def test_near_the_time_limit_it_requeues_itself_and_goes_on_from_its_store(tmp_path: Path) -> None:
    slurm = cluster(tmp_path)
    job = running(slurm)
    job.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=30)
    assert job.returncode == 0, said
    assert slurm.requeued() == ["requeue 41_0"]
    assert slurm.nothing_is_left()
    assert not (slurm.folder / "results/0/done").exists()
    status, said = slurm.run(SLURM_RESTART_COUNT="1")
    assert status == 0, said
    first, second = slurm.runs()
    assert second["messages"] == "of 0"
    assert (first["words"], first["cache"]) == (second["words"], second["cache"])
    assert "restart 1" in said


def test_it_does_not_requeue_for_ever(tmp_path: Path) -> None:
    slurm = cluster(tmp_path)
    job = running(slurm, SLURM_RESTART_COUNT="10")
    job.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "requeued 10 times already" in said
    assert slurm.requeued() == []
    assert slurm.nothing_is_left()


def test_told_to_stop_it_stops_its_servers_even_one_that_will_not(tmp_path: Path) -> None:
    """Preemption: SLURM requeues by itself."""
    slurm = cluster(tmp_path)
    job = running(slurm, FAULT_llm="stays", STOP_LIMIT="2")
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=30)
    assert job.returncode == 143
    assert slurm.nothing_is_left(), said
    assert slurm.requeued() == []


@pytest.mark.parametrize("name", ["llm", "communities"])
def test_a_server_that_never_answers_is_an_error_within_the_limit(
    tmp_path: Path, name: str
) -> None:
    slurm = cluster(tmp_path)
    began = time.monotonic()
    status, said = slurm.run(**{f"FAULT_{name}": "never", "HEALTH_LIMIT": "2"})
    assert status == 1
    assert time.monotonic() - began < 20
    assert f"{name} did not answer within HEALTH_LIMIT=2 seconds" in said
    assert str(slurm.folder / "logs/0" / f"{name}.log") in said
    assert slurm.nothing_is_left()
    assert slurm.runs() == []


def test_a_server_that_dies_shows_its_log(tmp_path: Path) -> None:
    slurm = cluster(tmp_path)
    status, said = slurm.run(FAULT_communities="dies")
    assert status == 1
    assert "CUDA out of memory" in said
    assert "communities ended before it answered" in said
    assert slurm.nothing_is_left()


def test_a_strangers_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    slurm = cluster(tmp_path)
    words = next(
        line
        for line in (slurm.folder / "job.slurm").read_text().splitlines()
        if "--enable-lora" in line
    )
    stranger = subprocess.Popen(
        [tmp_path / "bin" / "vllm", *shlex.split(words)[2:]],
        env=slurm.environment | {"VLLM_API_KEY": "another", "RECORD": str(tmp_path)},
    )
    try:
        time.sleep(1.5)
        status, said = slurm.run()
    finally:
        stranger.kill()
        stranger.wait()
    assert status == 1
    assert "communities ended before it answered" in said
    assert "Address already in use" in said
    assert slurm.runs() == []
    assert slurm.nothing_is_left()


def test_a_failed_run_is_not_done(tmp_path: Path) -> None:
    slurm = cluster(tmp_path)
    status, said = slurm.run(STATUS="3")
    assert status == 1
    assert "the run ended with status 3" in said
    assert slurm.nothing_is_left()
    assert not (slurm.folder / "results/0/done").exists()
    assert slurm.run()[0] == 0


def test_two_nodes_join_through_ray_before_vllm_starts(tmp_path: Path) -> None:
    slurm = cluster(tmp_path, "--nodes", "2", "--tensor-parallel", "2", "--community-gpu", "0")
    status, said = slurm.run()
    assert status == 0, said
    head, worker = slurm.seen("ray-node1"), slurm.seen("ray-node2")
    assert (head["ip"], worker["ip"]) == ("10.0.0.1", "10.0.0.2")  # not the loopback address
    assert "--head" in head["words"]
    assert "--num-gpus=2" in worker["words"]
    assert "--address=10.0.0.1:6379" in worker["words"]
    assert head["gpus"] == worker["gpus"] == "0,1"
    llm, communities = slurm.seen("llm"), slurm.seen("communities")
    assert (llm["RAY_ADDRESS"], llm["VLLM_HOST_IP"]) == ("10.0.0.1:6379", "10.0.0.1")
    assert communities["RAY_ADDRESS"] is None
    assert "--pipeline-parallel-size" in llm["words"]
    assert said.index("communities answers") < said.index("started llm")  # one GPU: in turn
    assert slurm.nothing_is_left()
    status, said = slurm.run(1, SLURM_JOB_NODELIST="node1")
    assert status == 1
    assert "2 nodes are needed, SLURM gave: node1" in said


# ---------------------------------------------------------------------- the pool

POOL = "embedded/news_left+embedded/social_right"


@pytest.fixture(scope="module")
def llm() -> Any:
    return load_llm(parse("vanilla", {}), batch_size=1)


@pytest.fixture(scope="module")
def server(llm: Any) -> Iterator[str]:
    """The embedded base and two of its adapters, under the names that `serve` gives them."""
    (wanted,) = make_plan(POOL, Choices()).communities
    members = adapters.resolve_all(load_pool(POOL))
    names = {lora.served: name for lora, name in zip(wanted.loras, members, strict=True)}
    engine, lock = LoraEngine("embedded", members, llm), threading.Lock()

    def answer(body: dict[str, Any]) -> Reply:
        sampling = Sampling(body["max_tokens"], temperature=body.get("temperature", 1.0))
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        with lock:
            if body["model"] in names:
                job = Job("k", names[body["model"]], prompt, 0, chat)
                ((_, out),) = engine.generate([job], sampling)
            else:
                local = engine._local
                ((_, out),) = local.sample(local.model, [local.tokens(prompt, chat)], [0], sampling)
        return out.text, out.n_tokens, "stop" if out.stopped else "length", None

    with serve([wanted.served, *names], answer) as url:
        yield url


@pytest.mark.model
def test_pool_file_writes_the_messages_of_the_lora_engine(
    server: str, llm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLURALISM_API_KEY", "any")
    port = server.rsplit(":", 1)[1].removesuffix("/v1")
    assert cli.main(["serve", POOL, "--port", port, "--output", str(tmp_path / "out")]) == 0
    texts = []
    for communities in (str(tmp_path / "out/pool.yaml"), POOL):
        given = {
            "communities": communities, "messages": str(tmp_path / f"store{len(texts)}"), "message_max_tokens": 32,
            "message_temperature": 0, "orders": 1,
        }  # fmt: skip
        settings = parse("modular_pluralism", given)
        queries = task_queries(["pluralism_distributional_moralchoice"], settings, {"data": "sample"}, 1)  # fmt: skip
        pool = make_pool(settings, Prompts(None))
        pool.check(queries, llm)  # every name is served, and none answers as the base
        kind = "logits" if communities == POOL else "answers"
        assert {proof["kind"] for proof in pool.proofs().values()} == {kind}
        texts.append([(m.community, m.text) for m in pool.messages(queries, llm)[0]])
    assert texts[0] == texts[1]
    assert len({text for _, text in texts[0]}) == 2
