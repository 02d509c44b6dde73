"""The sharded join: who holds which keys, who asks them, and pairs grouped by document."""
