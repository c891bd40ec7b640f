"""Rewrites ``listening_embedded.json``: how far the embedded LLM listens by default (``make listening``; a minute).

After a change of the probes, of the prompts, of the cloze readout or of the model; a test fails until then.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from pluralism_eval import heard, listening
from pluralism_eval.llm.load import load_llm
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import parse


def main() -> None:
    settings = parse("modular_pluralism", {})
    way = listening.Way(settings.readout, bool(settings.chat))
    with (
        TemporaryDirectory() as folder,
        patch.object(heard, "cache_root", lambda: Path(folder)),
        patch.object(heard, "_shipped", dict),
    ):
        own = get_preset(settings.preset)
        listening.listening(load_llm(settings), Prompts(settings.prompts), settings, own, way)
        rows = heard.store().items()
    Path(str(heard.SHIPPED)).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
