"""Submissions: what they say, every way of tampering with one, and how the leaderboard ranks them."""
