"""Faults injected into real commands on a given file system: is anything lost, is anything silently wrong?"""
