"""What the subcommands of ``pluralism-eval`` parse and print; each module adds its own."""
