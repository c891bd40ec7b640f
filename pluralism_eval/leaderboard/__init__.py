"""Submissions: made of finished runs, verified from their raw responses, and ranked."""
