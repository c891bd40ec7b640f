"""The embedded LM as a zero-shot NLI scorer by likelihood, calibrated on hand-written pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pluralism_eval import ranks
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.metrics.entailment import Pair, read_pairs


class EmbeddedScorer:
    """Label probabilities from the embedded LM's likelihoods.

    Three readings of a pair, each the mean log-probability (nats a token) of the hypothesis: after
    the premise affirmed, after the premise denied, and alone. A multinomial logistic regression on
    66 calibration pairs turns them into label probabilities. Calibration and check pairs are
    disjoint.
    """

    lot = 64
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
        self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
        self._model = model.eval()
        self._batch = batch
        self._alone: dict[str, float] = {}
        calibration = read_pairs("nli_calibration.jsonl")
        wording = [self._AFFIRMED, self._DENIED, self._ALONE]
        self.identity = (
            f"embedded-nli:{source.rsplit('/', 1)[-1]}:{digest([wording, calibration])[:16]}"
        )
        self._calibrated = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        readings = self._kept_readings([pair for pair, _ in calibration])
        self._calibrated.fit(readings, [label for _, label in calibration])

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        return np.asarray(self._calibrated.predict_proba(self._readings(pairs)))

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Reads the hypotheses alone: many pairs share one, and each is read once."""
        new = [h for h in dict.fromkeys(h for _, h in pairs) if h not in self._alone]
        batches = [new[start : start + self._batch] for start in range(0, len(new), self._batch)]

        def alone(batch: list[str]) -> list[float]:
            found: list[float] = self._likelihood([(self._ALONE, h) for h in batch]).tolist()
            return found

        for batch, part in zip(batches, ranks.by_turns(batches, alone), strict=True):
            self._alone.update(zip(batch, part, strict=True))

    def _kept_readings(self, pairs: Sequence[Pair]) -> np.ndarray:
        """The readings of the calibration pairs, computed once and kept on disk."""
        store, key = Store(cache_root() / "nli.sqlite", "calibration"), digest(self.identity)
        known = ranks.agree(store.get([key]))
        if key not in known:
            known = {key: self._readings(pairs).tolist()}
            store.put(known)
        return np.array(known[key])

    def truncated(self, pairs: Sequence[Pair]) -> int:
        """None: a sentence and an explanation fit the model's window many times over."""
        return 0

    def _readings(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[n_pairs][4]: affirmed, alone, affirmed - denied, affirmed - alone."""
        affirmed = self._likelihood([(self._AFFIRMED.format(premise=p), h) for p, h in pairs])
        denied = self._likelihood([(self._DENIED.format(premise=p), h) for p, h in pairs])
        self.prepare(pairs)
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
