"""A model of Mistral-7B's shape on a GPU: ``python -m tests.bench.large``.

Random weights in bfloat16 and six random adapters: what they say is nothing, what they cost is real. Messages of all
six in mixed batches, and one forward pass a prompt, each against one prompt at a time; tokens a second, and the share of
the device that is used. ``--small`` tries the script itself on any machine.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from pluralism_eval import utilisation
from pluralism_eval.communities.attached import tree_of
from pluralism_eval.communities.mixed import MixedAdapters
from pluralism_eval.llm.decoding import Seeded, decode, rows_that_fit, tokens_of_a_pass
from pluralism_eval.llm.forward import next_logits, passes

NAMES = [f"community {i}" for i in range(6)]
SMALL = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


class Large:
    """The model, its adapters, and prompts of the lengths that the benchmark's have."""

    def __init__(self, small: bool, n: int, max_new: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        with self.device:
            self.model = MistralForCausalLM(MistralConfig(**(SMALL if small else {}))).eval()
            settings = LoraConfig(
                r=16,
                target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
                init_lora_weights=False,
            )
            layers = {name: _layers(get_peft_model(tree_of(self.model, set()), settings)) for name in NAMES}  # fmt: skip
        torch.set_default_dtype(torch.float32)
        self.mixed = MixedAdapters(self.model, layers)
        draw, words = random.Random(0), self.model.config.vocab_size
        lengths = [draw.randint(60, 120) if small else draw.randint(80, 420) for _ in range(n)]
        self.prompts = sorted(([draw.randrange(3, words) for _ in range(k)] for k in lengths), key=len, reverse=True)  # fmt: skip
        self.max_new = max_new

    def messages(self) -> None:
        """All prompts, by the six in turn, in batches as large as memory allows."""
        rows = rows_that_fit(self.model, len(self.prompts[0]) + self.max_new)
        names = [NAMES[i % 6] for i in range(len(self.prompts))]
        with self.mixed.acting():
            for _ in decode(
                self.model, self.prompts, Seeded(range(len(self.prompts)), 1.0), max_new=self.max_new, eos=[], rows=rows,
                also=lambda numbers: self.mixed.choose([names[i] for i in numbers]),
            ):  # fmt: skip
                pass

    def options(self) -> None:
        """One forward pass a prompt, in passes of as many tokens as the library takes."""
        for batch in passes([len(p) for p in self.prompts], tokens_of_a_pass(self.device)):
            rows = [self.prompts[i] for i in batch]
            next_logits(self.model, rows, use_cache=False)[0].float().log_softmax(-1).cpu()
            utilisation.prefill(self.model, [len(row) for row in rows], len(rows))

    def message_alone(self, prompt: list[int]) -> None:
        """transformers' own ``generate``, by the bare model."""
        ids = torch.tensor([prompt], device=self.device)
        with torch.inference_mode():
            self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=self.max_new,
                min_new_tokens=self.max_new, pad_token_id=0,
            )  # fmt: skip

    def option_alone(self, prompt: list[int]) -> None:
        with torch.inference_mode():
            self.model(torch.tensor([prompt], device=self.device)).logits[0, -1].float().log_softmax(-1).cpu()  # fmt: skip

    def seconds(self, work: Callable[..., None], *given: Any) -> float:
        start = time.perf_counter()
        work(*given)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _layers(peft: Any) -> dict[str, Any]:
    modules = peft.get_base_model().named_modules()
    return {path: layer for path, layer in modules if hasattr(layer, "lora_A")}


def measure(large: Large, alone: int) -> dict[str, Any]:
    """Both phases, after one round to warm up.

    Args:
        alone: prompts that go one at a time, evenly spread.
    """
    found: dict[str, Any] = {}
    step = max(1, len(large.prompts) // alone)
    for name, ours, one in (
        ("messages", large.messages, large.message_alone),
        ("options", large.options, large.option_alone),
    ):
        large.seconds(one, large.prompts[0])
        kept, large.prompts = large.prompts, large.prompts[:12]
        large.seconds(ours)
        large.prompts = kept
        before = utilisation.snapshot()
        with utilisation.phase(f"large {name}"):
            seconds = large.seconds(ours)
        (described,) = utilisation.describe(utilisation.since(before)).values()
        singly = [large.seconds(one, prompt) for prompt in large.prompts[::step]]
        each = sum(singly) / len(singly)
        found[name] = {
            **described,
            "prompts": len(large.prompts),
            "alone_seconds_a_prompt": each,
            "alone_prompts": len(singly),
            "alone_over_ours": each * len(large.prompts) / seconds,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="another shape, to try the script")
    parser.add_argument("--prompts", type=int, default=1536)
    parser.add_argument("--alone", type=int, default=6, help="of them, one at a time as well")
    parser.add_argument("--max-new", type=int, default=128, help="tokens of a message")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    if not arguments.small and not torch.cuda.is_available():
        parser.error("there is no GPU; --small tries the script itself")
    large = Large(arguments.small, arguments.prompts, arguments.max_new)
    found = {
        "device": torch.cuda.get_device_name() if large.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "dtype": str(large.model.dtype),
        "parameters": sum(p.numel() for n, p in large.model.named_parameters() if "lora_" not in n),
        **measure(large, arguments.alone),
    }
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
