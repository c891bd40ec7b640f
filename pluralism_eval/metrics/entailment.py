"""Natural language inference: does a premise entail a hypothesis?

Scorers: any three-way sequence-classification model, read by its own label map, or ``embedded``: the
embedded LM's calibrated likelihoods (weak; its measured accuracy is printed beside every
coverage).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.errors import PluralismError

log = logging.getLogger(__name__)
LABELS = ("entailment", "neutral", "contradiction")
ENTAILMENT = 0
Pair = tuple[str, str]
"""(premise, hypothesis)"""
_SPELLINGS = {
    "entailment": 0, "entails": 0, "supports": 0,
    "neutral": 1, "not enough info": 1, "not_enough_info": 1,
    "contradiction": 2, "contradicts": 2, "refutes": 2,
}  # fmt: skip


class Scorer(Protocol):
    """Anything that gives label probabilities."""

    identity: str
    """What its scores depend on."""

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[n_pairs][3] in the order of :data:`LABELS`, rows summing to 1."""
        ...


def check_available(name: str) -> None:
    """Raises PluralismError unless scorer ``name`` can be loaded and has three known labels."""
    if name != "embedded":
        _label_order(_config(name), name)


@lru_cache(maxsize=2)
def load_scorer(name: str) -> Scorer:
    """The scorer called ``name``, loaded once a process."""
    return EmbeddedScorer() if name == "embedded" else ClassifierScorer(name)


def score_pairs(name: str, pairs: Sequence[Pair]) -> dict[Pair, tuple[float, float, float]]:
    """Label probabilities of every distinct pair; each is computed once and kept on disk."""
    unique = list(dict.fromkeys(pairs))
    store = Store(cache_root() / "nli.sqlite", "nli")
    scorer = load_scorer(name) if unique else None
    if scorer is None:
        return {}
    keys = {pair: digest([scorer.identity, *pair]) for pair in unique}
    known = store.get(list(keys.values()))
    todo = sorted((p for p in unique if keys[p] not in known), key=lambda p: -len(p[0]) - len(p[1]))
    with tqdm(total=len(todo), desc="entailment", unit="pair", disable=not todo) as bar:
        for start in range(0, len(todo), 64):
            part = todo[start : start + 64]
            rows = {
                keys[p]: [float(v) for v in row]
                for p, row in zip(part, scorer.probabilities(part), strict=True)
            }
            store.put(rows)
            known |= rows
            bar.update(len(part))
    return {pair: tuple(known[key]) for pair, key in keys.items()}


def read_pairs(file: str) -> list[tuple[Pair, int]]:
    """Hand-written pairs of the package: [(pair, label index)]."""
    text = (files("pluralism_eval.data") / "sample" / file).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [((row["premise"], row["hypothesis"]), LABELS.index(row["label"])) for row in rows]


def check_accuracy(name: str) -> tuple[float, int]:
    """(three-way accuracy of the scorer on the package's check set, number of pairs)."""
    gold = read_pairs("nli_check.jsonl")
    scores = score_pairs(name, [pair for pair, _ in gold])
    return float(np.mean([int(np.argmax(scores[pair])) == label for pair, label in gold])), len(
        gold
    )


