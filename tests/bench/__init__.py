"""What this package costs, measured: scripts that are run by hand."""
