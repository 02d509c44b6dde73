"""Worlds whose concept is a table of facts."""

from toy_worlds.knowledge.biographies import Biographies, BiographiesGivenDocuments
from toy_worlds.knowledge.fact_views import FactViews

__all__ = ["Biographies", "BiographiesGivenDocuments", "FactViews"]
