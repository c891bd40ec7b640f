"""The embedded LM as a zero-shot NLI scorer by likelihood, calibrated on hand-written pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np

from pluralism_eval import ranks, utilisation
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.llm.decoding import tokens_of_a_pass
from pluralism_eval.metrics.entailment import Pair, read_pairs

SHIPPED = files("pluralism_eval.data") / "sample" / "nli_calibration_readings.json"
"""Readings of the calibration pairs, and the identity of the scorer that read them."""
_HEAD_POSITIONS = 256
"""Whose logits over the vocabulary are held at once."""
_LONGEST = 256
"""Tokens of a row: attention over all that stands in it costs more than what sharing saves beyond."""


class EmbeddedScorer:
    """Label probabilities from the embedded LM's likelihoods.

    Pairs of one premise are read together, as a tree: the premise is computed once, for both wordings and
    all of its hypotheses. Three readings of a pair, each the mean log-probability (nats a token) of the hypothesis: after
    the premise affirmed, after the premise denied, and alone. A multinomial logistic regression on
    66 calibration pairs turns them into label probabilities. Calibration and check pairs are
    disjoint.
    """

    lot = 64
    _AFFIRMED = "{premise} In other words,"
    _DENIED = "{premise} It is not true that"
    _ALONE = "In other words,"

    def __init__(self) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from pluralism_eval.llm import embedded, load

        source = embedded.locate()
        self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        llm = load.held(source)
        if llm is not None:
            self._model = llm.inner.model
        else:
            own = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
            self._model = own.eval()
        self._alone: dict[str, float] = {}
        calibration = read_pairs("nli_calibration.jsonl")
        wording = [self._AFFIRMED, self._DENIED, self._ALONE]
        self.identity = (
            f"embedded-nli:{source.rsplit('/', 1)[-1]}:{digest([wording, calibration])[:16]}"
        )
        self._calibrated = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        readings = self._calibration([pair for pair, _ in calibration])
        self._calibrated.fit(readings, [label for _, label in calibration])

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        return np.asarray(self._calibrated.predict_proba(self.readings(pairs)))

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Reads the hypotheses alone: many pairs share one, and each is read once."""
        new = [h for h in dict.fromkeys(h for _, h in pairs) if h not in self._alone]
        batches = [new[start : start + self.lot] for start in range(0, len(new), self.lot)]

        def alone(batch: list[str]) -> list[float]:
            trees = self._trees([self._ALONE], batch)
            return [value for (row,) in self._likelihood(trees) for value in row]

        for batch, part in zip(batches, ranks.by_turns(batches, alone), strict=True):
            self._alone.update(zip(batch, part, strict=True))

    @staticmethod
    def order(pair: Pair) -> tuple[int, str, int]:
        """Sorts pairs so that those of one premise, which is then read once, stand together."""
        return -len(pair[0]), pair[0], -len(pair[1])

    def _calibration(self, pairs: Sequence[Pair]) -> np.ndarray:
        """The readings of the calibration pairs: the package's, else computed once and kept on disk."""
        shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
        if shipped["identity"] == self.identity:
            return np.array(shipped["readings"])
        store, key = Store(cache_root() / "nli.sqlite", "calibration"), digest(self.identity)
        known = ranks.agree(store.get([key]))
        if key not in known:
            known = {key: self.readings(pairs).tolist()}
            store.put(known)
        return np.array(known[key])

    def truncated(self, pairs: Sequence[Pair]) -> int:
        """None: a sentence and an explanation fit the model's window many times over."""
        return 0

    def readings(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[n_pairs][4]: affirmed, alone, affirmed - denied, affirmed - alone."""
        by_premise: dict[str, dict[str, None]] = {}
        for premise, hypothesis in pairs:
            by_premise.setdefault(premise, {})[hypothesis] = None
        trees, asked = [], []
        for premise, hypotheses in by_premise.items():
            heads = [self._AFFIRMED.format(premise=premise), self._DENIED.format(premise=premise)]
            trees += self._trees(heads, list(hypotheses))
            asked += [(premise, hypothesis) for hypothesis in hypotheses]
        read = [pair for tree in self._likelihood(trees) for pair in zip(*tree, strict=True)]
        found = dict(zip(asked, read, strict=True))
        affirmed, denied = np.array([found[pair] for pair in pairs]).T
        self.prepare(pairs)
        alone = np.array([self._alone[h] for _, h in pairs])
        return np.stack([affirmed, alone, affirmed - denied, affirmed - alone], axis=1)

    def _trees(self, heads: Sequence[str], tails: Sequence[str]) -> list[_Tree]:
        """Every one of ``tails`` after every one of ``heads``, in order; as few trees as :data:`_LONGEST` allows."""
        starts = [self._tokenizer(head)["input_ids"] for head in heads]
        ends = [self._tokenizer(" " + tail)["input_ids"] for tail in tails]
        found = [_Tree(starts, ends[:1])]
        for end in ends[1:]:
            last = found[-1]
            if last.size + len(heads) * len(end) > _LONGEST:
                found.append(_Tree(starts, [end]))
            else:
                last.tails.append(end)
        return found

    def _likelihood(self, trees: Sequence[_Tree]) -> list[list[list[float]]]:
        """[n_trees][n_heads][n_tails] mean log-probability of the tail's tokens after the head, nats a token."""
        from pluralism_eval.llm.forward import passes

        found: dict[int, list[list[float]]] = {}
        most = tokens_of_a_pass(self._model.device)
        for batch in passes([tree.size for tree in trees], most):
            found |= dict(zip(batch, self._forward([trees[i] for i in batch]), strict=True))
        return [found[i] for i in range(len(trees))]

    @utilisation.phase_unless_within("entailment")
    def _forward(self, trees: Sequence[_Tree]) -> list[list[list[float]]]:
        import torch

        from pluralism_eval.llm.linear import fast_linear

        laid = [tree.laid_out() for tree in trees]
        longest = max(tree.size for tree in trees)
        ids = torch.zeros(len(trees), longest, dtype=torch.long)
        depth = torch.zeros_like(ids)
        mask = torch.eye(longest, dtype=torch.bool).repeat(len(trees), 1, 1, 1)
        for row, (tokens, depths, above, _) in enumerate(laid):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            depth[row, : len(tokens)] = torch.tensor(depths)
            mask[row, 0, : len(tokens), : len(tokens)] = torch.from_numpy(above)
        rows = [r for r, (*_, places) in enumerate(laid) for at, _ in places for _ in at]
        at = [place for *_, places in laid for before, _ in places for place in before]
        wanted = [tokens[i] for tokens, _, _, places in laid for _, own in places for i in own]
        with torch.inference_mode(), fast_linear(self._model):
            hidden = self._model.model(
                input_ids=ids, attention_mask=mask, position_ids=depth
            ).last_hidden_state
            before = hidden[rows, at]
            parts = [slice(i, i + _HEAD_POSITIONS) for i in range(0, len(at), _HEAD_POSITIONS)]
            per_token = torch.cat(
                [self._logprobs(before[part], torch.tensor(wanted[part])) for part in parts]
            )
        sizes = [len(own) for *_, places in laid for _, own in places]
        means = iter([float(part.mean()) for part in torch.split(per_token, sizes)])
        alone = sum(tree.alone for tree in trees)
        computed = sum(tree.size for tree in trees)
        utilisation.prefill(
            self._model,
            [tree.size for tree in trees],
            sum(len(own) for *_, places in laid for _, own in places),
            reused=alone - computed,
            attended=sum(float(above.sum()) for _, _, above, _ in laid),
        )
        return [[[next(means) for _ in tree.tails] for _ in tree.heads] for tree in trees]

    def _logprobs(self, hidden: Any, wanted: Any) -> Any:
        """[n] log-probability of the tokens ``wanted`` [n] after ``hidden`` [n, width]."""
        logits = self._model.lm_head(hidden).float()
        return logits.gather(-1, wanted[:, None])[:, 0] - logits.logsumexp(-1)


@dataclass
class _Tree:
    """Token sequences that share their beginnings, as one row: every tail after every head."""

    heads: list[list[int]]
    tails: list[list[int]]

    @cached_property
    def shared(self) -> int:
        """Tokens with which all heads begin; their last ones are never shared."""
        columns = zip(*(head[:-1] for head in self.heads), strict=False)
        return next(
            (i for i, c in enumerate(columns) if len(set(c)) > 1), min(map(len, self.heads)) - 1
        )

    @property
    def size(self) -> int:
        """Tokens of the row."""
        own = sum(len(head) - self.shared for head in self.heads)
        return self.shared + own + len(self.heads) * sum(map(len, self.tails))

    @property
    def alone(self) -> int:
        """Tokens that the sequences have one by one."""
        heads = len(self.tails) * sum(map(len, self.heads))
        return heads + len(self.heads) * sum(map(len, self.tails))

    def laid_out(
        self,
    ) -> tuple[list[int], list[int], np.ndarray, list[tuple[list[int], list[int]]]]:
        """(tokens, how many tokens stand above each, [size, size] whether a token sees another, and by head and
        tail the places that predict the tail's tokens with the places of these)."""
        tokens: list[int] = []
        depths: list[int] = []
        sees = np.zeros((self.size, self.size), dtype=bool)

        def put(part: list[int], above: list[int]) -> list[int]:
            places = list(range(len(tokens), len(tokens) + len(part)))
            for i, place in enumerate(places):
                sees[place, above] = True
                sees[place, places[: i + 1]] = True
            depths.extend(range(len(above), len(above) + len(part)))
            tokens.extend(part)
            return above + places

        root = put(self.heads[0][: self.shared], [])
        found = []
        for head in self.heads:
            path = put(head[self.shared :], root)
            for tail in self.tails:
                own = put(tail, path)[len(path) :]
                found.append(([path[-1], *own[:-1]], own))
        return tokens, depths, sees, found
