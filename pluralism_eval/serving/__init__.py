"""Servers for open models, written out: command lines, a pool file, compose, a SLURM array.

Nothing here starts anything. The flags were confirmed against vLLM 0.33.0 and SGLang 0.5.23; see
``engines.py``.
"""
