"""The gain that was foretold from a world's known quantities, against the gain that was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from paper_figures import style
from paper_figures.canvas import Figure
from paper_figures.toy_results import ToyResults
from sbp_bayes.results import ResultError


def draw(results: ToyResults) -> Figure:
    """Draw left-out settings of the phase diagram, and the other worlds; the line is equality.

    Raises:
        ResultError: no phase diagram was kept, so nothing was predicted.
    """
    settings, worlds = results.predictions["settings"], results.predictions["worlds"]
    if not settings:
        raise ResultError("no predictions are committed (python -m experiments.toy_phase_diagram)")
    figure = Figure(figsize=(7.6, 4.4))
    style.titles(
        figure,
        "The gain foretold before training",
        "SBP's gain over repetition, nats per token; by a fit of I(d1;d2) and repetitions to other settings",
    )
    axes = figure.add_axes((0.1, 0.12, 0.86, 0.7))
    points = [value for p in (*settings, *worlds) for value in (p["predicted"], p["gain"])]
    ends = [min(points), max(points)]
    axes.plot(ends, ends, color=style.RULE, linewidth=1, zorder=0)
    blue, green = style.ARM_COLOURS["sbp"], style.ARM_COLOURS["oracle"]
    label = f"{len(settings)} settings of {settings[0]['world'].replace('_', ' ')}"
    axes.plot(*_points(settings), "o", color=blue, markersize=5, label=label)
    axes.plot(
        *_points(worlds),
        "s",
        color=green,
        markersize=5,
        label=f"{len(worlds)} other worlds, by a fit to those settings",
    )
    axes.set_xlabel("foretold")
    axes.set_ylabel("measured")
    style.quiet_grid(axes, "both")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _points(predictions: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [p["predicted"] for p in predictions], [p["gain"] for p in predictions]
