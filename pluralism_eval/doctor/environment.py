"""Python, packages, devices, threads, and whether plain ``lm_eval`` finds our names."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pluralism_eval._hook import OPT_OUT
from pluralism_eval.doctor import embedding
from pluralism_eval.doctor.findings import Blocked, Finding, of_error
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.tasks import OVERTON

_NAME = "pluralism-eval"
_API = "pip install 'lm-eval[api]'"
_REQUIRED = ("options", "install_requires")
_HOOK_SECONDS = 60
_SHOWN = ("lm-eval", "transformers", "torch", "peft")


def packages(_: Run) -> list[Finding]:
    """Python and what setup.cfg requires, against what is installed."""
    check = "packages"
    python = sys.version.split()[0]
    try:
        wanted, required = requirements()
    except importlib.metadata.PackageNotFoundError:
        seen = f"Python {python}; {_NAME} is not installed as a package, so its requirements are unknown"
        return [Finding(check, "warning", seen, "pip install . (in a checkout: pip install -e .)")]
    found = []
    if wanted and not SpecifierSet(wanted).contains(python, prereleases=True):
        do = f"make an environment with Python {wanted}"
        found.append(Finding(check, "problem", f"Python {python}, {wanted} is needed", do))
    versions: dict[str, str] = {}
    for requirement in required:
        try:
            version = versions[requirement.name] = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            seen = f"{requirement.name} is not installed"
            found.append(Finding(check, "problem", seen, f"pip install '{requirement}'"))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            seen = f"{requirement.name} is {version}, {requirement.specifier} is needed"
            found.append(Finding(check, "problem", seen, f"pip install '{requirement}'"))
    shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
    seen = f"Python {python}; {shown}; all {len(versions)} requirements are met"
    return found or [Finding(check, "ok", seen)]


def requirements() -> tuple[str, list[Requirement]]:
    """(of Python, of packages): setup.cfg's in a checkout, whose installed copy may be older."""
    config = ConfigParser()
    importlib.metadata.version(_NAME)  # raises where it is not installed
    config.read(Path(__file__).parents[2] / "setup.cfg")
    if config.get("metadata", "name", fallback="") == _NAME and config.has_option(*_REQUIRED):
        lines = config.get(*_REQUIRED).split("\n")
        python = config.get("options", "python_requires", fallback="")
        return python, [Requirement(line) for line in lines if line.strip()]
    texts = importlib.metadata.requires(_NAME) or []
    known = [Requirement(text) for text in texts]
    python = str(importlib.metadata.metadata(_NAME)["Requires-Python"] or "")
    return python, [r for r in known if not r.marker or r.marker.evaluate({"extra": ""})]


def optional_packages(run: Run) -> list[Finding]:
    """Packages that this configuration needs beyond the required ones."""
    s, args = run.settings, run.settings.llm_args
    wanted: list[tuple[str, str, str]] = []  # (module, what for, how to get it)
    if s.llm.startswith("vllm"):
        wanted.append(("vllm", f"llm={s.llm}", "pip install vllm"))
    if any(c.engine == "vllm" for c in run.communities):
        do = "pip install vllm, or write engine: lora in the pool"
        wanted.append(("vllm", "communities of engine vllm", do))
    if s.llm.startswith("sglang"):
        wanted.append(("sglang", f"llm={s.llm}", "pip install sglang"))
    if run.kind == "api":
        names = ["aiohttp", "tenacity"]
        names += ["tiktoken"] if s.llm == "openai-completions" else []
        wanted += [(name, f"llm={s.llm}", _API) for name in names]
    if s.llm.startswith("anthropic"):
        wanted.append(("anthropic", f"llm={s.llm}", "pip install anthropic"))
    if args.get("load_in_4bit") or args.get("load_in_8bit"):
        wanted.append(("bitsandbytes", "load_in_4bit, load_in_8bit", "pip install bitsandbytes"))
    if args.get("attn_implementation") == "flash_attention_2":
        do = "pip install flash-attn, or attn_implementation=sdpa"
        wanted.append(("flash_attn", "attn_implementation=flash_attention_2", do))
    if run.preset.splitter == "sentence_splitter" and OVERTON in run.tasks[0]:
        do = f"pip install 'pluralism-eval[reference]', or preset={s.preset}+splitter=sentencex"
        wanted.append(("sentence_splitter", f"preset={s.preset}", do))
    if embedding.in_use(run) and embedding.state() == "packed":
        wanted.append(("gguf", "unpacking the embedded model", "pip install gguf"))
    missing = [w for w in wanted if find_spec(w[0]) is None]
    if missing:
        return [
            Finding("optional packages", "problem", f"{module} is missing, for {what}", do)
            for module, what, do in missing
        ]
    there = ", ".join(dict.fromkeys(module for module, _, _ in wanted))
    seen = f"there: {there}" if there else "this configuration needs none"
    return [Finding("optional packages", "ok", seen)]


# ---------------------------------------------------------------------- the machine


