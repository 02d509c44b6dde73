"""Worlds in which every probability is known exactly: make one by name, or list them all."""

from toy_worlds.catalogue import WORLDS, make_world

__all__ = ["WORLDS", "make_world"]
