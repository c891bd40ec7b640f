"""What runs would cost before they are run: calls, tokens, memory, time, money."""
