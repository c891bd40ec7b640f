"""Lets the released lm-eval find our models and tasks by name.

``pluralism_eval_hook.pth`` imports this file at interpreter start. It installs a finder that waits for six modules of
lm-eval; nothing else is imported or changed until lm-eval itself is imported. ``PLURALISM_EVAL_NO_HOOK=1`` turns it
off; ``pluralism-eval run`` works without it.

What it must not do, and how that is held (tests/unit/test_hook.py): cost time at every start (no import beyond
``importlib.machinery``: ``typing`` and ``importlib.abc`` alone take longer than all the rest), keep Python or lm-eval
from starting (a broken or half-removed install, errors of ours, a foreign folder of our name that exits), change what lm-eval's modules are (their own loaders
stay; zip files, reloading, subinterpreters), or act twice.
"""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OPT_OUT = "PLURALISM_EVAL_NO_HOOK"
AFTER = {
    "lm_eval._cli": "guard",
    "lm_eval.models": "register_models",
    "lm_eval.tasks.manager": "register_tasks",
    "lm_eval.config.evaluate_config": "index_ours_alone",
    "lm_eval.loggers.evaluation_tracker": "record_hashes",
    "lm_eval.loggers.wandb_logger": "fit_trackers",
}
"""Module → the function of ``pluralism_eval.plugin`` that runs after it."""


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: list[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in AFTER else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            if module.__name__ == name:  # all modules of a zip file share their loader
                _then(AFTER[name])

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _then(function: str) -> None:
    try:
        from pluralism_eval import plugin

        getattr(plugin, function)()
    # never break `import lm_eval`, but never hide it either. A foreign folder of our name may even try to exit
    except BaseException as error:
        print(f"pluralism-eval: its names are missing from lm-eval: {error!r}", file=sys.stderr)


def install() -> None:
    """Put the finder in front, once; a no-op when opted out."""
    known = any(getattr(finder, "__module__", "") == __name__ for finder in sys.meta_path)
    if not known and os.environ.get(OPT_OUT, "") in ("", "0"):
        sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]


install()
