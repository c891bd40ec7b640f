"""The paper's tables and figures: what each needs, ours beside the paper's numbers, and the cost."""
