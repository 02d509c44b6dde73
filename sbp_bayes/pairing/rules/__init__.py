"""The rules that make neighbours pairs: the threshold α, copies, and near-duplicates by shared shingles."""
