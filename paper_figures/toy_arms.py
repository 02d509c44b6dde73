"""Every arm in every toy world: how far its loss is above the Bayes-optimal one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from paper_figures import style
from paper_figures.canvas import Axes, Figure, MaxNLocator
from paper_figures.numbers import plain
from paper_figures.toy_results import ToyResults
from sbp_bayes.arms import ARMS, in_order

COLUMNS = 3
SMALLEST_SPAN = 0.05
"""Nats per token that a panel spans at the least, so that nothing looks like nothing."""


def draw(results: ToyResults) -> Figure:
    """Draw one panel a world, one line an arm: the mean over seeds with its 95% interval."""
    worlds = {name: record for name, record in results.worlds.items() if _is_known(record)}
    rows = -(-len(worlds) // COLUMNS)
    figure = Figure(figsize=(9.2, 0.9 + 2.3 * rows))
    style.titles(
        figure,
        "Test loss above the Bayes-optimal loss",
        "nats per token at best checkpoints on validation; mean and 95% interval over seeds; zero is Bayes",
    )
    grid = figure.add_gridspec(
        rows,
        COLUMNS,
        left=0.2,
        right=0.985,
        top=1 - 1.0 / (0.9 + 2.3 * rows),
        bottom=0.32 / (0.9 + 2.3 * rows),
        wspace=0.12,
        hspace=0.45,
    )
    for index, (name, record) in enumerate(worlds.items()):
        axes = figure.add_subplot(grid[divmod(index, COLUMNS)])
        _panel(axes, name, record, named=index % COLUMNS == 0)
    return figure


def _is_known(record: Mapping[str, Any]) -> bool:
    return all(result["bayes"] is not None for result in record["results"])


def _panel(axes: Axes, name: str, record: Mapping[str, Any], *, named: bool) -> None:
    by_arm = {arm["arm"]: arm["best_validation"] for arm in record["arms"]}
    arms = in_order(by_arm)
    for place, arm in enumerate(arms):
        interval, colour = by_arm[arm], style.ARM_COLOURS[arm]
        if interval["low"] is not None:
            axes.plot([interval["low"], interval["high"]], [place, place], color=colour, linewidth=2)
        axes.plot([interval["mean"]], [place], "o", color=colour, markersize=5)
        axes.annotate(
            plain(interval["mean"]),
            (interval["mean"], place),
            (0, 5),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=6.5,
        )
    axes.set_yticks(np.arange(len(arms)), [ARMS[arm].label if named else "" for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.9)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), max(SMALLEST_SPAN, axes.get_xlim()[1]))
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(name.replace("_", " "), fontsize=9)
