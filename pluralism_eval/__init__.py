"""Modular Pluralism (Feng et al., EMNLP 2024) as an lm-evaluation-harness plug-in.

Kept free of imports: every interpreter start of the environment passes here (see ``_hook.py``).
"""

__version__ = "0.1.0"
