"""Do community LMs speak, each in its own voice? Figures on messages about topics that none was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval.communities import adapters, asking
from pluralism_eval.communities.attached import attach
from pluralism_eval.communities.catalogue import Community
from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.corpora import SITUATION, Piece
from pluralism_eval.prompts import Prompts
from pluralism_eval.train import log_likelihoods, tokens_of
from pluralism_eval.variants import named

SAMPLING = Sampling(max_tokens=80, top_p=0.9, temperature=0.7)
"""How the messages are drawn: as the embedded pool's."""
_BATCH = 8


def to_show() -> list[Piece]:
    """Three prompts for which a community's words stand beside its base's: two situations and a question."""
    prompts = Prompts()
    situations = (
        "A town replacing the books of its library by computers",
        "Grandparents moving in with their grown children",
    )
    question, options = (
        "Question: Who should pay for repairs of small country roads?",
        ("The people who live there", "All taxpayers", "Companies whose trucks use them"),
    )
    return [
        *(Piece("", asking.situation(prompts, SITUATION.format(each))) for each in situations),
        Piece("", asking.asked_question(prompts, question, options), options=options),
    ]


def beside_base(name: str, folder: Path, base: str) -> list[tuple[str, str, str]]:
    """(prompt, the base's message, the community's) for :func:`to_show`, drawn with the same seeds."""
    member = Community(name, "", base=base, adapter=str(folder))
    engine = LoraEngine(base, adapters.resolve_all([member]))
    chat = asking.has_template(engine.tokenizer)
    jobs = [Job(str(i), name, piece.prompt, i, chat) for i, piece in enumerate(to_show())]
    own = {job.key: output.text for job, output in engine.generate(jobs, SAMPLING)}
    bare = {job.key: output.text for job, output in engine.generate_bare(jobs, SAMPLING)}
    return [(job.prompt, bare[job.key], own[job.key]) for job in jobs]


@dataclass(frozen=True)
class Voices:
    """Of several communities on one base model."""

    messages: dict[str, list[tuple[Piece, str]]]
    """Community → (what it was asked, what it said)."""
    distinctness: dict[str, float]
    """Community → share of its messages that its own adapter finds likelier than every other one does; chance 1/k."""
    naming: dict[str, float]
    """Community → share of its messages on questions that name exactly one option; NaN without questions."""


def voices(folders: Mapping[str, Path], base: str, asked: Sequence[Piece]) -> Voices:
    """Lets each adapter in ``folders`` answer the prompts of ``asked``, and asks all adapters who wrote what."""
    members = [
        Community(name, "", base=base, adapter=str(folder)) for name, folder in folders.items()
    ]
    engine = LoraEngine(base, adapters.resolve_all(members))
    chat = asking.has_template(engine.tokenizer)
    jobs = [
        Job(f"{name}/{i}", name, piece.prompt, i, chat)
        for name in folders
        for i, piece in enumerate(asked)
    ]
    texts = {job.key: output.text for job, output in engine.generate(jobs, SAMPLING)}
    said = {name: [(p, texts[f"{name}/{i}"]) for i, p in enumerate(asked)] for name in folders}
    return Voices(
        said,
        _distinctness(engine.model, engine.tokenizer, folders, said),
        {name: naming(own) for name, own in said.items()},
    )


def naming(messages: Sequence[tuple[Piece, str]]) -> float:
    """Share of the messages about a question that name exactly one of its options."""
    about = [(piece.options, text) for piece, text in messages if piece.options]
    if not about:
        return float("nan")
    return fmean(len(named(text, options)) == 1 for options, text in about)


def _distinctness(
    model: Any,
    tokenizer: Any,
    folders: Mapping[str, Path],
    said: Mapping[str, Sequence[tuple[Piece, str]]],
) -> dict[str, float]:
    rows = [
        tokens_of(tokenizer, piece._replace(text=text))
        for own in said.values()
        for piece, text in own
    ]
    nats = {
        name: _nats(attach(model, name, folder).model, rows) for name, folder in folders.items()
    }
    writers = [name for name, own in said.items() for _ in own]
    guessed = [max((own[i], name) for name, own in nats.items())[1] for i in range(len(rows))]
    return {
        name: fmean(g == name for g, w in zip(guessed, writers, strict=True) if w == name)
        for name in said
    }


def _nats(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    found: dict[int, float] = {}
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        found |= dict(zip(part, log_likelihoods(model, [rows[i] for i in part]), strict=True))
    return [found[i] for i in range(len(rows))]
