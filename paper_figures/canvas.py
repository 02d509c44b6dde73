"""The one door to matplotlib: figures are objects that write themselves to files, and need no backend.

Notebooks name their backend in MPLBACKEND for every process that they start, and matplotlib cannot be
imported where that backend is not installed.
"""

import contextlib
import os

_backend = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
    from matplotlib.transforms import blended_transform_factory
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend
if _backend is not None:
    with contextlib.suppress(ValueError):  # what else this process draws keeps the backend that it asked for
        matplotlib.rcParams["backend"] = _backend

__all__ = [
    "Axes",
    "Figure",
    "MaxNLocator",
    "PercentFormatter",
    "blended_transform_factory",
    "matplotlib",
]
