"""The instrument checked: a benchmark of the benchmark."""
