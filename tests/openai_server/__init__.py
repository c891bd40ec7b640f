"""Local OpenAI-compatible servers for tests.

``serve``: every answer is one function. ``Server``: the documented API with batches, a ledger and
faults, over a scripted backend or ``tests.embedded_backend.Embedded``.
"""

from tests.openai_server.backend import Answer, Ask, Backend, Choice, Token
from tests.openai_server.faults import Faults
from tests.openai_server.ledger import Bill, Ledger, canonical
from tests.openai_server.offer import Offer
from tests.openai_server.scripted import Refusal, Scripted
from tests.openai_server.server import Server
from tests.openai_server.simple import Reply, serve

__all__ = [
    "Answer", "Ask", "Backend", "Bill", "Choice", "Faults", "Ledger", "Offer", "Refusal", "Reply", "Scripted", "Server",
    "Token", "canonical", "serve",
]  # fmt: skip
