"""lm-eval tasks: a YAML file each, and a utils.py that only re-exports from pluralism_eval."""
