"""How long texts are that nobody has written yet: stored ones', a pilot's, else an assumption that is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pluralism_eval.planning.counting import CHARACTERS


@dataclass(frozen=True)
class Text:
    """Mean length of a kind of text."""

    tokens: float
    """Of the model that writes it."""
    characters: float

    def within(self, limit: int) -> Text:
        """The same kind of text under a limit of new tokens."""
        if self.tokens <= limit:
            return self
        return Text(limit, self.characters * limit / self.tokens)

    @staticmethod
    def of_limit(limit: int, characters: float) -> Text:
        """A text that uses ``limit`` tokens up, at so many characters each."""
        return Text(limit, limit * characters)


@dataclass(frozen=True)
class Lengths:
    """Expected lengths of one run's texts."""

    message: Text
    """Of a community that has none of its own in ``by_community``."""
    response: Text
    choice: float
    """Tokens of a reply that names a community."""
    answer: float | None
    """Tokens of an answer in words (readouts sampled, generated, verbalised); None: half of its limit."""
    sentences: float
    """Of a response as long as ``response``."""
    by_community: Mapping[str, Text] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    """``message``, ``response`` or ``reply`` → where its length is from, if it is not assumed."""

    def with_messages(self, found: Mapping[str, Text], source: str) -> Lengths:
        """With measured messages, unless they were told; communities without any get the others' mean."""
        if not found or "message" in self.measured:
            return self
        mean = Text(
            sum(text.tokens for text in found.values()) / len(found),
            sum(text.characters for text in found.values()) / len(found),
        )
        return replace(
            self,
            message=mean,
            by_community=dict(found),
            measured={**self.measured, "message": source},
        )


PRINTED_MESSAGE = Text(172, 834)
PRINTED_RESPONSE = Text(186, 902)
ASSUMED = Lengths(
    message=PRINTED_MESSAGE, response=PRINTED_RESPONSE, choice=3, answer=None, sentences=5.5
)
"""The means of what the paper prints (Figures 7-10): 12 messages of 692 characters without blanks (two of
them end in mid-sentence), 2 responses of 749 with 7 and 4 sentences. 0.249 tokens and 1.205 characters
with blanks for each (SmolLM2's tokenizer on this package's corpora)."""
NOTES = {
    "message": "a message has {0.tokens:.0f} tokens or the run's limit (assumed: mean of the 12 that the paper prints in "
    "Figures 7-10); the upper bound is the limit, 512 in the paper",
    "response": "a response has {0.tokens:.0f} tokens or the run's limit (assumed: mean of the 2 that the paper prints), "
    "and a sentence for every {1:.0f} tokens; the upper bound is the limit",
    "reply": "a reply that names a community has {0:g} tokens of 20 (assumed; the embedded model's have 2.1), an answer "
    "in words half of its limit (assumed, without a source)",
}


def assumptions(lengths: Lengths, uses: frozenset[str]) -> list[str]:
    """What ``lengths`` takes for granted or was measured, one line each.

    Args:
        uses: which of ``message``, ``response``, ``reply`` matter.
    """
    values = {
        "message": (lengths.message,),
        "response": (lengths.response, lengths.response.tokens / lengths.sentences),
        "reply": (lengths.choice,),
    }
    return [
        lengths.measured[name] if name in lengths.measured else NOTES[name].format(*own)
        for name, own in values.items()
        if name in uses
    ]


def told(message: float | None, response: float | None) -> Lengths:
    """The assumptions, with tokens of a message or a response that the user knows better."""
    found = ASSUMED
    if message is not None:
        measured = {**found.measured, "message": f"a message has {message:g} tokens, as given"}
        found = replace(found, message=Text(message, message * CHARACTERS), measured=measured)
    if response is not None:
        measured = {**found.measured, "response": f"a response has {response:g} tokens, as given"}
        sentences = response * ASSUMED.sentences / ASSUMED.response.tokens
        found = replace(
            found, response=Text(response, response * CHARACTERS), sentences=sentences, measured=measured
        )  # fmt: skip
    return found
