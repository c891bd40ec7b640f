"""Which communities there are: named pools, patches of them, registered ones, and users' YAML files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from pluralism_eval.communities.registry import registered
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.secrets import secret_in_url
from pluralism_eval.yaml_files import is_file, is_folder, read_yaml


@dataclass(frozen=True)
class Community:
    """One community LM: who it is, and the engine that lets it speak."""

    name: str
    description: str
    """What moe shows the LLM when it picks one."""
    engine: str = "lora"
    base: str = ""
    """A model that transformers loads, or ``embedded``; for served: the base's served name."""
    base_revision: str = "main"
    adapter: str = ""
    """LoRA adapter: Hub id, folder, or of this package: ``embedded/<name>``, ``control/<name>``."""
    revision: str = "main"
    """Of the adapter."""
    sha256: str = ""
    """Of the adapter's weight file, if it is to be pinned."""
    pickle: bool = False
    """True: pickled adapter weights are read (as plain tensors, without running code)."""
    base_url: str = ""
    """OpenAI-compatible server."""
    model: str = ""
    """Its name on the server."""
    served_as: str = ""
    """Other names under which the server may say that it answered, joined by commas; ``unnamed``: it says none."""
    api_key_variable: str = "OPENAI_API_KEY"
    persona: str = ""
    """System instruction of a prompted community."""
    script: str = ""
    """scripted: JSON Lines file of its messages, or ``control/<name>`` of this package."""

    chat: str = "auto"
    """Asked in the chat template of its base: ``true``, ``false``, or ``auto``: where there is one."""
    message_temperature: float | None = None
    """Of its messages; None: the run's."""
    message_top_p: float | None = None
    """Nucleus of its messages; None: the run's."""

    @property
    def place(self) -> tuple[str, ...]:
        """Communities of one place share an engine."""
        if self.base_url:
            names = (self.served_as,) if self.served_as else ()
            return ("served", self.base_url, self.api_key_variable, *names)
        return (self.engine, self.base, self.base_revision)


_COMMON = {"name", "description", "engine", "chat", "message_temperature", "message_top_p"}
_NOT_TEXT = {"pickle", "message_temperature", "message_top_p"}
_NEEDS: dict[str, set[str]] = {
    "lora": {"base", "adapter"},
    "vllm": {"base", "adapter"},
    "served": {"base_url", "model", "base"},
    "prompted": {"persona"},
    "scripted": {"script"},
}
_MAY: dict[str, set[str]] = {
    "lora": {"base_revision", "revision", "sha256", "pickle"},
    "vllm": {"base_revision", "revision", "sha256", "pickle"},
    "served": {"api_key_variable", "served_as"},
    "scripted": set(),
    "prompted": {"base", "base_revision", "base_url", "model", "api_key_variable", "served_as"},
}


def named_pools() -> dict[str, list[dict[str, Any]]]:
    """The pools that ship with the package."""
    text = (files("pluralism_eval.communities") / "communities.yaml").read_text(encoding="utf-8")
    return {name: pool for name, pool in yaml.safe_load(text).items() if not name.startswith(".")}


def load_pool(expression: str) -> list[Community]:
    """The communities that ``communities=`` names.

    Args:
        expression: a named pool, a YAML file, a community (``asia_culture``,
            ``perspective/news_left`` or a registered name), or several joined by ``+``;
            ``-name`` after any of them leaves one out. Thus ``perspective+asia_culture``
            (Figure 6, k = 7) and ``perspective-reddit_center+asia_culture`` (the authors'
            code, which replaces).

    Raises:
        PluralismError: unknown names, unreadable YAML, empty pool, bad entries (all at once).
    """
    if is_file(expression):
        return _parse(_read_file(Path(expression)), expression)
    entries: list[Any] = []
    for term in expression.split("+"):
        found, removed = _term(term.strip())
        entries += found
        names = [e["name"] for e in entries if isinstance(e, dict)]
        for name in removed:
            if name not in names:
                raise PluralismError(
                    f"communities={expression!r}: {name!r} is to be left out, but the pool has {', '.join(names)}"
                )
        entries = [e for e in entries if not (isinstance(e, dict) and e["name"] in removed)]
    return _parse(entries, expression)


def _term(term: str) -> tuple[list[Any], list[str]]:
    """(entries, names to leave out) of ``term``, such as ``perspective-reddit_center``."""
    removed: list[str] = []
    rest = term
    while True:
        entries = _look_up(rest)
        if entries is not None:
            return entries, removed
        if "-" not in rest:
            break
        rest, _, name = rest.rpartition("-")
        removed.append(name)
    shipped = sorted({e["name"] for pool in named_pools().values() for e in pool})
    known = [*named_pools(), *registered(), *shipped]
    raise PluralismError(
        f"communities={term!r} is neither a named pool ({', '.join(named_pools())}), nor a YAML file, "
        f"nor a known community ({', '.join(dict.fromkeys(known[len(named_pools()) :]))})"
    )


