"""Finished runs in the formats of other tools: Inspect logs, Every Eval Ever, the Hub and model cards."""
