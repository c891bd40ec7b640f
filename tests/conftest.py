"""Shared doubles and paths. ``ScriptedLM`` is an lm-eval model whose every answer is known."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: threads of two workers would fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PLURALISM_EVAL_NLI"] = "embedded"
os.environ["PLURALISM_EVAL_LISTENING"] = "off"  # tests/unit/test_listening.py asks for it

from lm_eval.api.model import LM
from lm_eval.api.registry import model_registry
from torch.utils import collect_env

from pluralism_eval import plugin

# every evaluation of lm-eval lists the installed packages in a process of its own: a second each
collect_env.get_pretty_env_info = cache(collect_env.get_pretty_env_info)
settings.register_profile("suite", deadline=None)  # a loaded machine is slow, not wrong
settings.load_profile("suite")

ROOT = Path(__file__).parent.parent
_given = os.environ.get("PLURALISM_EVAL_TEST_DATA")
TEST_DATA = Path(_given) if _given else ROOT.parent / "shared" / "data"
AUTHORS_INPUTS = TEST_DATA / "authors_inputs"
needs_authors_inputs = pytest.mark.skipif(
    not AUTHORS_INPUTS.is_dir(), reason=f"the authors' inputs are not at {AUTHORS_INPUTS}"
)


def scripted_logprob(context: str, continuation: str) -> float:
    """A log-probability in [-5, -1] that depends on both texts."""
    seed = hashlib.sha256(f"{context}\0{continuation}".encode()).digest()
    return -1 - 4 * seed[0] / 255


class ScriptedLM(LM):
    """Scores by hash, generates by rule; keeps every prompt it saw in ``seen``."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012 - reset by the fixture
    reply: Callable[[str], str] = staticmethod(lambda prompt: "2")
    can_score = True

    def __init__(self, pretrained: str = "scripted", max_length: int = 4096, **_: Any) -> None:
        super().__init__()
        self.max_length = max_length

    def tok_encode(self, text: str) -> list[str]:
        return re.findall(r"\w+|\W", text)

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        if not self.can_score:
            raise NotImplementedError
        self.seen.extend(("score", r.args[0]) for r in requests)
        return [(scripted_logprob(*r.args), False) for r in requests]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        return [float(-len(r.args[0])) for r in requests]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.seen.extend(("generate", r.args[0]) for r in requests)
        return [type(self).reply(r.args[0]) for r in requests]

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        turns = "".join(f"<{t['role']}>{t['content']}</>" for t in chat_history)
        return turns + ("<assistant>" if add_generation_prompt else "")


def scripted_letter(context: str, letter: str) -> float:
    """What HarnessLLM must report for ``letter``: both spellings summed."""
    return math.log(
        sum(math.exp(scripted_logprob(context, form)) for form in (f" {letter}", letter))
    )


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedLM]:
    """``llm=scripted`` for one test."""
    plugin.register_models()
    if "scripted" not in model_registry:
        model_registry.register("scripted", target=ScriptedLM)
    monkeypatch.setattr(ScriptedLM, "seen", [])
    monkeypatch.setattr(ScriptedLM, "can_score", True)
    return ScriptedLM


NAMES = ("news_left", "news_center", "news_right", "social_left", "social_center", "social_right")


@pytest.fixture(autouse=True)
def own_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies of servers are kept by address, and addresses of test servers come again."""
    monkeypatch.setattr("pluralism_eval.api.client.cache_root", lambda: tmp_path / "replies")


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], str]:
    """Writes message files as the authors export them; returns the folder."""
    folder = tmp_path / "community_lm_msgs"

    def write(source_input: str, items: list[dict[str, Any]]) -> str:
        folder.mkdir(exist_ok=True)
        for name in NAMES:
            texts = {
                str(item["id"]): f"{name} says something about {item['id']}." for item in items
            }
            (folder / f"{source_input}_mistral-{name}.json").write_text(json.dumps(texts))
        return str(folder)

    return write


@pytest.fixture(scope="session")
def task_manager() -> Callable[..., Any]:
    """TaskManager over our tasks only (the built-in ones take half a minute to index)."""
    from lm_eval.tasks import TaskManager

    def make(**metadata: Any) -> Any:
        return TaskManager(
            include_path=str(plugin.task_folder()), include_defaults=False, metadata=metadata
        )

    return make
