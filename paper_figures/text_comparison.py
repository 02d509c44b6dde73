"""The compute-matched comparison: test loss of SBP and oracle less the baseline's, with intervals."""

from typing import Any

from paper_figures import style
from paper_figures.canvas import Axes, Figure, blended_transform_factory
from paper_figures.numbers import percent, plain, signed
from paper_figures.text_results import NAMES, Comparison, TextResults

HEADINGS = {
    "best": "Against the baseline at its best weight decay and checkpoint on validation",
    "last": "Against the baseline's last checkpoint, as in the paper",
}
GROUP_ROWS = 4.0
X_LABEL = "Δ test loss (nats per token); left of zero is better than the baseline"


def draw(results: TextResults, *, width: float = 7.6, titled: bool = True) -> Figure:
    """Draw Δ in nats per token with its 95% interval; left of zero is better than the baseline.

    Args:
        results: the losses of all arms.
        width: of the figure, in inches.
        titled: whether the figure says what it is, or leaves that to a caption.
    """
    height, top = (4.0, 0.68) if titled else (3.4, 0.06)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.68 / width, 0.5 / height, 1 - 0.86 / width, 1 - (0.5 + top) / height))
    comparisons = [results.comparison("best"), results.comparison("last")]
    _fit(axes, comparisons)
    for number, comparison in enumerate(comparisons):
        _group(axes, comparison, GROUP_ROWS * number)
    axes.set_yticks([1.75, 2.75, 5.75, 6.75], [NAMES[arm] for arm in comparisons[0].deltas] * 2)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=style.INK, labelsize=9)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Δ test loss (nats per token); left of zero is better" if width < 6 else X_LABEL)
    if titled:
        title = f"Test loss at equal tokens seen ({results.config_name})"
        figure.text(0.012, 0.975, title, va="top", fontsize=11, weight="bold")
        figure.text(0.012, 0.91, _subtitle(results), va="top", color=style.MUTED, fontsize=8.5)
    return figure


def _fit(axes: Axes, comparisons: list[Comparison]) -> None:
    every = [delta for comparison in comparisons for delta in comparison.deltas.values()]
    low, high = min(0, *(d.low for d in every)), max(0, *(d.high for d in every))
    margin = 0.07 * (high - low) + 1e-3
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(GROUP_ROWS * len(comparisons) - 0.6, -0.4)


def _group(axes: Axes, comparison: Comparison, top: float) -> None:
    axes.vlines(0, top + 1.1, top + 3.2, color=style.MUTED, linewidth=1)
    weight = "bold" if comparison.against == "best" else "normal"
    _line(axes, top, HEADINGS[comparison.against], weight=weight)
    _line(axes, top + 0.6, _share(comparison), color=style.MUTED, fontsize=8.5)
    middle = sum(axes.get_xlim()) / 2
    for y, (arm, delta) in zip((top + 1.75, top + 2.75), comparison.deltas.items(), strict=True):
        colour = style.ARM_COLOURS[arm]
        axes.plot(
            [delta.low, delta.high], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt", zorder=4
        )
        axes.plot([delta.value], [y], "o" if arm == "sbp" else "D", color=colour, markersize=6.5, zorder=4)
        on_left = delta.value < middle
        axes.annotate(
            f"{signed(delta.value)} [{signed(delta.low)}, {signed(delta.high)}]",
            xy=(delta.low if on_left else delta.high, y),
            xytext=(0, 6),
            textcoords="offset points",
            ha="left" if on_left else "right",
            color=colour,
            fontsize=8.5,
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.4},
        )


def _line(axes: Axes, y: float, text: str, **look: Any) -> None:
    """Write a line of text at the figure's left edge, at height `y` of the axes."""
    assert axes.figure is not None
    transform = blended_transform_factory(axes.figure.transFigure, axes.transData)
    axes.text(0.012, y, text, transform=transform, va="center", clip_on=False, **look)


def _share(comparison: Comparison) -> str:
    if comparison.share is None:
        return "SBP's share of the oracle's gain: undefined, the oracle's own may be zero"
    low, high = percent(comparison.share.low), percent(comparison.share.high)
    return f"SBP's share of the oracle's gain: {percent(comparison.share.value)} [{low}, {high}]"


def _subtitle(results: TextResults) -> str:
    best, last = (results.comparison(against).baseline for against in ("best", "last"))
    return (
        f"baseline: {plain(best.value)} nats per token at its best on validation, {plain(last.value)} at its "
        f"last; 95% intervals over {results.intervals_over}"
    )
