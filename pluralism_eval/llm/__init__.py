"""The LLM: anything that can generate text and score options."""
