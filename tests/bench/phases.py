"""One phase's questions, put to ours, to the plain algorithm and to lm-eval's ``hf`` in turn, with models that are loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from pluralism_eval import utilisation
from pluralism_eval.cache import digest
from pluralism_eval.communities import adapters
from pluralism_eval.communities.catalogue import load_pool
from pluralism_eval.communities.engine import Job, Sampling
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.distribution import read
from pluralism_eval.llm import embedded
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.metrics.nli_embedded import EmbeddedScorer
from pluralism_eval.readouts import decoding
from pluralism_eval.settings import parse
from tests.bench.plain import CHOICE_TOKENS, Plain
from tests.bench.study import Sizes

CLOSE = 1e-4
"""By which probabilities and likelihoods (nats a token) may differ."""
TIE = 1e-3
"""Nats between two tokens that rounding may exchange."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CPU = ("cpu", "float32")
FIXED = 32
"""Rows of transformers' ``generate``."""


@dataclass
class Measured:
    """One phase."""

    questions: int
    ours: list[float] = field(default_factory=list)
    """Seconds for all questions, by repetition."""
    floors: list[float] = field(default_factory=list)
    """The least that the device could take, by its peaks just before and after."""
    peaks: list[tuple[float, float]] = field(default_factory=list)
    """(FLOP/s, bytes/s), the mean of both."""
    matmul: list[float] = field(default_factory=list)
    """FLOP/s of torch's own product of matrices, by repetition; the peak is that of the fastest known."""
    matmul_floors: list[float] = field(default_factory=list)
    """The floors by it."""
    plain: list[float] = field(default_factory=list)
    """Seconds of each question."""
    hf: list[float] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)
    """Answers of ours that are not the plain algorithm's."""
    ties: list[str] = field(default_factory=list)
    """Texts that part where two tokens are equally likely."""


