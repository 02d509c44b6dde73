"""Several rounds of bootstrapping: whose concepts the synthetic text is about, and what it is worth."""

import numpy as np

from paper_figures import style
from paper_figures.canvas import Figure
from paper_figures.toy_results import ToyResults
from sbp_bayes.results import ResultError

PANELS = {
    "total_variation": "distance of concepts to P(c)",
    "lineage": "P(c|d) at the first document's c",
    "excess": "loss above Bayes, nats per token",
}


def draw(results: ToyResults) -> Figure:
    """Draw each measure against the round: a thin line a seed, a thick one their mean.

    Raises:
        ResultError: no rounds were kept.
    """
    if results.rounds is None:
        raise ResultError("no rounds are committed (python -m experiments.toy_rounds)")
    records = results.rounds["records"]
    seeds = sorted({record["seed"] for record in records})
    figure = Figure(figsize=(9.2, 3.2))
    world = results.rounds["config"]["toy"]["world"].replace("_", " ")
    style.titles(
        figure,
        f"Rounds of bootstrapping in {world}",
        f"{len(seeds)} seeds and their mean; round 0 is repetition; dashed: what sampling alone makes",
    )
    grid = figure.add_gridspec(1, 3, left=0.06, right=0.985, top=0.68, bottom=0.14, wspace=0.2)
    for index, (key, title) in enumerate(PANELS.items()):
        axes = figure.add_subplot(grid[index])
        rounds = sorted({record["round"] for record in records if key in record})
        values = np.array([[_value(records, s, r, key) for r in rounds] for s in seeds])
        colour = style.ARM_COLOURS["sbp"]
        axes.plot(rounds, values.T, color=colour, alpha=0.35, linewidth=0.8)
        axes.plot(rounds, values.mean(axis=0), "o-", color=colour, linewidth=2, markersize=4)
        if key == "total_variation":
            noise = np.mean([[_value(records, s, r, "noise") for r in rounds] for s in seeds], axis=0)
            axes.plot(rounds, noise, "--", color=style.MUTED, linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_xticks(rounds)
        axes.set_xlabel("round")
        axes.set_title(title, fontsize=9)
        style.quiet_grid(axes)
    return figure


def _value(records: list, seed: int, number: int, key: str) -> float:
    return next(float(r[key]) for r in records if r["seed"] == seed and r["round"] == number)
