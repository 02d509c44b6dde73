"""Synthesizers and language models of toy worlds against what is known exactly there."""
