"""Docs of two tasks that are not ours."""

from typing import Any

from datasets import Dataset

ROWS = [
    {
        "q": "Question: Which is an animal?\nAnswer:",
        "choices": ["dog", "an old table", "rain"],
        "gold": 0,
    },
    {
        "q": "Question: What falls from clouds?\nAnswer:",
        "choices": ["stones", "rain", "a dog"],
        "gold": 1,
    },
    {
        "q": "Question: What do people read in a library?\nAnswer:",
        "choices": ["soup", "rain", "books"],
        "gold": 2,
    },
]


def load(**_: Any) -> dict[str, Dataset]:
    return {"test": Dataset.from_list(ROWS)}
