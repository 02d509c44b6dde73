"""Worlds whose concepts have structure of their own."""

from toy_worlds.hierarchical.topic_tree import TopicTree

__all__ = ["TopicTree"]
