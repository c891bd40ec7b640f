"""Runs → tables."""