class ClassifierScorer:
    """A sequence-classification model from the Hub or a folder."""

    def __init__(self, name: str, batch: int = 32) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        config = _config(name)
        self._order = _label_order(config, name)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(name)
        self._model = (
            AutoModelForSequenceClassification.from_pretrained(name).to(self._device).eval()
        )
        self._batch = batch
        self._limit = min(
            int(self._tokenizer.model_max_length),
            int(getattr(config, "max_position_embeddings", 512)) or 512,
        )
        self.identity = f"{name}@{getattr(config, '_commit_hash', None)}"

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        import torch

        rows = []
        for start in range(0, len(pairs), self._batch):
            premises, hypotheses = zip(*pairs[start : start + self._batch], strict=True)
            inputs = self._tokenizer(
                list(premises),
                list(hypotheses),
                padding=True,
                truncation="only_first",
                max_length=self._limit,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                rows.append(self._model(**inputs).logits.float().softmax(-1).cpu().numpy())
        return np.concatenate(rows)[:, self._order]


def _config(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise PluralismError(
            f"nli={name!r} is neither a folder nor to be had from the Hub ({type(error).__name__}). "
            "Go on with --metadata nli=embedded (ships with the package, weak), a model folder, or PLURALISM_EVAL_NLI"
        ) from error


def _label_order(config: Any, name: str) -> list[int]:
    """For each of LABELS the model's own index of it."""
    own = {int(i): str(label).lower().strip() for i, label in config.id2label.items()}
    meaning = {_SPELLINGS[label]: i for i, label in own.items() if label in _SPELLINGS}
    if len(own) != len(LABELS) or len(meaning) != len(LABELS):
        raise PluralismError(
            f"nli={name!r} has labels {list(own.values())}; three are needed: entailment, neutral, contradiction "
            "(or supports, not enough info, refutes)"
        )
    return [meaning[i] for i in range(len(LABELS))]


class EmbeddedScorer:
    """The embedded LM as a zero-shot NLI scorer by likelihood, calibrated on hand-written pairs.

    Three readings of a pair, each the mean log-probability (nats a token) of the hypothesis: after
    the premise affirmed, after the premise denied, and alone. A multinomial logistic regression on
    66 calibration pairs turns them into label probabilities. Calibration and check pairs are
    disjoint.
    """

    _AFFIRMED = "{premise} In other words,"
    _DENIED = "{premise} It is not true that"
    _ALONE = "In other words,"

    def __init__(self, batch: int = 16) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from pluralism_eval.llm import embedded

        source = embedded.locate()
        self._tokenizer = AutoTokenizer.from_pretrained(source)
        self._model = AutoModelForCausalLM.from_pretrained(source).eval()
        self._batch = batch
        self._alone: dict[str, float] = {}
        calibration = read_pairs("nli_calibration.jsonl")
        wording = [self._AFFIRMED, self._DENIED, self._ALONE]
        self.identity = (
            f"embedded-nli:{source.rsplit('/', 1)[-1]}:{digest([wording, calibration])[:16]}"
        )
        self._calibrated = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        readings = self._readings([pair for pair, _ in calibration])
        self._calibrated.fit(readings, [label for _, label in calibration])

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        return np.asarray(self._calibrated.predict_proba(self._readings(pairs)))

    def _readings(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[n_pairs][4]: affirmed, alone, affirmed - denied, affirmed - alone."""
        affirmed = self._likelihood([(self._AFFIRMED.format(premise=p), h) for p, h in pairs])
        denied = self._likelihood([(self._DENIED.format(premise=p), h) for p, h in pairs])
        new = [h for h in dict.fromkeys(h for _, h in pairs) if h not in self._alone]
        self._alone.update(zip(new, self._likelihood([(self._ALONE, h) for h in new]), strict=True))
        alone = np.array([self._alone[h] for _, h in pairs])
        return np.stack([affirmed, alone, affirmed - denied, affirmed - alone], axis=1)

    def _likelihood(self, texts: Sequence[tuple[str, str]]) -> np.ndarray:
        """[n] mean log-probability of the second text's tokens after the first, nats a token."""
        import torch

        found: list[float] = []
        for start in range(0, len(texts), self._batch):
            heads = [
                self._tokenizer(head)["input_ids"] for head, _ in texts[start : start + self._batch]
            ]
            tails = [
                self._tokenizer(" " + tail)["input_ids"]
                for _, tail in texts[start : start + self._batch]
            ]
            longest = max(len(a) + len(b) for a, b in zip(heads, tails, strict=True))
            rows = [
                [*a, *b, *[0] * (longest - len(a) - len(b))]
                for a, b in zip(heads, tails, strict=True)
            ]
            sizes = [len(a) + len(b) for a, b in zip(heads, tails, strict=True)]
            mask = torch.tensor([[1] * size + [0] * (longest - size) for size in sizes])
            with torch.inference_mode():
                hidden = self._model.model(
                    input_ids=torch.tensor(rows), attention_mask=mask
                ).last_hidden_state
                for row, head, tail in zip(hidden, heads, tails, strict=True):
                    states = row[
                        len(head) - 1 : len(head) + len(tail) - 1
                    ]  # each predicts the next token
                    logprobs = self._model.lm_head(states).float().log_softmax(-1)
                    found.append(float(logprobs.gather(-1, torch.tensor(tail)[:, None]).mean()))
        return np.array(found)
