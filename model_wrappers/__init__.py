"""One file per lm-eval ``--model`` name. Imported lazily, by the names in ``plugin.py``."""
