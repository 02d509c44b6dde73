"""Worlds whose concept is a table of facts."""

from toy_worlds.knowledge.fact_views import FactViews

__all__ = ["FactViews"]
