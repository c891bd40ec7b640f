"""What our own code adds to a device that works by itself: ``python -m tests.bench.beside --docs 500 --rate 30000``.

A whole lm-eval run of GlobalOpinionQA with ``modular_pluralism`` and six communities, its messages stored already,
over a transformers model with SmolLM2's tokenizer that is next to nothing. Each of its forward passes takes the time
that a device of so many prompt tokens a second would need, asleep, so that the processor is free for what can go on
beside it: reading results, writing answers.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import overhead

TOKENS_A_PASS = 8192
"""As on a GPU."""


def tiny(folder: Path) -> str:
    """A Llama of one layer with the embedded model's tokenizer; its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from pluralism_eval.llm import embedded

    AutoTokenizer.from_pretrained(embedded.locate()).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


class Device:
    """Makes every forward pass of Llama models last as long as its tokens need."""

    def __init__(self, rate: float) -> None:
        from transformers import LlamaForCausalLM

        self.seconds, self.tokens = 0.0, 0
        forward = LlamaForCausalLM.forward

        def timed(model: Any, input_ids: Any, **more: Any) -> Any:
            start = time.perf_counter()
            output = forward(model, input_ids=input_ids, **more)
            time.sleep(max(0.0, start + input_ids.numel() / rate - time.perf_counter()))
            self.seconds += time.perf_counter() - start
            self.tokens += input_ids.numel()
            return output

        LlamaForCausalLM.forward = timed  # type: ignore[method-assign,assignment]


def measure(docs: int, rate: float) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny(folder / "tiny")
        os.environ["PLURALISM_EVAL_CACHE"] = str(folder / "cache")
        for part, n in (("first", 2), ("run", docs)):
            overhead.prepare(folder / part, n, "store")
        llm = {"llm": "hf", "llm_args": {"pretrained": model, "dtype": "float32"}, "batch_tokens": TOKENS_A_PASS}  # fmt: skip
        overhead.run(folder / "first", "modular_pluralism", **llm)  # imports
        device = Device(rate)
        ours = overhead.run(folder / "run", "modular_pluralism", **llm)
    own = ours["wall_s"] - device.seconds
    return {
        "docs": ours["docs"],
        "prompts": (prompts := ours["docs"] * len(overhead.NAMES)),
        "rate": rate,
        "tokens": device.tokens,
        "device_s": device.seconds,
        "wall_s": ours["wall_s"],
        "own_ms_per_prompt": 1000 * own / prompts,
        "device_share": device.seconds / ours["wall_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=int, default=500)
    parser.add_argument("--rate", type=float, default=30_000, help="prompt tokens a second")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    found = measure(arguments.docs, arguments.rate)
    print(
        f"{found['prompts']:,} prompts, {found['tokens']:,} tokens: the device {found['device_s']:.1f} s, the run "
        f"{found['wall_s']:.1f} s; {found['own_ms_per_prompt']:.3f} ms a prompt beside the device, which works "
        f"{found['device_share']:.1%} of the time"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
