"""``--use_cache``: finished answers on disk, keyed by method, model and query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlitedict import SqliteDict

from pluralism_eval.cache import Store, digest
from pluralism_eval.schema import (
    Answer,
    Message,
    OptionScores,
    Query,
    Reading,
    Selection,
    Sent,
    TextScore,
    fields_of,
)


class _Bypassed(SqliteDict):
    """lm-eval's cache, made to know nothing: its keys hold neither the model nor the doc."""

    def __contains__(self, key: Any) -> bool:
        return False

    def __setitem__(self, key: Any, value: Any) -> None:
        return None


def bypass(database: Any) -> Path:
    """Switch lm-eval's response cache off; returns where ours goes, beside its file."""
    database.__class__ = _Bypassed
    return Path(database.filename).with_suffix(".pluralism.sqlite")


class AnswerCache:
    """Answers of one method, model and configuration. Sampled generations are never kept."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._store, self._fingerprint = Store(path, "answers"), fingerprint

    def known(self, queries: Sequence[Query]) -> set[str]:
        """Keys of the queries that :meth:`load` has answers to."""
        keys = self._keys(queries)
        found = self._store.known(list(dict.fromkeys(keys.values())))
        return {name for name, key in keys.items() if key in found}

    def load(self, queries: Sequence[Query]) -> dict[str, Answer]:
        """Query key → answer, for those known."""
        keys = self._keys(queries)
        found = self._store.get(list(dict.fromkeys(keys.values())))
        return {name: _from_dict(found[key]) for name, key in keys.items() if key in found}

    def save(self, queries: Sequence[Query], answers: Mapping[str, Answer]) -> None:
        """Keeps the answers, but for those that a server's replies did not show: the next run asks again."""
        keys = self._keys(queries)
        self._store.put({k: answers[name] for name, k in keys.items() if _is_shown(answers[name])})

    def _keys(self, queries: Sequence[Query]) -> dict[str, str]:
        """Query key → key in the store, for those whose answer is not sampled."""
        return {q.key: self._key(q) for q in queries if not q.generation.get("do_sample")}

    def _key(self, query: Query) -> str:
        content = fields_of(query)
        del content["key"], content["doc_id"]
        return digest([self._fingerprint, content])


def _is_shown(answer: Answer) -> bool:
    return not any(s.scores.unread and not s.scores.replies for s in answer.sent if s.scores)


def _from_dict(row: Mapping[str, Any]) -> Answer:
    def scores(value: Mapping[str, Any] | None) -> OptionScores | None:
        return (
            None
            if value is None
            else OptionScores(
                **{
                    **value,
                    "logprobs": tuple(value["logprobs"]),
                    "replies": tuple(value["replies"]),
                    "texts": tuple(TextScore(**text) for text in value.get("texts", ())),
                    "priors": tuple(value.get("priors", ())),
                }
            )
        )

    return Answer(
        text=row["text"],
        logprobs=tuple(row["logprobs"]),
        greedy=row["greedy"],
        messages=tuple(Message(**m) for m in row["messages"]),
        selections=tuple(Selection(**s) for s in row["selections"]),
        sent=tuple(Sent(**{**s, "scores": scores(s["scores"])}) for s in row["sent"]),
        readings=tuple(
            Reading(**{**r, **{k: tuple(r[k]) for k in ("order", "distribution", "lower")}})
            for r in row["readings"]
        ),
        lower=tuple(row["lower"]),
        samples=row["samples"],
    )
