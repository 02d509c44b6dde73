"""Embedders: maps from documents to unit vectors. Each has a file, `table` finds them by name."""
