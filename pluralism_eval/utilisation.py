"""What a run makes of its device: the least time that its models' work could take, over the time it took.

The floor of a phase is max(F / peak FLOP/s, B / bandwidth), of prefill and decoding apart: F counts 2 FLOPs a
parameter for every token that has to be computed, the vocabulary's matrix only where logits are needed, and
attention; B the weights once a decoding step, and the key-value cache that a step reads. Padding is not
work. Both peaks are measured in the run itself, on its device and in its number format.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from pluralism_eval import onednn


@dataclass(frozen=True)
class Shape:
    """What a token costs in one decoder-only transformers model."""

    body: int
    """Parameters that every token passes; of a mixture of experts all of them, an upper bound."""
    head: int
    """Parameters of the matrix that makes logits."""
    attention: int
    """Layers · heads · width of a head: 4 FLOPs each for every position that a token attends to."""
    kv_bytes: int
    """Key-value cache of one token."""
    number_bytes: int
    place: tuple[str, str]
    """Device and number format."""

    @classmethod
    def of(cls, model: Any) -> Shape:
        """Reads ``model`` once and keeps the answer on it."""
        known = getattr(model, "_pluralism_shape", None)
        if known is None:
            known = cls._read(model)
            object.__setattr__(model, "_pluralism_shape", known)
        found: Shape = known
        return found

    @classmethod
    def _read(cls, model: Any) -> Shape:
        config = model.config.get_text_config()
        heads = int(getattr(config, "num_attention_heads", None) or 0)  # none: a model of states
        width = int(getattr(config, "head_dim", None) or config.hidden_size // max(1, heads))
        layers = int(config.num_hidden_layers)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        head = int(config.vocab_size) * int(config.hidden_size)
        tied = bool(getattr(config, "tie_word_embeddings", False))
        # adapters are not the model's: they come and go, and their work is left out of the floor
        every = sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name)
        bytes_each = model.dtype.itemsize
        return cls(
            body=every - (head if tied else 2 * head),
            head=head,
            attention=layers * heads * width,
            kv_bytes=2 * layers * kv_heads * width * bytes_each,
            number_bytes=bytes_each,
            place=(str(model.device), str(model.dtype).removeprefix("torch.")),
        )


@dataclass
class Work:
    """What was done in one phase on one device; counts that only grow."""

    seconds: float = 0.0
    """Wall clock of the phase, phases within it aside."""
    prefilled: int = 0
    """Prompt tokens computed."""
    reused: int = 0
    """Prompt tokens that were not computed, since another prompt shares them."""
    decoded: int = 0
    """New tokens."""
    steps: int = 0
    """Decoding steps, each for a whole batch."""
    flops: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Of prefill, of decoding."""
    bytes: float = 0.0
    """That decoding has to read."""
    places: set[tuple[str, str]] = field(default_factory=set)

    def floor(self, peaks: Mapping[tuple[str, str], tuple[float, float]]) -> float | None:
        """Seconds; None where no model of this process did the work (a server, vLLM)."""
        if not self.places:
            return None
        flops = max(peaks[place][0] for place in self.places)
        bandwidth = max(peaks[place][1] for place in self.places)
        return self.flops[0] / flops + max(self.flops[1] / flops, self.bytes / bandwidth)


_phases: dict[str, Work] = {}
_open: list[str] = []
_peaks: dict[tuple[str, str], tuple[float, float]] = {}


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Everything inside is ``name``'s, but what an inner phase takes; the same phase within itself counts once."""
    start = time.perf_counter()
    _open.append(name)
    try:
        yield
    finally:
        took = time.perf_counter() - start
        _open.pop()
        _phases.setdefault(name, Work()).seconds += took
        if _open:
            _phases.setdefault(_open[-1], Work()).seconds -= took


@contextmanager
def phase_unless_within(name: str) -> Iterator[None]:
    """:func:`phase`, where nobody has named a phase yet."""
    if _open:
        yield
    else:
        with phase(name):
            yield


def prefill(
    model: Any,
    lengths: list[int],
    logits: int,
    begun: int = 0,
    reused: int | None = None,
    attended: float | None = None,
) -> None:
    """Count a forward pass over prompts of ``lengths`` tokens with ``logits`` positions read.

    Args:
        begun: tokens before these that every prompt has, and that were computed once.
        reused: tokens that would have been computed, had each prompt been computed alone.
        attended: (token, earlier token) pairs, where attention is not to all that stands before.
    """
    shape, work = Shape.of(model), _current()
    tokens = sum(lengths)
    if attended is None:
        attended = sum(n * (n + 1) / 2 + n * begun for n in lengths)
    work.prefilled += tokens
    work.reused += begun * len(lengths) if reused is None else reused
    work.flops[0] += 2 * (shape.body * tokens + shape.head * logits)
    work.flops[0] += 4 * shape.attention * attended
    work.places.add(shape.place)


