"""Loads and renders the prompt files: one YAML a method, all its wording on one screen."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pluralism_eval.errors import PluralismError, raise_all

_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=False, autoescape=False
)
FILES = ("messages", "prompting", "moe", "modular_pluralism")


class Prompts:
    """All wording of a run: the shipped files, with a user's overrides on top."""

    def __init__(self, override: str | None = None) -> None:
        self.texts: dict[str, dict[str, str]] = {name: dict(_shipped(name)) for name in FILES}
        if override is not None:
            self._override(Path(override))
        self._templates = {
            (name, key): _ENVIRONMENT.from_string(text)
            for name, entries in self.texts.items()
            for key, text in entries.items()
        }

    def render(self, method: str, name: str, **values: Any) -> str:
        """The template ``name`` of ``method`` filled in; an undefined variable is an error."""
        try:
            return self._templates[method, name].render(**values).strip("\n")
        except jinja2.UndefinedError as error:
            raise PluralismError(
                f"prompt {method}.{name}: {error}; available: {', '.join(sorted(values))}"
            ) from error

    def _override(self, path: Path) -> None:
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PluralismError(f"prompts={str(path)!r} cannot be read: {error}") from error
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
                if name not in self.texts[method] or not isinstance(text, str):
                    problems.append(
                        f"{method}.{name}: no such template. Known: {', '.join(self.texts[method])}"
                    )
                    continue
                try:
                    _ENVIRONMENT.parse(text)
                    self.texts[method][name] = text
                except jinja2.TemplateSyntaxError as error:
                    problems.append(f"{method}.{name}: {error}")
        raise_all(f"prompts={str(path)!r}", problems)


@lru_cache
def _shipped(name: str) -> dict[str, str]:
    from pluralism_eval.plugin import wrapper_folder

    loaded: dict[str, str] = yaml.safe_load(
        (wrapper_folder() / "prompts" / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return loaded
