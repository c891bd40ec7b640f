"""Are the metrics' tests strong enough to notice a wrong metric? Mutation testing, run by hand."""
