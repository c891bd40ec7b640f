"""Loads and renders the prompt files: one YAML a method, all its wording on one screen."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pluralism_eval import bounded
from pluralism_eval.bounded_worker import environment
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.yaml_files import read_yaml

FILES = ("messages", "prompting", "moe", "modular_pluralism", "readouts", "entailment", "judge")

_TEXT_ONLY = ("overton",)  # free text is not averaged over wordings


class Prompts:
    """All wording of a run: the shipped files, with a user's overrides on top."""

    def __init__(self, override: str | None = None) -> None:
        self.texts: dict[str, dict[str, str]] = {name: dict(_shipped(name)) for name in FILES}
        if override is not None:
            self._override(Path(override))
        own = environment()
        self._templates = {  # those of an override may be a stranger's: they are rendered within limits
            (name, key): own.from_string(text)
            for name, entries in self.texts.items()
            for key, text in entries.items()
            if _shipped(name).get(key) == text
        }

    def variants(self, method: str) -> int:
        """How many wordings every answering or selecting template of ``method`` has, at least 1.

        The second wording of ``respond`` is called ``respond.2``, and so on.
        """
        own = self.texts.get(method, {})
        counts = [
            next(n for n in range(1, len(own) + 2) if f"{name}.{n + 1}" not in own)
            for name in own
            if "." not in name and name not in _TEXT_ONLY
        ]
        return min(counts, default=1)

    def render(self, method: str, name: str, variant: int = 0, **values: Any) -> str:
        """The template ``name`` of ``method`` filled in; an undefined variable is an error.

        Args:
            variant: which wording, from 0.
        """
        key = f"{name}.{variant + 1}" if variant else name
        try:
            if (method, key) in self._templates:
                return str(self._templates[method, key].render(**values)).strip("\n")
            return bounded.render(self.texts[method][key], values).strip("\n")
        except Exception as error:  # undefined, unsafe, or whatever else a template may raise
            raise PluralismError(
                f"prompt {method}.{key}: {error}; available: {', '.join(sorted(values))}"
            ) from error

    def _override(self, path: Path) -> None:
        given = read_yaml(path, "prompts")
        problems = []
        if not isinstance(given, dict):
            raise PluralismError(
                f"prompts={str(path)!r} must be {{method: {{name: template}}}}, got {type(given).__name__}"
            )
        for method, entries in given.items():
            if method not in self.texts or not isinstance(entries, dict):
                problems.append(
                    f"{method!r}: not a method with templates. Known: {', '.join(self.texts)}"
                )
                continue
            for name, text in entries.items():
                base, _, number = str(name).partition(".")
                known = name in self.texts[method] or (
                    base in self.texts[method] and number.isdigit() and int(number) > 1
                )
                if not known or not isinstance(text, str):
                    problems.append(
                        f"{method}.{name}: no such template. Known: {', '.join(self.texts[method])}"
                    )
                    continue
                try:
                    if text != self.texts[method].get(name):
                        bounded.check_template(text)
                    self.texts[method][name] = text
                except PluralismError as error:
                    problems.append(f"{method}.{name}: {error}")
        raise_all(f"prompts={str(path)!r}", problems)


@lru_cache
def _shipped(name: str) -> dict[str, str]:
    from pluralism_eval.plugin import wrapper_folder

    loaded: dict[str, str] = yaml.safe_load(
        (wrapper_folder() / "prompts" / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return loaded