class Contenders:
    """The three, loaded."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        members = adapters.resolve_all(load_pool("embedded"))
        self.llm = load_llm(parse("vanilla", {}))
        self.communities = LoraEngine("embedded", members, self.llm)
        self.scorer = EmbeddedScorer()
        folder = embedded.locate()
        self.plain = Plain(folder, {name: adapter.folder for name, adapter in members.items()})
        self.hf = HarnessLLM(HFLM(folder, device="cpu", dtype="float32"), "hf")

    def ours(self, phase: str, asked: Sequence[Any]) -> list[Any]:
        """The library's answers, all asked at once."""
        if phase == "messages":
            jobs = [
                Job(digest([*job]), *job, seed=i)
                for i, job in enumerate(sorted(asked, key=lambda job: -len(job[1])))
            ]
            sampling = Sampling(self.sizes.message_tokens)
            return [output.text for _, output in self.communities.generate(jobs, sampling)]
        if phase == "entailment":
            self.scorer._alone.clear()
            order = sorted(asked, key=self.scorer.order)
            self.scorer.prepare(order)
            lots = [order[i : i + self.scorer.lot] for i in range(0, len(order), self.scorer.lot)]
            rows = [row.tolist() for lot in lots for row in self.scorer.readings(lot)]
            found = dict(zip(order, rows, strict=True))
            return [found[pair] for pair in asked]
        return _by_llm(self.llm, phase, asked, self.sizes)

    def plainly(self, phase: str, question: Any) -> Any:
        if phase == "messages":
            return self.plain.message(*question, self.sizes.message_tokens)
        if phase == "entailment":
            return self.plain.entailment(*question)
        if phase == "options":
            return self.plain.options(question[0], LETTERS[: question[1]])
        limit = CHOICE_TOKENS if phase == "selection" else self.sizes.tokens
        return self.plain.text(question, limit)

    def by_hf(self, phase: str, question: Any) -> None:
        """lm-eval's own; messages by the bare model, since it has one adapter or none."""
        if phase == "messages":
            sampled = decoding(1.0, self.sizes.message_tokens, [])
            self.hf.generate([question[1]], sampled)
        elif phase == "entailment":
            premise, hypothesis = question
            heads = [
                f"{premise} In other words,",
                f"{premise} It is not true that",
                "In other words,",
            ]
            self.hf.inner.loglikelihood(
                [
                    Instance("loglikelihood", {}, (head, f" {hypothesis}"), i)
                    for i, head in enumerate(heads)
                ],
                disable_tqdm=True,
            )
        else:
            _by_llm(self.hf, phase, [question], self.sizes)

    def measure(self, phase: str, asked: Sequence[Any], report: Callable[[str], None]) -> Measured:
        """Each of ``sizes.repeats`` times ours answers all; in between the others go through them once."""
        found, n = Measured(len(asked)), self.sizes.repeats
        for warm_up in (self.plainly, self.by_hf):
            warm_up(phase, asked[0])
        self.ours(phase, asked[:1])
        for repeat in range(n):
            peaks, matmul = [utilisation.measured_peaks(*CPU)], [matmul_rate()]
            before = utilisation.snapshot()
            start = time.perf_counter()
            with utilisation.phase(phase):
                answers = self.ours(phase, asked)
            found.ours.append(time.perf_counter() - start)
            peaks.append(utilisation.measured_peaks(*CPU))
            matmul.append(matmul_rate())
            flops, bandwidth = (sum(both) / 2 for both in zip(*peaks, strict=True))
            found.peaks.append((flops, bandwidth))
            found.matmul.append(sum(matmul) / 2)
            work = utilisation.since(before)[phase]
            for peak, floors in ((flops, found.floors), (found.matmul[-1], found.matmul_floors)):
                floor = work.floor({CPU: (peak, bandwidth)})
                assert floor is not None
                floors.append(floor)
            part = range(repeat, len(asked), n)
            for i in part:
                start = time.perf_counter()
                other = self.plainly(phase, asked[i])
                found.plain.append(time.perf_counter() - start)
                self._compare(phase, asked[i], answers[i], other, found)
            for i in part:
                start = time.perf_counter()
                self.by_hf(phase, asked[i])
                found.hf.append(time.perf_counter() - start)
            report(f"{phase}, {repeat + 1} of {n}: ours {found.ours[-1]:.1f} s")
        return found

    def _compare(self, phase: str, question: Any, own: Any, other: Any, found: Measured) -> None:
        if phase in ("selection", "responses"):
            until = ["\n"] if phase == "selection" else []
            self._compare_texts(question, own, other, until, f"{phase} {question[-60:]!r}", found)
        elif phase == "options":
            ours, theirs = read(own.logprobs)[0], [p / sum(other) for p in other]
            _close(ours, theirs, f"options {question[0][-60:]!r}", found)
        elif phase == "entailment":
            _close(own, other, f"entailment {question}", found)

    def _compare_texts(
        self, prompt: str, own: str, tokens: list[int], until: list[str], what: str, found: Measured
    ) -> None:
        def text(some: Sequence[int]) -> str:
            whole = self.plain.decode(some)
            for stop in until:
                whole = whole.split(stop)[0]
            return whole

        if text(tokens) == own:
            return
        same = max(i for i in range(len(tokens)) if own.startswith(text(tokens[:i])))
        lead = self.plain.lead(prompt, tokens[:same])
        line = f"{what}: after {same} tokens, where the likeliest leads by {lead:.2g} nats"
        (found.ties if lead < TIE else found.differ).append(line)

    def long_messages(self, asked: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Texts of very different lengths: rows that leave and join, against ``generate`` in fixed batches.

        Both by the bare model, with equally many rows at once, longest prompts first.
        """
        limit, tokenizer = self.sizes.long_tokens, self.plain.tokenizer
        prompts = sorted((prompt for _, prompt in asked), key=lambda p: -len(p))
        local = LocalModel("embedded", "main", self.llm, FIXED)
        rows = [local.tokens(prompt) for prompt in prompts]
        start = time.perf_counter()
        drawn = local.sample(local.model, rows, range(len(rows)), Sampling(limit))
        own = sum(output.n_tokens + output.stopped for _, output in drawn)
        ours = time.perf_counter() - start
        tokenizer.padding_side = "left"
        end, theirs = tokenizer.eos_token_id, 0
        start = time.perf_counter()
        for i in range(0, len(prompts), FIXED):
            batch = tokenizer(prompts[i : i + FIXED], return_tensors="pt", padding=True)
            with torch.inference_mode():
                whole = self.plain.bare.generate(
                    **batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=limit, pad_token_id=end,
                )  # fmt: skip
            for new in whole[:, batch["input_ids"].shape[1] :].tolist():
                theirs += new.index(end) + 1 if end in new else len(new)
        seconds = time.perf_counter() - start
        return {
            "messages": len(prompts), "max_tokens": limit, "rows": FIXED,
            "ours": {"seconds": ours, "new_tokens": own}, "fixed_batches": {"seconds": seconds, "new_tokens": theirs},
            "tokens_per_second_ratio": (own / ours) / (theirs / seconds),
        }  # fmt: skip


def matmul_rate(n: int = 1024) -> float:
    """FLOP/s of ``torch.mm`` on two square matrices of ``n``, the best of six."""
    a, best = torch.ones(n, n), float("inf")
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            torch.mm(a, a)
            best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def _by_llm(llm: HarnessLLM, phase: str, asked: Sequence[Any], sizes: Sizes) -> list[Any]:
    if phase == "options":
        letters = [list(LETTERS[:n]) for _, n in asked]
        return llm.option_logprobs([prompt for prompt, _ in asked], letters)
    if phase == "selection":
        return llm.generate(asked, decoding(0.0, CHOICE_TOKENS, ["\n"]))
    return llm.generate(asked, decoding(0.0, sizes.tokens, []))


def _close(own: Sequence[float], other: Sequence[float], what: str, found: Measured) -> None:
    apart = max(abs(a - b) for a, b in zip(own, other, strict=True))
    if not apart <= CLOSE:
        found.differ.append(f"{what}: by {apart:.2g}")
