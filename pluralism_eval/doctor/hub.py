"""What comes from the Hugging Face Hub, whether it is in the cache, and whether the Hub can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pluralism_eval.doctor.findings import Blocked, Finding, one_line
from pluralism_eval.json_files import read_json

if TYPE_CHECKING:
    from pluralism_eval.doctor.run import Run

_SECONDS = 3.0
_CONFIGS = {"adapter": "adapter_config.json", "tokenizer": "tokenizer_config.json"}


@dataclass(frozen=True)
class Repo:
    """A repository that the run reads."""

    what: str
    """``LLM``, ``base of NAME``, ``adapter of NAME``, ``tokenizer``, ``scorer``."""
    id: str
    revision: str = "main"


@dataclass
class Hub:
    needed: list[Repo]
    missing: list[Repo]
    """Of them, what the cache has not, or not all of."""
    offline: bool
    """A variable forbids the network."""
    reachable: bool

    @classmethod
    def of(cls, repos: list[Repo]) -> Hub:
        from huggingface_hub import constants

        offline = bool(constants.HF_HUB_OFFLINE)
        reachable = bool(repos) and not offline and can_reach(constants.ENDPOINT)
        if not reachable:  # or each library would try by itself, for minutes
            constants.HF_HUB_OFFLINE = True
        return cls(repos, [r for r in repos if not is_cached(r)], offline, reachable)

    def require(self, name: str) -> None:
        """Raises Blocked where ``name`` is a repository that cannot be had."""
        if not self.reachable and any(repo.id == name for repo in self.missing):
            raise Blocked("hub")


@contextmanager
def restored() -> Iterator[None]:
    """Takes back what :meth:`Hub.of` switched off."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def needed(run: Run) -> list[Repo]:
    """Everything that is neither a folder nor in the package."""
    from pluralism_eval.doctor import embedding
    from pluralism_eval.doctor.inputs import scorers
    from pluralism_eval.llm.embedded import HUB_ID
    from pluralism_eval.metrics.entailment import JUDGE

    s, args = run.settings, run.settings.llm_args
    found: list[Repo] = []
    if s.llm not in ("embedded", "openai"):
        if (
            run.kind in ("transformers", "engine")
            and args.get("pretrained")
            and "gguf_file" not in args
        ):
            found.append(
                Repo("LLM", str(args.get("pretrained")), str(args.get("revision", "main")))
            )
        if args.get("tokenizer"):
            found.append(Repo("tokenizer", str(args["tokenizer"])))
    for c in run.communities:
        if c.adapter:
            if c.base != "embedded":
                found.append(Repo(f"base of {c.name}", c.base, c.base_revision))
            if not c.adapter.startswith(("embedded/", "control/")):
                found.append(Repo(f"adapter of {c.name}", c.adapter, c.revision))
        elif c.engine == "prompted" and not c.base_url and c.base != "embedded":
            found.append(Repo(f"base of {c.name}", c.base, c.base_revision))
    found += [
        Repo("scorer", name.rsplit(":", 1)[0] if ":" in name else name)
        for name in scorers(run)
        if name != "embedded" and not name.startswith(JUDGE)
    ]
    if embedding.in_use(run) and embedding.state() == "hub":
        found.append(Repo(embedding.NAME, HUB_ID))
    unique = {(repo.id, repo.revision): repo for repo in reversed(found)}
    return [repo for repo in reversed(unique.values()) if not Path(repo.id).exists()]


def is_cached(repo: Repo) -> bool:
    """Configuration and, but for tokenizers, all weights are in the cache."""
    from huggingface_hub import try_to_load_from_cache

    kind = repo.what.split(" ")[0]
    try:
        found = try_to_load_from_cache(
            repo.id, _CONFIGS.get(kind, "config.json"), revision=repo.revision
        )
    except ValueError:  # no id of a repository at all
        return False
    if not isinstance(found, str):
        return False
    return kind == "tokenizer" or has_weights(Path(found).parent)


def has_weights(folder: Path) -> bool:
    """All weight files that an index names, or any at all."""
    for index in folder.glob("*.index.json"):
        try:
            names = set(read_json(index)["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        return all((folder / name).is_file() for name in names)
    return any(any(folder.glob(f"*.{ending}")) for ending in ("safetensors", "bin", "gguf"))


def can_reach(url: str) -> bool:
    """Something answers there, whatever it says."""
    import requests

    try:
        requests.head(url, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException:
        return False
    return True


@lru_cache
def look_up(repo: Repo) -> tuple[str, int]:
    """(why it cannot be downloaded, or empty; bytes of its weights, 0 if unknown)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    api = HfApi()
    try:
        info = api.model_info(repo.id, revision=repo.revision, timeout=5, files_metadata=True)
        if info.gated:
            api.auth_check(repo.id)
    except GatedRepoError:
        return "it is gated: accept its terms on its page, then `hf auth login`", 0
    except RepositoryNotFoundError:
        return "there is no such model, or it is private: check the spelling, `hf auth login`", 0
    except (HfHubHTTPError, OSError) as error:
        return f"the Hub says {type(error).__name__}: {one_line(str(error))[:200]}", 0
    files = info.siblings or []
    sizes = [f.size or 0 for f in files if f.rfilename.endswith(".safetensors")]
    return "", sum(sizes or [f.size or 0 for f in files if f.rfilename.endswith(".bin")])


def check(run: Run) -> list[Finding]:
    """The Hub, only as far as this run needs it."""
    hub = run.hub
    if not hub.needed:
        return [Finding("hub", "ok", "nothing of this run comes from the Hugging Face Hub")]
    if not hub.missing:
        names = ", ".join(f"{repo.id} ({repo.what})" for repo in hub.needed)
        return [Finding("hub", "ok", f"all in the cache: {names}")]
    if hub.offline or not hub.reachable:
        why = "HF_HUB_OFFLINE is set" if hub.offline else "the Hub cannot be reached"
        return [
            Finding(
                "hub", "problem",
                f"{repo.id} ({repo.what}) is not, or not wholly, in the cache, and {why}",
                f"`hf download {repo.id}` where there is a network (HF_HOME moves the cache), or name a folder"
                + (", or --metadata nli=embedded" if repo.what == "scorer" else ""),
            )
            for repo in hub.missing
        ]  # fmt: skip
    found = []
    for repo in hub.missing:
        why, size = look_up(repo)
        if why:
            do = "as it says, or name another model or a folder"
            found.append(Finding("hub", "problem", f"{repo.id} ({repo.what}): {why}", do))
        else:
            shown = f", {size / 1e9:.1f} GB" if size else ""
            seen = f"{repo.id} ({repo.what}) will be downloaded{shown}"
            found.append(Finding("hub", "ok", seen))
    return found
