"""The forms in which a store of :mod:`pluralism_eval.cache` lies on disk, and what protects its rows."""
