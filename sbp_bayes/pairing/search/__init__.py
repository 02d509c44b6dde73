"""The search for nearest neighbours among unit vectors: exact, by an inverted file, or by a graph."""
