"""Everything declarative is in setup.cfg; this only makes the wheel carry the hook's .pth file.

The file must lie at the root of site-packages, where only a wheel's purelib root (``build_lib``)
ends up. An editable wheel needs it as well, hence the second class.
"""

import shutil
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

SOURCE = Path("pluralism_eval/_hook.pth")
PTH = "pluralism_eval_hook.pth"


class BuildWithHook(build_py):
    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):
            Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE, Path(self.build_lib) / PTH)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / PTH)]


class EditableWithHook(editable_wheel):
    def _select_strategy(self, *args: Any, **kwargs: Any) -> Any:
        strategy = super()._select_strategy(*args, **kwargs)

        class WithHook:
            def __enter__(self) -> Any:
                strategy.__enter__()
                return self

            def __exit__(self, *exc: Any) -> Any:
                return strategy.__exit__(*exc)

            def __call__(self, wheel: Any, files: list[str], mapping: dict[str, str]) -> None:
                strategy(wheel, files, mapping)
                wheel.writestr(PTH, SOURCE.read_bytes())

        return WithHook()


# In the root, an egg-info folder would join the shell's expansion of an unquoted pluralism_*.
Path("build").mkdir(exist_ok=True)
setup(
    options={"egg_info": {"egg_base": "build"}},
    cmdclass={"build_py": BuildWithHook, "editable_wheel": EditableWithHook},
)
