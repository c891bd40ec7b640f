"""Lets the released lm-eval find our models and tasks by name. Standard library only.

``pluralism_eval_hook.pth`` imports this file at interpreter start. It installs a finder that waits
for three lm-eval modules; nothing else is imported or changed until lm-eval itself is imported.
``PLURALISM_EVAL_NO_HOOK=1`` turns it off; ``pluralism-eval run`` works without it.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

OPT_OUT = "PLURALISM_EVAL_NO_HOOK"
AFTER = {
    "lm_eval.models": "register_models",
    "lm_eval.tasks.manager": "register_tasks",
    "lm_eval.loggers.wandb_logger": "fit_trackers",
}


class _HookedLoader(Loader):
    """Runs the module's own loader, then one function of ``pluralism_eval.plugin``."""

    def __init__(self, inner: Any, then: str) -> None:
        self._inner, self._then = inner, then

    def __getattr__(self, name: str) -> Any:  # get_source, is_package, ... of the real loader
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        try:
            from pluralism_eval import plugin

            getattr(plugin, self._then)()
        except Exception as error:  # never break `import lm_eval`, but never hide it either
            print(f"pluralism-eval: its names are missing from lm-eval: {error!r}", file=sys.stderr)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in AFTER:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _HookedLoader(spec.loader, AFTER[name])
        return spec


def install() -> None:
    """Put the finder in front, once; a no-op when opted out."""
    if os.environ.get(OPT_OUT, "") not in ("", "0"):
        return
    if not any(
        type(finder).__name__ == _Finder.__name__ and type(finder).__module__ == __name__
        for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _Finder())


install()
