"""One malicious community among k: prompt injection through messages, and how far it gets."""
