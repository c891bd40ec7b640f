"""What a run has used of its models: calls, tokens, and the floating-point operations they stand for."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Usage:
    """Counts that only grow. Tokens are the model's own, or three characters each where it has no
    local tokenizer."""

    calls: int = 0
    """Prompts sent: generations, or prompts scored (for servers: requests, one an option spelling)."""
    prompt_tokens: int = 0
    new_tokens: int = 0
    """Generated; scoring an option generates none."""

    def add(self, calls: int, prompt_tokens: int, new_tokens: int = 0) -> None:
        self.calls += calls
        self.prompt_tokens += prompt_tokens
        self.new_tokens += new_tokens

    def since(self, earlier: Usage) -> Usage:
        """What came after ``earlier``."""
        return Usage(
            self.calls - earlier.calls,
            self.prompt_tokens - earlier.prompt_tokens,
            self.new_tokens - earlier.new_tokens,
        )

    def plus(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.new_tokens + other.new_tokens,
        )

    def flops(self, parameters: float) -> float:
        """2 · parameters · tokens: a forward pass of a dense decoder, attention left out."""
        return 2.0 * parameters * (self.prompt_tokens + self.new_tokens)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
