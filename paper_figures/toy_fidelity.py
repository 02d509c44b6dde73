"""What a tuned synthesizer learns of the posterior predictive: its loss between H(d2|d1) and H(d2)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paper_figures import style
from paper_figures.toy_results import ToyResults

SHOWN = {
    "sbp": ("o", style.ARM_COLOURS["sbp"], "SBP"),
    "random_pairs": ("x", style.MUTED, "random pairs"),
    "from_scratch": ("s", style.ARM_COLOURS["baseline"], "from scratch"),
}


def draw(results: ToyResults) -> Figure:
    """Draw one line a world: the gap from H(d2|d1) to H(d2), and where synthesizers' losses lie on it."""
    names = [name for name, record in results.worlds.items() if _measures(record, "sbp")]
    figure = Figure(figsize=(7.6, 1.7 + 0.42 * len(names)))
    height = figure.get_size_inches()[1]
    style.titles(
        figure,
        "The synthesizer's loss on held-out pairs",
        "nats per token above H(d2|d1), the floor; bars end at H(d2), where d1 tells nothing; mean of seeds",
    )
    axes = figure.add_axes((0.2, 0.5 / height, 0.77, 1 - 1.45 / height))
    for place, name in enumerate(names):
        record = results.worlds[name]
        gap = np.mean([m["marginal"] - m["floor"] for m in _measures(record, "sbp")])
        axes.barh(place, gap, height=0.5, color=style.RULE)
        for arm, (marker, colour, label) in SHOWN.items():
            found = _measures(record, arm)
            if found:
                axes.plot(
                    [np.mean([m["kl"] for m in found])],
                    [place],
                    marker,
                    color=colour,
                    markersize=6,
                    label=label if place == 0 else None,
                )
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.set_xlabel("nats per token above H(d2|d1)")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.legend(
        frameon=False,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 + 0.36 / (height - 1.4)),
        ncols=3,
    )
    return figure


def _measures(record: Mapping[str, Any], arm: str) -> list[Mapping[str, float]]:
    return [r["synthesizer"] for r in record["results"] if r["arm"] == arm and r["synthesizer"]]