def devices(run: Run) -> list[Finding]:
    """torch's build, what it can compute on, and whether that is what ``--device`` asks for."""
    import torch

    check, asked = "devices", run.asked.device
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    parts = [f"torch {torch.__version__}"]
    for i in range(gpus):
        free, total = torch.cuda.mem_get_info(i)
        name = torch.cuda.get_device_name(i)
        parts.append(f"cuda:{i} {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    if torch.backends.mps.is_available():
        parts.append("mps")
    seen = "; ".join(parts if len(parts) > 1 else [*parts, "no GPU: all runs on the CPU"])
    found = []
    if not gpus and has_nvidia():
        build = (
            "this torch is built without CUDA"
            if torch.version.cuda is None
            else "torch cannot use it"
        )
        do = "install the CUDA build (pytorch.org), or look at nvidia-smi and CUDA_VISIBLE_DEVICES"
        found.append(Finding(check, "warning", f"there is an NVIDIA GPU, but {build}", do))
    if asked and asked.startswith("cuda"):
        number = asked.partition(":")[2] or "0"
        if not gpus:
            do = "run where there is a GPU, or drop --device"
            lost = f"--device {asked}, but torch sees no CUDA device: transformers models run on the CPU"
            found.append(Finding(check, "warning", lost, do))
        elif not number.isdigit() or int(number) >= gpus:
            do = f"Allowed: cuda, cuda:0 to cuda:{gpus - 1}"
            found.append(
                Finding(check, "problem", f"--device {asked}: torch sees {gpus} GPU(s)", do)
            )
    elif asked and asked not in ("cpu", "mps", "mps:0"):
        do = "Allowed: cuda, cuda:N, mps, cpu"
        found.append(Finding(check, "problem", f"--device {asked!r} is unknown", do))
    elif asked and asked.startswith("mps") and not torch.backends.mps.is_available():
        do = "drop --device"
        found.append(Finding(check, "problem", f"--device {asked}: torch sees no MPS here", do))
    if gpus > 1 and ranks() == 1 and not _parallel(run):
        do = "accelerate launch -m lm_eval ... (a copy each), or parallelize=True (one model over all)"
        found.append(Finding(check, "warning", f"{gpus} GPUs, one of which is used", do))
    if not re.fullmatch(r"\d+|auto(:\d+)?", str(run.asked.batch_size)):
        do = "Allowed: a whole number, auto, auto:N"
        found.append(Finding(check, "problem", f"--batch_size {run.asked.batch_size!r}", do))
    return found or [Finding(check, "ok", seen)]


def has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or bool(shutil.which("nvidia-smi"))


def _parallel(run: Run) -> bool:
    try:
        return bool(run.settings.llm_args.get("parallelize"))
    except Blocked:
        return False


def ranks() -> int:
    """Processes of this launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def threads(_: Run) -> list[Finding]:
    """Threads of all processes of this launch against the cores that they may use."""
    import torch

    cores, own, n = usable_cores(), torch.get_num_threads(), ranks()
    seen = f"{own} threads on {cores} cores" + (f", {n} processes" if n > 1 else "")
    if own * n > cores:
        do = f"set OMP_NUM_THREADS={max(1, cores // n)}: more threads than cores fight each other"
        return [Finding("threads", "warning", seen, do)]
    return [Finding("threads", "ok", seen)]


def usable_cores() -> int:
    """Cores of this process: its affinity, and the container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


# ---------------------------------------------------------------------- the import hook


def import_hook(run: Run) -> list[Finding]:
    """Does plain ``lm_eval``, in a process of its own, know our models?"""
    check = "import hook"
    do = "use `pluralism-eval run` (same flags), or reinstall: pip install --force-reinstall --no-deps ."
    if os.environ.get(OPT_OUT, "") not in ("", "0"):
        return [Finding(check, "warning", f"{OPT_OUT} is set: plain lm_eval does not know our models",
                        f"unset {OPT_OUT}, or use `pluralism-eval run`")]  # fmt: skip
    try:
        error = plain_lm_eval(run.asked.model)
    except PluralismError as failure:
        return of_error(check, failure, do)
    if error:
        return [Finding(check, "warning", error, do)]
    ours, first = Path(sysconfig.get_path("scripts")) / "lm_eval", shutil.which("lm_eval")
    if first and ours.exists() and Path(first).resolve() != ours.resolve():
        seen = f"PATH finds another lm_eval first: {first}, this environment's is {ours}"
        do = f"type {ours}, or activate this environment"
        return [Finding(check, "warning", seen, do)]
    return [Finding(check, "ok", f"plain lm_eval finds {run.asked.model}")]


@lru_cache
def plain_lm_eval(model: str) -> str:
    """Why a new interpreter's lm-eval does not know ``model``; empty if it does."""
    code = (
        "import lm_eval.models, sys; from lm_eval.api.registry import model_registry as r; "
        "print('known' if sys.argv[1] in r else 'unknown')"
    )
    command = [sys.executable, "-c", code, model if re.fullmatch(r"[\w-]+", model) else "moe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_HOOK_SECONDS, cwd="/", check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PluralismError(f"a new interpreter could not be asked: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return f"plain lm_eval does not start: {last[:300]}"
    if done.stdout.split()[-1:] == ["known"]:
        return ""
    return f"plain lm_eval does not know {model}: pluralism_eval_hook.pth is not in site-packages"
