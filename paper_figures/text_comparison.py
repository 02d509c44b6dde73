"""The compute-matched comparison: test loss of every arm less the reference's, with intervals."""

from paper_figures import style
from paper_figures.canvas import Axes, Figure
from paper_figures.numbers import percent, plain, signed
from paper_figures.text_results import Comparison, TextResults
from sbp_bayes.arms import ARMS

HEADINGS = {
    "best": "At best checkpoints on validation, less {reference}",
    "last": "At last checkpoints, as in the paper, less {reference}",
}
ROW, HEAD, FOOT = 0.36, 0.62, 0.5
"""Inches of one arm, of a group's heading, and below the axes."""

X_LABEL = "Δ test loss (nats per token); left of zero is better"
MARKERS = {"method": "o", "variant": "o", "ceiling": "D"}


def draw(results: TextResults, *, width: float = 7.6, titled: bool = True) -> Figure:
    """Draw Δ in nats per token with its 95% interval; left of zero is better than the reference.

    Args:
        results: the losses of all arms.
        width: of the figure, in inches.
        titled: whether the figure says what it is, or leaves that to a caption.
    """
    comparisons = [results.comparison("best"), results.comparison("last")]
    inches = [HEAD + ROW * len(comparison.deltas) for comparison in comparisons]
    top = 0.68 if titled else 0.06
    height = sum(inches) + top + FOOT
    figure = Figure(figsize=(width, height))
    left, right = 1.75, 1.55 if width > 6 else 0.2
    place = height - top
    for comparison, own in zip(comparisons, inches, strict=True):
        place -= own
        box = (left / width, (place + FOOT) / height - FOOT / height * 0.6, 1 - (left + right) / width)
        axes = figure.add_axes((*box, (own - HEAD) / height))
        _group(axes, comparison, _limits(comparisons), beside=width > 6)
        heading = HEADINGS[comparison.against].format(reference=ARMS[comparison.reference].label)
        weight = "bold" if comparison.against == "best" else "normal"
        above = box[1] + (own - HEAD + 0.38) / height
        figure.text(0.012, above, heading, weight=weight, va="center")
        figure.text(
            0.012, above - 0.2 / height, _share(comparison), color=style.MUTED, fontsize=8.5, va="center"
        )
    axes.set_xlabel(X_LABEL)
    if titled:
        title = f"Test loss at equal tokens seen ({results.config_name})"
        style.titles(figure, title, _subtitle(results))
    return figure


def _limits(comparisons: list[Comparison]) -> tuple[float, float]:
    every = [delta for comparison in comparisons for delta in comparison.deltas.values()]
    low, high = min(0, *(d.low for d in every)), max(0, *(d.high for d in every))
    margin = 0.04 * (high - low) + 1e-3
    return low - margin, high + margin


def _group(axes: Axes, comparison: Comparison, limits: tuple[float, float], *, beside: bool) -> None:
    """Draw one interval a row; its numbers stand beside the axes, so that they cover no mark."""
    arms = list(comparison.deltas)
    axes.axvline(0, color=style.MUTED, linewidth=1)
    for y, arm in enumerate(arms):
        delta, colour = comparison.deltas[arm], style.ARM_COLOURS[arm]
        axes.plot(
            [delta.low, delta.high], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt", zorder=4
        )
        axes.plot([delta.value], [y], MARKERS.get(ARMS[arm].role, "s"), color=colour, markersize=6, zorder=4)
        if beside:
            axes.annotate(
                f"{signed(delta.value)} [{signed(delta.low)}, {signed(delta.high)}]",
                (1.01, y),
                xycoords=("axes fraction", "data"),
                va="center",
                color=colour,
                fontsize=8,
                annotation_clip=False,
            )
    axes.set_xlim(*limits)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_yticks(range(len(arms)), [ARMS[arm].label for arm in arms])
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=style.INK, labelsize=8.5)
    axes.spines["left"].set_visible(False)
    if comparison.against == "best":
        axes.tick_params(axis="x", labelbottom=False)
        axes.spines["bottom"].set_visible(False)


def _share(comparison: Comparison) -> str:
    share = comparison.shares.get("sbp")
    if share is None:
        return "SBP's share of the oracle's gain: undefined, the oracle's own may be zero"
    low, high = percent(share.low), percent(share.high)
    return f"SBP's share of the oracle's gain: {percent(share.value)} [{low}, {high}]"


def _subtitle(results: TextResults) -> str:
    best, last = (results.comparison(against).baseline for against in ("best", "last"))
    return (
        f"reference: {plain(best.value)} nats per token at its best on validation, {plain(last.value)} at "
        f"its last; 95% intervals over {results.intervals_over}"
    )
