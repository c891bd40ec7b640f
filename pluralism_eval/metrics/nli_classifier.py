"""Entailment by a three-way sequence-classification model from the Hub or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.entailment import LABELS, Pair

_SPELLINGS = {
    "entailment": 0, "entails": 0, "supports": 0,
    "neutral": 1, "not enough info": 1, "not_enough_info": 1,
    "contradiction": 2, "contradicts": 2, "refutes": 2,
}  # fmt: skip
_DTYPES = ("float32", "float16", "bfloat16")
_DEFAULT_LENGTH = 512


def check_classifier(name: str) -> None:
    """Raises PluralismError unless ``name`` can be had and has the three labels. No weights yet."""
    model, revision, _ = _split(name)
    _label_order(_config(model, revision), model)


class ClassifierScorer:
    """Probabilities of a classifier called ``MODEL``, ``MODEL:DTYPE``, ``MODEL@REVISION`` or ``MODEL@REVISION:DTYPE``.

    A revision is a branch, tag or commit of the Hub; verdicts name the commit whichever it is. The number format is float16 on a GPU and float32 elsewhere unless ``DTYPE`` says otherwise;
    scores in anything but float32 are kept apart.
    """

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._name, revision, dtype = _split(name)
        config = _config(self._name, revision)
        self._order = _label_order(config, self._name)
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self._dtype = dtype or ("float16" if on_gpu else "float32")
        self._budget = 32 * 512 if on_gpu else 16 * 256  # padded tokens a forward pass
        self.lot = 1024 if on_gpu else 64
        where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(self._name, **where)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            self._name, dtype=getattr(torch, self._dtype), **where
        )
        self._model.to(self._device).eval()
        self._limit = _longest(config, self._tokenizer)
        self.identity = _identity(self._name, config, self._order)
        if self._dtype != "float32":
            self.identity += f":{self._dtype}"

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """See :class:`Scorer`. Pairs of like length go together; a batch has a cap on padded tokens.

        Raises:
            PluralismError: the model returned NaN.
        """
        lengths = [min(n, self._limit) for n in self._lengths(pairs)]
        order = sorted(range(len(pairs)), key=lambda i: -lengths[i])
        rows = np.empty((len(pairs), len(LABELS)))
        while order:
            size = max(1, self._budget // lengths[order[0]])
            batch, order = order[:size], order[size:]
            rows[batch] = self._forward([pairs[i] for i in batch])
        found: np.ndarray = rows[:, self._order]
        return found

    def truncated(self, pairs: Sequence[Pair]) -> int:
        # hardly any text has two tokens a character: the others need no look
        long = [p for p in pairs if len(p[0]) + len(p[1]) > self._limit // 2]
        return sum(n > self._limit for n in self._lengths(long))

    def _lengths(self, pairs: Sequence[Pair]) -> list[int]:
        """[n_pairs] tokens of premise and hypothesis together, before any cut."""
        if not pairs:
            return []
        premises, hypotheses = zip(*pairs, strict=True)
        encoded = self._tokenizer(list(premises), list(hypotheses), verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _forward(self, pairs: Sequence[Pair]) -> np.ndarray:
        import torch

        from pluralism_eval.llm.linear import fast_linear

        premises, hypotheses = zip(*pairs, strict=True)
        inputs = self._tokenizer(
            list(premises),
            list(hypotheses),
            padding=True,
            truncation="longest_first",  # only_first fails where the hypothesis alone is too long
            max_length=self._limit,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode(), fast_linear(self._model):
            probabilities = self._model(**inputs).logits.float().softmax(-1)
        found: np.ndarray = probabilities.cpu().numpy()
        if np.isnan(found).any():
            way_out = (
                "its weights are broken: use another model"
                if self._dtype == "float32"
                else f"it needs a wider range of numbers: pass nli={self._name}:float32"
            )
            raise PluralismError(
                f"nli={self._name!r} returned NaN logits in {self._dtype}; {way_out}"
            )
        return found


def _split(name: str) -> tuple[str, str, str | None]:
    """``MODEL@REVISION:DTYPE`` → (model, revision, dtype); ``main`` and None where the name has none."""
    if Path(name).is_dir():
        return name, "main", None
    head, colon, tail = name.rpartition(":")
    place, dtype = (head, tail) if colon else (name, None)
    if dtype is not None and dtype not in _DTYPES:
        raise PluralismError(
            f"nli={name!r}: {dtype!r} is no number format. Allowed after the colon: {', '.join(_DTYPES)}; "
            "an LLM as judge is nli=llm:NAME"
        )
    if Path(place).is_dir():
        return place, "main", dtype
    model, _, revision = place.partition("@")  # a Hub id has none
    return model, revision or "main", dtype


def _config(model: str, revision: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PluralismError(
            f"nli={model!r} is neither a folder nor to be had from the Hub ({type(error).__name__}). Go on with "
            "--metadata nli=embedded (ships with the package, weak), nli=llm:NAME (an LLM as judge), a model folder, "
            "or PLURALISM_EVAL_NLI"
        ) from error


def _label_order(config: Any, model: str) -> list[int]:
    """For each of LABELS the model's own index of it."""
    own = {int(i): str(label).lower().strip() for i, label in config.id2label.items()}
    meaning = {_SPELLINGS[label]: i for i, label in own.items() if label in _SPELLINGS}
    if len(own) != len(LABELS) or len(meaning) != len(LABELS):
        raise PluralismError(
            f"nli={model!r} has labels {list(own.values())}; three are needed: entailment, neutral, contradiction "
            "(or supports, not enough info, refutes)"
        )
    return [meaning[i] for i in range(len(LABELS))]


def _longest(config: Any, tokenizer: Any) -> int:
    """Tokens of a pair that the model reads."""
    positions = int(getattr(config, "max_position_embeddings", 0) or _DEFAULT_LENGTH)
    if "roberta" in str(config.model_type):
        positions -= int(config.pad_token_id) + 1  # RoBERTa counts positions from there
    return min(int(tokenizer.model_max_length), positions)


def _identity(model: str, config: Any, order: Sequence[int]) -> str:
    """Hub id and commit, or the hash of a folder's weights; and how the labels are read."""
    from pluralism_eval.communities.adapters import base_identity

    commit = getattr(config, "_commit_hash", None)
    source = base_identity(model) if Path(model).is_dir() else f"{model}@{commit}"
    return f"{source}:{''.join(map(str, order))}"
