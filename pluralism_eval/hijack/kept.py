"""An LLM whose every answer is kept on disk: no prompt is asked twice, in this run or the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pluralism_eval import __version__
from pluralism_eval.cache import Store, digest
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.schema import OptionScores, TextScore


class KeptLLM:
    """Stands in for ``llm``. An attack changes one message, so most prompts of an attacked run are those
    of the clean run, and an interrupted run goes on where it stopped."""

    def __init__(self, llm: HarnessLLM, store: Store) -> None:
        self.llm, self._store = llm, store
        self.asked = 0
        """Prompts that went to the LLM."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.llm, name)

    def generate(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        keys = [self._key("generate", p, settings) for p in prompts]
        return self._all(keys, prompts, lambda new: self.llm.generate(_at(prompts, new), settings))

    def sample(
        self, prompts: Sequence[str], settings: Mapping[str, Any], n: int
    ) -> list[list[str]]:
        keys = [self._key("sample", p, settings, n) for p in prompts]
        return self._all(keys, prompts, lambda new: self.llm.sample(_at(prompts, new), settings, n))

    def option_logprobs(
        self, prompts: Sequence[str], letters: Sequence[Sequence[str]], *how: Any
    ) -> list[OptionScores]:
        keys = [
            self._key("options", p, list(o), how) for p, o in zip(prompts, letters, strict=True)
        ]

        def ask(new: Sequence[int]) -> list[dict[str, Any]]:
            found = self.llm.option_logprobs(_at(prompts, new), _at(letters, new), *how)
            return [asdict(scores) for scores in found]

        return [_scores(row) for row in self._all(keys, prompts, ask)]

    def continuation_logprobs(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[OptionScores]:
        keys = [
            self._key("continuations", p, list(c))
            for p, c in zip(prompts, continuations, strict=True)
        ]

        def ask(new: Sequence[int]) -> list[dict[str, Any]]:
            found = self.llm.continuation_logprobs(_at(prompts, new), _at(continuations, new))
            return [asdict(scores) for scores in found]

        return [_scores(row) for row in self._all(keys, prompts, ask)]

    def text_logprobs(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[TextScore]]:
        keys = [self._key("texts", p, list(t)) for p, t in zip(prompts, texts, strict=True)]

        def ask(new: Sequence[int]) -> list[dict[str, Any]]:
            found = self.llm.text_logprobs(_at(prompts, new), _at(texts, new))
            lost = [any(score.logprob == -math.inf for score in own) for own in found]
            return [
                {"texts": [asdict(s) for s in own], "unread": int(gone), "replies": []}
                for own, gone in zip(found, lost, strict=True)
            ]

        rows = self._all(keys, prompts, ask)
        return [[TextScore(**score) for score in row["texts"]] for row in rows]

    def _key(self, kind: str, prompt: Any, *more: Any) -> str:
        return digest(
            [__version__, self.llm.identity, kind, str(getattr(prompt, "prompt", prompt)), more]
        )

    def _all(
        self, keys: Sequence[str], prompts: Sequence[Any], ask: Callable[[Sequence[int]], list[Any]]
    ) -> list[Any]:
        """[n] values under ``keys``; ``ask`` answers for the places that are new, each key once.

        What a server refused, or did not show, counts for this run only.
        """
        known = self._store.get(list(dict.fromkeys(keys)))
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        new = sorted(i for key, i in first.items() if key not in known)
        if new:
            fresh = {keys[i]: value for i, value in zip(new, ask(new), strict=True)}
            self.asked += len(new)
            kept = [i for i in new if not self.llm.refused(prompts[i])]
            self._store.put({keys[i]: fresh[keys[i]] for i in kept if _is_shown(fresh[keys[i]])})
            known |= fresh
        return [known[key] for key in keys]


def _is_shown(value: Any) -> bool:
    """False for option scores that nothing was seen of."""
    return not isinstance(value, dict) or not value["unread"] or bool(value["replies"])


def _at(values: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [values[i] for i in places]


def _scores(row: Mapping[str, Any]) -> OptionScores:
    return OptionScores(
        **{**row, "logprobs": tuple(row["logprobs"]), "replies": tuple(row["replies"])}
    )
