"""LoRA training of a community LM, and perplexities that show what it learned.

The recipe ``paper`` is appendix B's; ``small`` fits the embedded model to a hundred short pieces.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pluralism_eval.communities.adapters import base_model
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import embedded

log = logging.getLogger(__name__)
HELD_OUT_EVERY = 6


@dataclass(frozen=True)
class Recipe:
    """Training settings; LoRA itself has PEFT's defaults."""

    block_size: int
    """Tokens per training block."""
    batch_size: int
    """Blocks per optimiser step."""
    learning_rate: float
    weight_decay: float
    epochs: int


RECIPES = {
    "paper": Recipe(block_size=128, batch_size=64, learning_rate=1e-6, weight_decay=1e-2, epochs=1),
    "small": Recipe(block_size=128, batch_size=8, learning_rate=2e-3, weight_decay=1e-2, epochs=4),
}


def read_corpus(path: Path) -> tuple[list[str], list[str]]:
    """(training texts, held-out texts): JSON Lines with ``text``; every sixth piece is held out.

    Raises:
        PluralismError: unreadable, no ``text`` column, empty texts, or fewer than 12 pieces.
    """
    try:
        rows = [
            json.loads(line)
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise PluralismError(
            f"corpus {str(path)!r} cannot be read as JSON Lines: {error}"
        ) from error
    texts = [row.get("text") if isinstance(row, dict) else None for row in rows]
    bad = [i for i, text in enumerate(texts, 1) if not isinstance(text, str) or not text.strip()]
    if bad:
        raise PluralismError(
            f'corpus {str(path)!r}: line {bad[0]} has no text; every line must be {{"text": "..."}}'
        )
    if len(texts) < 2 * HELD_OUT_EVERY:
        raise PluralismError(
            f"corpus {str(path)!r} has {len(texts)} pieces; at least {2 * HELD_OUT_EVERY} are needed"
        )
    held_out = [str(t) for i, t in enumerate(texts) if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1]
    return [
        str(t) for i, t in enumerate(texts) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1
    ], held_out


def train(
    corpus: Path, base: str, name: str, output: Path, recipe: Recipe, seed: int = 0
) -> dict[str, Any]:
    """Train one LoRA adapter and save it (safetensors, 16 bit) with its record.

    Returns:
        The record: recipe, corpus hash, held-out perplexity of base and adapter. Also saved as
        ``training.json`` beside the adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    texts, held_out = read_corpus(corpus)
    set_seed(seed)
    source = base_model(base)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    before = perplexity(model, tokenizer, held_out)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM"))
    arguments = TrainingArguments(
        output_dir=str(output / "checkpoints"),
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        num_train_epochs=recipe.epochs,
        seed=seed,
        report_to=[],
        save_strategy="no",
        logging_steps=10,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
    )
    Trainer(
        model=model, args=arguments, train_dataset=_blocks(tokenizer, texts, recipe.block_size)
    ).train()
    model.eval()
    after = perplexity(model, tokenizer, held_out)
    record = {
        "name": name,
        "base": embedded.HUB_ID if base == "embedded" else base,
        "corpus": corpus.name,
        "corpus_sha256": sha256(corpus.read_bytes()).hexdigest(),
        "pieces": {"train": len(texts), "held_out": len(held_out)},
        "recipe": asdict(recipe),
        "seed": seed,
        "held_out_perplexity": {"base": before, "adapter": after},
    }
    _save(model, record, output)
    return record


def _blocks(tokenizer: Any, texts: Sequence[str], size: int) -> list[dict[str, list[int]]]:
    """All texts, each closed by the end token, as one stream in blocks of ``size`` tokens."""
    stream = [
        token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    ]
    blocks = [stream[i : i + size] for i in range(0, len(stream) - size + 1, size)]
    if not blocks:
        raise PluralismError(f"the corpus has {len(stream)} tokens, less than one block of {size}")
    return [{"input_ids": block, "attention_mask": [1] * size, "labels": block} for block in blocks]


def _save(model: Any, record: Mapping[str, Any], output: Path) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.float16)
    for config in model.peft_config.values():
        config.base_model_name_or_path = record["base"]
    model.save_pretrained(output, safe_serialization=True)
    (output / "README.md").unlink(missing_ok=True)  # peft's template; training.json says what is so
    (output / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def perplexity(model: Any, tokenizer: Any, texts: Sequence[str], batch: int = 8) -> float:
    """exp of the mean negative log-likelihood (nats a token), every text on its own; > 1."""
    import torch

    rows = sorted((tokenizer(text)["input_ids"] for text in texts), key=len)
    nats, tokens = 0.0, 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        longest = max(map(len, part))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in part], device=model.device)
        mask = torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in part], device=model.device
        )
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            own = logits.gather(-1, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
        nats -= float(own[mask[:, 1:].bool()].sum())
        tokens += int(mask[:, 1:].sum())
    return math.exp(nats / tokens)


def perplexity_matrix(
    adapters: Mapping[str, Path], corpora: Mapping[str, Path], base: str, pieces: int | None = None
) -> dict[str, dict[str, float]]:
    """Held-out perplexity of the base and of every adapter on every corpus: row → corpus → value.

    ``pieces`` limits the held-out pieces of each corpus.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = base_model(base)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    held_out = {name: read_corpus(path)[1][:pieces] for name, path in corpora.items()}
    table = {
        "base": {name: perplexity(model, tokenizer, texts) for name, texts in held_out.items()}
    }
    peft: Any = None
    for name, folder in adapters.items():
        if peft is None:
            peft = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
        else:
            peft.load_adapter(str(folder), adapter_name=name)
        peft.set_adapter(name)
        table[name] = {
            corpus: perplexity(peft, tokenizer, texts) for corpus, texts in held_out.items()
        }
    return table
