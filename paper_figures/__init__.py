"""Figures of the project, each a pure function of a committed table: `python -m paper_figures`.

Nothing here trains or samples: no torch, no random numbers.
"""
