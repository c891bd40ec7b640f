"""Scores: distances, classification, coverage by NLI, and their uncertainty."""
