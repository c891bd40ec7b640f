"""The authors' algorithm, written as one would first write it: one prompt, one adapter and one pair at a time.

Key-value caches are on and gradients off; nothing is batched, shared or kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

ANSWER_TOKENS = 20
"""That the authors generate before they read an option from the first of them."""


class Plain:
    """A model of its own."""

    def __init__(self, folder: str, adapters: Mapping[str, Path]) -> None:
        """
        Args:
            folder: of the base model.
            adapters: name → folder.
        """
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.bare = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._peft: Any = None
        for name, path in adapters.items():
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(
                    self.model, str(path), adapter_name=name
                ).eval()
            else:
                self._peft.load_adapter(str(path), adapter_name=name)

    def _generate(self, model: Any, prompt: str, **settings: Any) -> tuple[Any, int]:
        inputs = self.tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            found = model.generate(
                **inputs, pad_token_id=self.tokenizer.eos_token_id, return_dict_in_generate=True,
                **settings,
            )  # fmt: skip
        return found, inputs["input_ids"].shape[1]

    def message(self, community: str, prompt: str, max_tokens: int) -> str:
        """A sampled message at temperature 1."""
        self._peft.set_adapter(community)
        found, start = self._generate(
            self._peft, prompt, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=max_tokens
        )
        text: str = self.tokenizer.decode(found.sequences[0, start:], skip_special_tokens=True)
        return text.strip()

    def text(self, prompt: str, max_tokens: int, until: Sequence[str] = ()) -> str:
        """The likeliest continuation, up to the first of ``until``."""
        stops = {"stop_strings": list(until), "tokenizer": self.tokenizer} if until else {}
        found, start = self._generate(
            self.bare, prompt, do_sample=False, max_new_tokens=max_tokens, **stops
        )
        text: str = self.tokenizer.decode(found.sequences[0, start:], skip_special_tokens=True)
        for stop in until:
            text = text.split(stop)[0]
        return text

    def options(self, prompt: str, letters: Sequence[str]) -> list[float]:
        """Probabilities of ``letters`` (both spellings) as the first token of a generated answer."""
        found, _ = self._generate(
            self.bare, prompt, do_sample=False, max_new_tokens=ANSWER_TOKENS, output_logits=True
        )
        p = found.logits[0][0].float().softmax(-1)
        encode = self.tokenizer.encode
        return [float(p[encode(x)[0]] + p[encode(f" {x}")[0]]) for x in letters]

    def likelihood(self, head: str, tail: str) -> float:
        """Mean log-probability (nats a token) of ``tail`` after ``head``."""
        first, own = self.tokenizer(head)["input_ids"], self.tokenizer(f" {tail}")["input_ids"]
        with torch.inference_mode():
            logits = self.bare(torch.tensor([first + own])).logits[0, len(first) - 1 : -1]
        return float(logits.float().log_softmax(-1).gather(-1, torch.tensor(own)[:, None]).mean())

    def entailment(self, premise: str, hypothesis: str) -> tuple[float, float, float]:
        """The three likelihoods from which the embedded scorer reads a pair: affirmed, denied, alone."""
        return (
            self.likelihood(f"{premise} In other words,", hypothesis),
            self.likelihood(f"{premise} It is not true that", hypothesis),
            self.likelihood("In other words,", hypothesis),
        )
