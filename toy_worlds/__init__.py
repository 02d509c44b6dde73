"""Worlds in which every probability is known exactly (not written yet)."""