def _look_up(name: str) -> list[Any] | None:
    """Entries of a pool, of a file, or of one community; None if there is no such thing."""
    pools = named_pools()
    if name in pools:
        return list(pools[name])
    if name in registered():
        return [registered()[name]]
    pool, _, member = name.partition("/")
    if member and pool in pools:
        found = [entry for entry in pools[pool] if entry["name"] == member]
        if found:
            return found
    same: dict[str, dict[str, Any]] = {}
    for pool, members in pools.items():
        for entry in members:
            if entry["name"] == name and entry not in same.values():
                same[f"{pool}/{name}"] = entry
    if len(same) > 1:
        raise PluralismError(f"communities: {name!r} may be {' or '.join(same)}; write it so")
    if same:
        return list(same.values())
    return _read_file(Path(name)) if is_file(name) else None


def _read_file(path: Path) -> list[Any]:
    entries = read_yaml(path, "communities")
    if not isinstance(entries, list) or not entries:
        raise PluralismError(
            f"communities={str(path)!r} must be a list of at least one community, "
            f"got {'an empty pool' if not entries else type(entries).__name__}"
        )
    for entry in entries:  # adapters beside the file
        script = entry.get("script") if isinstance(entry, dict) else None
        if isinstance(script, str) and script and is_file(str(path.parent / script)):
            entry["script"] = str((path.parent / script).resolve())
        own = entry.get("adapter") if isinstance(entry, dict) else None
        if isinstance(own, str) and own and is_folder(path.parent / own):
            entry["adapter"] = str((path.parent / own).resolve())
    return entries


def _parse(entries: Sequence[Any], source: str) -> list[Community]:
    problems: list[str] = []
    found: list[Community] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, str):
            known = _look_up(entry)
            if known is None or len(known) != 1:
                problems.append(f"entry {i}: unknown community {entry!r}")
                continue
            entry = known[0]
        if not isinstance(entry, dict):
            problems.append(
                f"entry {i}: must be a mapping or the name of a community, got {entry!r}"
            )
            continue
        wrong = _problems(entry)
        problems += [f"entry {i} ({entry.get('name')!r}): {problem}" for problem in wrong]
        if not wrong:
            values: dict[str, Any] = {k: v if k in _NOT_TEXT else str(v) for k, v in entry.items()}
            values["chat"] = str(entry.get("chat", "auto")).lower()
            found.append(Community(**values))
    names = [c.name for c in found]
    problems += [
        f"name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if not found and not problems:
        problems.append("an empty pool; at least one community is needed")
    raise_all(f"communities={source!r}", problems)
    return found


def _problems(entry: Mapping[str, Any]) -> list[str]:
    engine = entry.get("engine", "lora")
    if not isinstance(engine, str) or engine not in _NEEDS:
        return [f"engine {engine!r} is unknown. Allowed: {', '.join(_NEEDS)}"]
    needed = _NEEDS[engine] | {"name", "description"}
    if engine == "prompted":
        needed = needed | ({"model"} if entry.get("base_url") else {"base"})
    allowed = _COMMON | _NEEDS[engine] | _MAY[engine]
    missing = sorted(f for f in needed if not isinstance(entry.get(f), str) or not entry[f].strip())
    unknown = sorted(str(f) for f in entry if f not in allowed)
    found = []
    if missing or unknown:
        order = [f.name for f in fields(Community) if f.name in allowed]
        found.append(
            f"missing {missing}, unknown {unknown}; fields of engine {engine}: {', '.join(order)}"
        )
    name = entry.get("name")
    if isinstance(name, str) and (not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name == "__base__"):
        found.append(f"name {name!r} may hold letters, digits, _ and - only")
    if secret_in_url(str(entry.get("base_url", ""))):
        found.append(
            "base_url carries a user, password or key; put the key into api_key_variable's variable"
        )
    elif entry.get("base_url") and set("?#") & set(str(entry["base_url"])):
        found.append(
            "base_url has a query: the paths of requests are added to it. Leave out ? and #"
        )
    if str(entry.get("chat", "auto")).lower() not in ("auto", "true", "false"):
        found.append(f"chat={entry['chat']!r} is unknown. Allowed: auto, true, false")
    for field, most in (("message_temperature", 100), ("message_top_p", 1)):
        value = entry.get(field)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= most):
            found.append(f"{field}={value!r} must be a number from 0 to {most}")
    if entry.get("message_top_p") == 0:
        found.append(
            "message_top_p=0 leaves no token; above 0, or message_temperature: 0 for greedy messages"
        )
    if not isinstance(entry.get("pickle", False), bool):
        found.append(f"pickle={entry['pickle']!r} must be true or false")
    return found
