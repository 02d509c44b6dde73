"""What a tuned synthesizer learns of P(d2|d1): its loss, and the concept that its samples carry."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paper_figures import style
from paper_figures.canvas import Axes, Figure
from paper_figures.toy_results import ToyResults

NOTHING = 1e-9
"""Nats per token that are rounding."""

SHOWN = {
    "sbp": ("o", style.ARM_COLOURS["sbp"], "SBP"),
    "random_pairs": ("x", style.MUTED, "random pairs"),
    "from_scratch": ("s", style.ARM_COLOURS["baseline"], "from scratch"),
}


def draw(results: ToyResults) -> Figure:
    """Draw one line a world. Left: the gap from H(d2|d1) to H(d2), and where synthesizers' losses lie on it.

    Right: the share of samples from which d1's most probable concept is inferred, and that of exact samples;
    empty for a continuous concept, and where no document tells anything of its concept.
    """
    names = [name for name, record in results.worlds.items() if _measures(record, "sbp")]
    figure = Figure(figsize=(9.2, 1.8 + 0.36 * len(names)))
    height = figure.get_size_inches()[1]
    style.titles(
        figure,
        "What synthesizers learn of P(d2|d1)",
        "held-out documents; bars: what there is to be learnt, and the exact posterior's rate; mean of seeds",
    )
    place = {"bottom": 0.5 / height, "top": 1 - 1.15 / height, "left": 0.16, "right": 0.985, "wspace": 0.06}
    grid = figure.add_gridspec(1, 2, width_ratios=(1.35, 1), **place)
    loss, carried = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    for row, name in enumerate(names):
        _row(loss, row, results.worlds[name], _above_floor, _gap)
        _row(carried, row, results.worlds[name], _carried, _exact_carried)
    _finish(loss, "loss above H(d2|d1), nats per token; bars end at H(d2)", names)
    _finish(carried, "share of samples that carry d1's concept", [""] * len(names))
    carried.set_xlim(0, 1.02)
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(
        handles[: len(SHOWN)],
        labels[: len(SHOWN)],
        frameon=False,
        fontsize=8,
        loc="upper right",
        bbox_to_anchor=(0.99, 1 - 0.62 / height),
        ncols=3,
    )
    return figure


def _row(axes: Axes, row: int, record: Mapping[str, Any], value: Any, limit: Any) -> None:
    limits = [limit(m) for m in _measures(record, "sbp") if limit(m) is not None]
    if limits:
        axes.barh(row, np.mean(limits), height=0.55, color=style.RULE)
    for arm, (marker, colour, label) in SHOWN.items():
        values = [value(m) for m in _measures(record, arm) if value(m) is not None]
        if values:
            axes.plot([np.mean(values)], [row], marker, color=colour, markersize=6, label=label)


def _finish(axes: Axes, label: str, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.set_xlabel(label)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _measures(record: Mapping[str, Any], arm: str) -> list[Mapping[str, float]]:
    return [r["synthesizer"] for r in record["results"] if r["arm"] == arm and r["synthesizer"]]


def _above_floor(measures: Mapping[str, float]) -> float:
    return measures["kl"]


def _gap(measures: Mapping[str, float]) -> float:
    return measures["marginal"] - measures["floor"]


def _carried(measures: Mapping[str, float]) -> float | None:
    return measures.get("carried") if _gap(measures) > NOTHING else None


def _exact_carried(measures: Mapping[str, float]) -> float | None:
    return measures.get("exact_carried") if _gap(measures) > NOTHING else None
