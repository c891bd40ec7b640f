"""Community LMs: who they are (pool.py), what they said (store.py), how they speak (lora.py)."""
