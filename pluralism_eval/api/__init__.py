"""OpenAI-compatible servers: requests that are counted, limited, paid for once and kept."""
