"""Communities on vLLM in this process: one base model, adapters mixed by its own scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pluralism_eval.chat_date import DEFAULT
from pluralism_eval.communities import asking
from pluralism_eval.communities.adapters import Adapter, base_model
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.errors import PluralismError, raise_all


def check_installed() -> None:
    """Raises PluralismError where vLLM is missing."""
    if find_spec("vllm") is None:
        raise PluralismError(
            "engine: vllm needs vLLM (pip install vllm, on a machine with a supported GPU); or use engine: lora"
        )


class VLLMEngine:
    """Writes messages with vLLM's offline multi-LoRA inference."""

    def __init__(
        self,
        base: str,
        adapters: Mapping[str, Adapter],
        revision: str = "main",
        chat_date: str = DEFAULT,
    ) -> None:
        """
        Args:
            base, revision: what vLLM loads.
            adapters: name → adapter.
            chat_date: what the chat template sees as today's date.
        """
        check_installed()
        self._day = chat_date
        import vllm
        from vllm.lora.request import LoRARequest

        self._sampling = vllm.SamplingParams
        self._requests = {
            name: LoRARequest(name, i, str(adapter.folder))
            for i, (name, adapter) in enumerate(adapters.items(), 1)
        }
        ranks = [8, 16, 32, 64, 128, 256, 320, 512]  # what vLLM allows
        highest = max(adapter.rank for adapter in adapters.values())
        self._llm = vllm.LLM(
            model=base_model(base),
            revision=revision,
            enable_lora=True,
            max_loras=len(adapters),
            max_lora_rank=next((r for r in ranks if r >= highest), highest),
        )

    def chunk(self, n_jobs: int) -> int:
        return 4096

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        outputs = self._llm.generate(
            [self._prompt(job) for job in jobs],
            [
                self._sampling(
                    max_tokens=sampling.max_tokens,
                    min_tokens=1,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=job.seed % 2**31,
                )
                for job in jobs
            ],
            lora_request=[self._requests[job.community] for job in jobs],
        )
        for job, request in zip(jobs, outputs, strict=True):
            best = request.outputs[0]
            stopped, sent = best.finish_reason == "stop", len(request.prompt_token_ids or [])
            yield job, Output(best.text.strip(), len(best.token_ids), stopped, sent)

    def _prompt(self, job: Job) -> Any:
        if not job.chat:
            return job.prompt
        tokenizer = self._llm.get_tokenizer()
        return {"prompt_token_ids": asking.encode(tokenizer, job.prompt, True, day=self._day)}

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Log-probability of the first greedy token with the adapter against that without."""
        bare = self._first(None)
        proofs: dict[str, Proof] = {}
        problems = []
        for name in names:
            own = self._first(self._requests[name])
            differ = sum(a[0] != b[0] for a, b in zip(own, bare, strict=True))
            gap = max(
                (abs(a[1] - b[1]) for a, b in zip(own, bare, strict=True) if a[0] == b[0]),
                default=0.0,
            )
            proofs[name] = {
                "kind": "first token",
                "tokens_that_differ": differ,
                "max_logprob_difference": gap,
            }
            if not differ and not gap > 0:
                problems.append(f"{name}: answers as the base model does on all canary prompts")
        raise_all("dead community LMs", problems)
        return proofs

    def _first(self, request: Any) -> list[tuple[int, float]]:
        """(token, its log-probability in nats) that greedy decoding begins with, for each canary."""
        greedy = self._sampling(max_tokens=1, temperature=0, logprobs=1)
        found = []
        for output in self._llm.generate(list(CANARIES), greedy, lora_request=request):
            token = output.outputs[0].token_ids[0]
            found.append((int(token), float(output.outputs[0].logprobs[0][token].logprob)))
        return found
