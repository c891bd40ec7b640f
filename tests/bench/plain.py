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

CHOICE_TOKENS = 20
"""New tokens of a selection, and of an answer whose option is read from the first of them."""


class Plain:
    """A model of its own, and a second one with the adapters."""

    def __init__(self, folder: str, adapters: Mapping[str, Path]) -> None:
        """
        Args:
            folder: of the base model.
            adapters: name → folder.
        """
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.bare = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        first, *others = adapters
        self._peft: Any = PeftModel.from_pretrained(
            base, str(adapters[first]), adapter_name=first
        ).eval()
        for name in others:
            self._peft.load_adapter(str(adapters[name]), adapter_name=name)

    def _generate(self, model: Any, prompt: str, **settings: Any) -> tuple[list[int], Any]:
        """(new tokens, all that ``generate`` gave)"""
        inputs = self.tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            found = model.generate(
                **inputs, pad_token_id=self.tokenizer.eos_token_id, return_dict_in_generate=True,
                **settings,
            )  # fmt: skip
        return found.sequences[0, inputs["input_ids"].shape[1] :].tolist(), found

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def message(self, community: str, prompt: str, max_tokens: int) -> str:
        """A sampled message at temperature 1."""
        self._peft.set_adapter(community)
        new, _ = self._generate(
            self._peft, prompt, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=max_tokens
        )
        return self.decode(new).strip()

    def text(self, prompt: str, max_tokens: int) -> list[int]:
        """Tokens of the likeliest continuation."""
        new, _ = self._generate(self.bare, prompt, do_sample=False, max_new_tokens=max_tokens)
        return new

    def options(self, prompt: str, letters: Sequence[str]) -> list[float]:
        """Probabilities of ``letters`` (both spellings) as the first token of a generated answer."""
        _, found = self._generate(
            self.bare, prompt, do_sample=False, max_new_tokens=CHOICE_TOKENS, output_logits=True
        )
        p = found.logits[0][0].float().softmax(-1)
        encode = self.tokenizer.encode
        return [float(p[encode(x)[0]] + p[encode(f" {x}")[0]]) for x in letters]

    def likelihood(self, head: str, tail: str) -> float:
        """Mean log-probability (nats a token) of ``tail`` after ``head``."""
        first, own = self.tokenizer(head)["input_ids"], self.tokenizer(f" {tail}")["input_ids"]
        with torch.inference_mode():
            logits = self.bare(torch.tensor([first + own]), logits_to_keep=len(own) + 1).logits
        logprobs = logits[0, :-1].float().log_softmax(-1)
        return float(logprobs.gather(-1, torch.tensor(own)[:, None]).mean())

    def entailment(self, premise: str, hypothesis: str) -> list[float]:
        """[4] what the embedded scorer reads of a pair: affirmed, alone, affirmed - denied, affirmed - alone."""
        affirmed = self.likelihood(f"{premise} In other words,", hypothesis)
        denied = self.likelihood(f"{premise} It is not true that", hypothesis)
        alone = self.likelihood("In other words,", hypothesis)
        return [affirmed, alone, affirmed - denied, affirmed - alone]

    def lead(self, prompt: str, begun: Sequence[int]) -> float:
        """By how many nats the likeliest token after ``prompt`` and ``begun`` leads the second."""
        ids = [*self.tokenizer(prompt)["input_ids"], *begun]
        with torch.inference_mode():
            logits = self.bare(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].float()
        first, second = logits.topk(2).values.tolist()
        return float(first - second)
