"""An LLM over any lm-eval model.

:class:`HarnessLLM` uses only what every lm-eval model offers (``generate_until``,
``loglikelihood``). :class:`HFLLM` reads the next-token distribution of transformers models
directly: one forward pass a prompt, all spellings of all options at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pluralism_eval import progress, ranks, utilisation
from pluralism_eval.cache import digest
from pluralism_eval.distribution import logsumexp
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.batches import equal_settings, fixed_size, generation_batches
from pluralism_eval.llm.decoding import (
    Greedy,
    can_decode,
    decode,
    is_plain,
    lot_of,
    rows_that_fit,
    tokens_of_a_pass,
)
from pluralism_eval.schema import OptionScores, Turn
from pluralism_eval.usage import Usage

if TYPE_CHECKING:
    from pluralism_eval.llm.forward import Opening

log = logging.getLogger(__name__)


class HarnessLLM:
    """Text generation and option scoring over an lm-eval ``LM``."""

    def __init__(self, inner: Any, name: str, batch_tokens: int | None = None) -> None:
        self.inner = inner
        self.name = name
        """Model, revision and settings: what outputs depend on."""
        self.batch_tokens = batch_tokens
        self.usage = Usage()
        """Of everything asked through this object, whichever method asked."""
        self._can_score: bool | None = None

    @property
    def max_length(self) -> int:
        """Context window in tokens, prompt and response together."""
        return int(getattr(self.inner, "max_length", None) or 2048)

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text``; three characters a token where the model has no local tokenizer.

        A conversation for a chat API (``JsonChatStr``) counts by its text.
        """
        text = getattr(text, "prompt", text)
        try:
            return len(self.inner.tok_encode(text))
        except (AttributeError, NotImplementedError, TypeError):
            return math.ceil(len(text) / 3)

    def render(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> str:
        """Chat turns → the model's own prompt string (``JsonChatStr`` for chat APIs)."""
        rendered: str = self.inner.apply_chat_template(
            list(turns), add_generation_prompt=add_generation_prompt
        )
        return rendered

    def generate(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        """One continuation per prompt; ``settings`` are lm-eval's ``gen_kwargs``."""
        if not prompts:
            return []
        return self.generate_until(self._instances(prompts, settings))

    def generate_until(self, requests: Sequence[Any], bare: bool = False) -> list[str]:
        """The texts that lm-eval's own ``requests`` ask for, each with generation settings of its own.

        Args:
            bare: as the lm-eval model itself batches and decodes them.
        """
        texts = as_texts(self.name, self.inner.generate_until(list(requests)), len(requests))
        self.count([request.args[0] for request in requests], texts)
        return texts

    def sample(
        self, prompts: Sequence[str], settings: Mapping[str, Any], n: int
    ) -> list[list[str]]:
        """[n_prompts][n] continuations; for n = 1 as :meth:`generate`."""
        if n > 1 and self._fixed_seed:
            # lm-eval sends these servers one seed with every request: equal prompts, equal "samples"
            columns = [self.generate(prompts, {**settings, "seed": i}) for i in range(n)]
            return [list(row) for row in zip(*columns, strict=True)]
        flat = iter(self.generate([p for p in prompts for _ in range(n)], settings))
        return [[next(flat) for _ in range(n)] for _ in prompts]

    def refused(self, prompt: Any) -> str:
        """How the server refused ``prompt`` in this run (``refusal``, ``content_filter``); else empty."""
        return ""

    def api_counts(self) -> dict[str, Any]:
        """What happened to its requests, where it is a server asked by ourselves; else empty."""
        return {}

    @property
    def takes_schema(self) -> bool:
        """True where ``json_schema`` in generation settings binds the answer's form."""
        return False

    def resolve(self, readout: str) -> str:
        """The readout that ``readout`` comes to with this LLM.

        Raises:
            PluralismError: it needs a server (``llm=openai``).
        """
        if readout in ("echo", "top_logprobs"):
            raise PluralismError(
                f"readout={readout} reads a server's replies (llm=openai); {self.name} is read with readout=options"
            )
        return readout

    @property
    def _fixed_seed(self) -> bool:
        from lm_eval.models.api_models import TemplateAPI

        return isinstance(self.inner, TemplateAPI)

    def continuation_logprobs(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[OptionScores]:
        """Log-likelihood of every continuation: [n_prompts] scores with [n_options] nats."""
        pairs = [(p, c) for p, options in zip(prompts, continuations, strict=True) for c in options]
        scored = iter(self._loglikelihood(pairs))
        results = []
        for options in continuations:
            part = [next(scored) for _ in options]
            greedy = next((i for i, (_, is_greedy) in enumerate(part) if is_greedy), -1)
            results.append(OptionScores(tuple(float(ll) for ll, _ in part), greedy))
        return results

    def option_logprobs(
        self,
        prompts: Sequence[str],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
        readout: str = "letters",
    ) -> list[OptionScores]:
        """Probability of each option letter as next text, its spellings (``A``, `` A``) summed.

        Args:
            prompts: [n_prompts].
            letters: [n_prompts][n_options].
            top_tokens: only for models with a full distribution (:class:`HFLLM`).
            readout: what :meth:`resolve` gave; servers have more than one.
        """
        if top_tokens is not None:
            raise PluralismError(
                f"preset=reference reads the {top_tokens} likeliest tokens, which {self.name} does not expose "
                "through lm-eval; use preset=paper or a transformers model (llm=hf)"
            )
        spelled = [
            [self._spellings(p, letter) for letter in options]
            for p, options in zip(prompts, letters, strict=True)
        ]
        pairs = [
            (p, s)
            for p, options in zip(prompts, spelled, strict=True)
            for forms in options
            for s in forms
        ]
        scored = iter(self._loglikelihood(pairs))
        results = []
        for options in spelled:
            parts = [[next(scored) for _ in forms] for forms in options]
            greedy = next((i for i, part in enumerate(parts) if any(g for _, g in part)), -1)
            results.append(
                OptionScores(
                    tuple(float(logsumexp([ll for ll, _ in part])) for part in parts), greedy
                )
            )
        return results

    def check_scoring(self) -> None:
        """Raises PluralismError if the model has no log-probabilities. One tiny request, once."""
        if self._can_score is None:
            try:
                self.inner.loglikelihood(
                    [self._instance("loglikelihood", ("Question: 1 or 2?\nAnswer:", " 1"), 0)]
                )
                self._can_score = True
            except NotImplementedError:
                self._can_score = False
        if not self._can_score:
            raise PluralismError(
                f"{self.name} gives no log-probabilities, which readout=options needs. Read its words instead "
                "(readout=sampled, verbalised or generated), use a model that gives them (hf, vllm, local-completions, "
                "openai-completions), or only generation tasks (pluralism_overton_nli)"
            )

    def _spellings(self, prompt: str, letter: str) -> list[str]:
        forms = [f" {letter}", letter]
        encode = getattr(self.inner, "_encode_pair", None)
        if encode is None or not isinstance(prompt, str):
            return forms
        try:
            encoded = {tuple(encode(prompt, form)[1]): form for form in forms}
        except (AttributeError, NotImplementedError, TypeError):
            return forms
        return list(encoded.values())  # one entry where both spellings are the same tokens

    def _loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        if not pairs:
            return []
        unique = list(dict.fromkeys(pairs))
        requests = [self._instance("loglikelihood", pair, i) for i, pair in enumerate(unique)]
        answers = self.inner.loglikelihood(requests)
        _check_count(self.name, len(answers), len(unique))
        known = dict(zip(unique, answers, strict=True))
        self.count([prompt for prompt, _ in unique])
        return [known[pair] for pair in pairs]

    def count(self, prompts: Sequence[Any], texts: Sequence[str] = ()) -> None:
        """Add prompts sent and texts generated to :attr:`usage`."""
        tokens = {prompt: self.count_tokens(str(prompt)) for prompt in dict.fromkeys(prompts)}
        new = sum(self.count_tokens(text) for text in texts)
        self.usage.add(len(prompts), sum(tokens[prompt] for prompt in prompts), new)

    def _instances(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[Any]:
        return [
            self._instance("generate_until", (prompt, dict(settings)), i)
            for i, prompt in enumerate(prompts)
        ]

    @staticmethod
    def _instance(kind: str, arguments: tuple[Any, ...], index: int) -> Any:
        from lm_eval.api.instance import Instance

        return Instance(kind, doc={}, arguments=arguments, idx=0, metadata=("pluralism", index, 1))


def as_texts(name: str, answers: Sequence[Any], n: int) -> list[str]:
    """[n] texts of a model called ``name``; one that it did not write (None) is empty, and counted as such.

    A lone surrogate, which JSON may hold, is no text that can be sent or stored: it becomes "?".

    Raises:
        PluralismError: another number of texts.
    """
    _check_count(name, len(answers), n)
    return ["" if t is None else str(t).encode("utf-8", "replace").decode() for t in answers]


def _check_count(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise PluralismError(
            f"{name} gave {found} answers to {wanted} requests; its lm-eval model is broken"
        )


class HFLLM(HarnessLLM):
    """A decoder-only transformers model inside lm-eval's ``HFLM``."""

    def __init__(self, inner: Any, name: str, batch_tokens: int | None = None) -> None:
        super().__init__(inner, name, batch_tokens)
        self._can_score = True
        self._by_text: dict[str, list[int]] | None = None

    def generate(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        """See the base class; samples are seeded a batch, by torch's seed and the batch.

        They do not depend on what was drawn before, in this process or another.
        """
        if not prompts or not settings.get("do_sample"):
            return super().generate(prompts, settings)
        import torch

        requests = self._instances(prompts, settings)
        found: dict[int, str] = {}
        with fixed_size(self.inner) as size:
            batches = generation_batches(self.inner, requests, size)

            def sample(batch: list[int]) -> list[str]:
                key = [torch.initial_seed(), batch, [prompts[i] for i in batch]]
                device = self.inner.device
                with torch.random.fork_rng([device] if device.type == "cuda" else []):
                    torch.manual_seed(int(digest(key)[:15], 16))
                    drawn = self.inner.generate_until([requests[i] for i in batch])
                    return as_texts(self.name, drawn, len(batch))

            for batch, part in zip(batches, ranks.by_turns(batches, sample), strict=True):
                found |= dict(zip(batch, part, strict=True))
        texts = [found[i] for i in range(len(prompts))]
        self.count(prompts, texts)
        return texts

    def generate_until(self, requests: Sequence[Any], bare: bool = False) -> list[str]:
        """See the base class; greedy texts in batches of our own, as many rows as the device's memory holds.

        The others as ``HFLM`` draws them: by ``batch_size``, from one stream of random numbers.
        """
        if bare:
            return super().generate_until(requests)
        found: dict[int, str] = {}
        for group in equal_settings(requests):
            texts = self._greedy([requests[i].args[0] for i in group], requests[group[0]].args[1])
            if texts is not None:
                found |= dict(zip(group, texts, strict=True))
        rest = [i for i in range(len(requests)) if i not in found]
        if rest:
            drawn = super().generate_until([requests[i] for i in rest])
            found |= dict(zip(rest, drawn, strict=True))
        return [found[i] for i in range(len(requests))]

    def _greedy(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str] | None:
        """The texts of ``HFLM.generate_until``; None where they need more than greedy decoding."""
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

        inner = self.inner
        given = normalize_gen_kwargs(dict(settings), inner.max_gen_toks)
        until = handle_stop_sequences(given.pop("until", None), eos=None)
        max_new = int(given.pop("max_gen_toks"))
        plain = all(
            given.get(k) in (None, v) for k, v in {"do_sample": False, "temperature": 0.0}.items()
        )
        if not plain or set(given) - {"do_sample", "temperature"}:
            return None
        if (
            inner.think_end_token is not None
            or not can_decode(inner.model)
            or not is_plain(inner.model.generation_config)
        ):
            log.warning(
                "%s has states, thoughts or generation settings of its own: lm-eval writes its %d greedy texts, by --batch_size",
                self.name,
                len(prompts),
            )
            return None
        if max_new >= self.max_length:
            raise PluralismError(
                f"max_gen_toks={max_new} leaves no room for a prompt in the window of {self.name}, {self.max_length} tokens; "
                "lower it"
            )
        unique = list(dict.fromkeys(prompts))
        rows = [row[-(self.max_length - max_new) :] for row in self.encode(unique)]
        stops = [stop for stop in until if stop]
        back = 2 + max(
            (len(inner.tok_encode(s, add_special_tokens=False)) for s in stops), default=0
        )
        ends = inner.model.generation_config.eos_token_id
        eos = [*{*(ends if isinstance(ends, list) else [ends]), inner.eot_token_id} - {None}]

        def ended(new: list[int]) -> bool:
            tail = inner.tok_decode(new[-back:], skip_special_tokens=False)
            return any(stop in tail for stop in stops)

        order = sorted(range(len(unique)), key=lambda i: (-len(rows[i]), unique[i]))
        needed = max(map(len, rows)) + max_new
        held = min(ranks.everyones(rows_that_fit(inner.model, needed)))
        size = lot_of(held, len(order))
        lots = [order[start : start + size] for start in range(0, len(order), size)]
        found: dict[str, str] = {}
        hidden = None if len(unique) > 1 and ranks.is_first() else True
        with progress.bar(len(unique), "texts", "text", hidden) as bar:

            def write(lot: list[int]) -> dict[str, str]:
                written = {}
                for i, new in decode(
                    inner.model, [rows[i] for i in lot], Greedy(),
                    max_new=max_new, eos=eos, rows=held, ended=ended if stops else None, opening=opening,
                ):  # fmt: skip
                    text = inner.tok_decode(new)
                    for stop in stops:
                        text = text.split(stop)[0]
                    written[unique[lot[i]]] = text
                    bar.update(1)
                return written

            with utilisation.phase_unless_within("responses"):
                opening = self._opening(rows)
                for written in ranks.by_turns(lots, write):
                    found |= written
            bar.update(len(unique) - bar.n)
        texts = as_texts(self.name, [found[p] for p in prompts], len(prompts))
        self.count(prompts, texts)
        return texts

    def option_logprobs(
        self,
        prompts: Sequence[str],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
        readout: str = "letters",
    ) -> list[OptionScores]:
        """See the base class; one row of a forward pass per distinct prompt, what all begin with computed once.

        With ``top_tokens``, the authors' rule instead: among that many likeliest tokens the first
        that matches the letter, and equal scores for all options if none does.
        """
        from pluralism_eval.llm.forward import passes

        wanted = list(dict.fromkeys((p, tuple(o)) for p, o in zip(prompts, letters, strict=True)))
        tokens = self.encode([prompt for prompt, _ in wanted])
        self.usage.add(len(wanted), sum(map(len, tokens)))
        most = self.batch_tokens or tokens_of_a_pass(self.inner.device)
        found: dict[int, OptionScores] = {}
        hidden = None if len(wanted) > 1 and ranks.is_first() else True
        with progress.bar(len(wanted), "options", "prompt", hidden) as bar:

            def logprobs(batch: list[int]) -> Any:
                return self._next_token_logprobs([tokens[i] for i in batch], opening)

            def scores(batch: list[int], logprobs: Any) -> list[OptionScores]:
                rows = self._numbers(logprobs)
                bar.update(len(batch))
                return [
                    self._read(row, wanted[i][1], top_tokens)
                    for i, row in zip(batch, rows, strict=True)
                ]

            with utilisation.phase_unless_within("options"):
                opening = self._opening(tokens)
                begun = len(opening or ())
                batches = passes([len(row) - begun for row in tokens], most)
                parts = ranks.by_turns(batches, logprobs, read=scores)
            for batch, part in zip(batches, parts, strict=True):
                found |= dict(zip(batch, part, strict=True))
            bar.update(len(wanted) - bar.n)
        index = {pair: i for i, pair in enumerate(wanted)}
        return [found[index[p, tuple(o)]] for p, o in zip(prompts, letters, strict=True)]

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids as ``HFLM.tok_encode`` gives them, in one call: tokenizers then use all cores."""
        from lm_eval.models.utils import has_bos_prefix

        inner, bos = self.inner, self.inner.tokenizer.decode(self.inner.prefix_token_id)
        given = {} if inner.add_bos_token is None else {"add_special_tokens": inner.add_bos_token}
        found: dict[str, list[int]] = {}
        for own in (True, False):  # those that bring their first token along need none
            part = [text for text in dict.fromkeys(prompts) if has_bos_prefix(text, bos) == own]
            if part:
                settings = {**given, "add_special_tokens": False} if own else given
                rows = inner.tokenizer(part, return_attention_mask=False, **settings)["input_ids"]
                found |= dict(zip(part, rows, strict=True))
        return [found[text] for text in prompts]

    def token_ids(self, text: str) -> list[int]:
        """All vocabulary entries that spell ``text``, white space around it aside."""
        if self._by_text is None:
            tokenizer = self.inner.tokenizer
            special = set(tokenizer.all_special_ids)
            self._by_text = {}
            for i, piece in enumerate(tokenizer.batch_decode([[i] for i in range(len(tokenizer))])):
                if i not in special:
                    self._by_text.setdefault(piece.strip(), []).append(i)
        ids = self._by_text.get(text, [])
        if not ids:
            raise PluralismError(
                f"the tokenizer of {self.name} has no single token for option {text!r}; score with readout=harness"
            )
        return ids

    def _opening(self, rows: Sequence[list[int]]) -> Opening | None:
        from pluralism_eval.llm.forward import Opening

        return Opening.of(self.inner.model, rows)

    def _next_token_logprobs(self, rows: Sequence[Sequence[int]], opening: Opening | None) -> Any:
        """[n_rows, vocabulary], on the model's device."""
        from pluralism_eval.llm.forward import next_logits

        model, begun = self.inner.model, len(opening or ())
        logits, _ = next_logits(model, rows, opening, use_cache=False)
        utilisation.prefill(model, [len(row) - begun for row in rows], len(rows), begun)
        return logits.float().log_softmax(-1)

    def _numbers(self, logprobs: Any) -> np.ndarray:
        """What :meth:`_next_token_logprobs` gave, fetched and checked."""
        rows: np.ndarray = logprobs.cpu().numpy()
        broken = int(np.isnan(rows).any(axis=-1).sum())
        if broken:  # one +inf, or no finite logit at all, makes a row NaN as well
            raise PluralismError(
                f"{self.name} returned NaN or infinite logits for {broken} of {len(rows)} prompts of a batch (a broken "
                "number format? try dtype=float32 or bfloat16)"
            )
        return rows

    def _read(
        self, row: np.ndarray, letters: Sequence[str], top_tokens: int | None
    ) -> OptionScores:
        ids = [self.token_ids(letter) for letter in letters]
        best = int(row.argmax())
        greedy = next((i for i, forms in enumerate(ids) if best in forms), -1)
        if top_tokens is None:
            return OptionScores(
                tuple(float(logsumexp(row[forms].astype(np.float64))) for forms in ids), greedy
            )
        top = np.argsort(-row, kind="stable")[:top_tokens].tolist()
        first = [next((t for t in top if t in forms), None) for forms in ids]
        if all(t is None for t in first):
            return OptionScores((-math.log(len(ids)),) * len(ids), -1, uniform_fallback=True)
        return OptionScores(tuple(-math.inf if t is None else float(row[t]) for t in first), greedy)