def decode(model: Any, lengths: list[int]) -> None:
    """Count one decoding step for rows that have ``lengths`` tokens by now."""
    shape, work = Shape.of(model), _current()
    work.decoded += len(lengths)
    work.steps += 1
    work.flops[1] += 2 * (shape.body + shape.head) * len(lengths)
    work.flops[1] += 4 * shape.attention * sum(lengths)
    weights = (shape.body + shape.head) * shape.number_bytes
    work.bytes += weights + shape.kv_bytes * sum(lengths)
    work.places.add(shape.place)


def _current() -> Work:
    return _phases.setdefault(_open[-1] if _open else "other", Work())


def snapshot() -> dict[str, Work]:
    """What was counted so far in this process."""
    return {name: _copy(work) for name, work in _phases.items()}


def since(earlier: Mapping[str, Work]) -> dict[str, Work]:
    """What came after ``earlier``, a :func:`snapshot`; phases that did nothing, or were not timed, left out."""
    found = {}
    for name, work in _phases.items():
        before = earlier.get(name, Work())
        new = Work(
            work.seconds - before.seconds,
            work.prefilled - before.prefilled,
            work.reused - before.reused,
            work.decoded - before.decoded,
            work.steps - before.steps,
            [a - b for a, b in zip(work.flops, before.flops, strict=True)],
            work.bytes - before.bytes,
            set(work.places),
        )
        if (new.prefilled or new.decoded) and new.seconds > 0:
            found[name] = new
    return found


def _copy(work: Work) -> Work:
    return Work(**{**asdict(work), "flops": list(work.flops), "places": set(work.places)})


def peaks(place: tuple[str, str]) -> tuple[float, float]:
    """(FLOP/s of a large matrix product, bytes/s that a large sum reads) on this device; measured once a process.

    Takes about half a second on a CPU.
    """
    if place not in _peaks:
        _peaks[place] = measured_peaks(*place)
    return _peaks[place]


def measured_peaks(device: str, number: str) -> tuple[float, float]:
    """:func:`peaks`, measured now: on a shared machine they change from one moment to the next."""
    import torch

    dtype = getattr(torch, number)
    cuda = device.startswith("cuda")
    n = 8192 if cuda else 1024

    def fastest(work: Any, times: int) -> float:
        best = float("inf")
        for _ in range(times + 1):  # the first warms up
            if cuda:
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
        return best

    with torch.inference_mode():
        a = torch.ones(n, n, dtype=dtype, device=device)
        product = fastest(lambda: torch.mm(a, a), 5)
        if number == "float32" and device == "cpu" and onednn.available():
            ordered = onednn.in_order(a)
            product = min(product, fastest(lambda: onednn.product(a, ordered), 5))
        much = torch.ones(2**29 if cuda else 2**25, dtype=torch.float32, device=device)
        read = fastest(lambda: much.sum(), 5)
    return 2 * n**3 / product, much.numel() * 4 / read


def describe(phases: Mapping[str, Work]) -> dict[str, dict[str, Any]]:
    """Phase → figures for results and the report.

    ``seconds``, ``floor_seconds`` and ``utilisation`` (floor / seconds, in [0, 1] where the peaks are
    right; None without a model in this process), ``tokens_per_second`` (all computed tokens, prompts' and new ones), ``new_tokens``,
    ``reused`` (share in [0, 1] of prompt tokens that another prompt's computation already held).
    """
    found = {}
    for name, work in phases.items():
        floor = work.floor({place: peaks(place) for place in work.places})
        tokens = work.prefilled + work.decoded
        found[name] = {
            "seconds": work.seconds,
            "floor_seconds": floor,
            "utilisation": None if floor is None else floor / work.seconds,
            "prompt_tokens": work.prefilled,
            "new_tokens": work.decoded,
            "tokens_per_second": tokens / work.seconds,
            "rows_a_step": work.decoded / work.steps if work.steps else None,
            "reused": work.reused / (work.prefilled + work.reused or 1),
        }
    return found


def overall(described: Mapping[str, Mapping[str, Any]]) -> str:
    """``floor / seconds`` over all phases whose floor is known, for tables: two digits, or a dash."""
    known = [row for row in described.values() if row["floor_seconds"] is not None]
    seconds = sum(row["seconds"] for row in known)
    return f"{sum(row['floor_seconds'] for row in known) / seconds:.2f}" if seconds else "–"


def show(what: str, described: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what :func:`lines` says to standard error."""
    print(
        "\n".join([f"pluralism-eval: the models' work in {what}", *lines(described)]),
        file=sys.stderr,
    )


def lines(described: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line a phase, for people."""
    found = []
    for name, row in described.items():
        share = "" if row["utilisation"] is None else f"{row['utilisation']:.2f} of the device"
        parts = [f"{row['seconds']:.1f} s", share, f"{row['tokens_per_second']:,.0f} tokens/s"]
        if row["new_tokens"]:
            parts.append(f"{row['new_tokens'] / row['seconds']:,.1f} new tokens/s")
        parts.append(f"{row['reused']:.0%} of prompt tokens reused")
        found.append(f"  {name}: " + ", ".join(part for part in parts if part))
    return found
