"""The control: a benchmark of the benchmark, where the right answers and the right order are known."""
