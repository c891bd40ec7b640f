"""Faults injected into real commands on a given file system (``python -m tests.faults``): is anything lost, is anything silently wrong?"""
