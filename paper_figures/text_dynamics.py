"""Training dynamics: validation loss of every arm on one axis of tokens seen, as in the talk."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from paper_figures import style
from paper_figures.canvas import Axes, Figure, MaxNLocator
from paper_figures.numbers import count, percent, plain
from paper_figures.text_results import Curve, TextResults
from sbp_bayes.arms import ARMS

SHOWN_FROM = 0.15
"""Share of the run after which every curve is in view; the steep start before it runs off the top."""

LABEL_INCHES = 0.42
LEFT_INCHES, RIGHT_INCHES, BOTTOM_INCHES = 0.6, 1.65, 0.5


def draw(results: TextResults, *, width: float = 7.6, titled: bool = True) -> Figure:
    """Draw validation loss against tokens seen: seeds thin, their mean bold.

    Args:
        results: curves of all arms.
        width: of the figure, in inches.
        titled: whether the figure says what it is, or leaves that to a caption.
    """
    figure, axes = canvas(width, height=3.0 if width < 6 else 3.7, top=1.05 if titled else 0.5)
    million = {arm: _scaled(results, arm, lambda curve: curve.tokens / 1e6) for arm in results.drawn_arms}
    headline = "tuned_baseline" if "tuned_baseline" in million else "baseline"
    best = float(million[headline][-1].nats_per_token.min())
    curves(axes, million, {headline: f"\n○ best {plain(best)}"})
    axes.set_xlim(0, results.budget["tokens"] / 1e6)
    axes.set_xlabel("tokens seen (millions)")
    _mark_best(axes, million[headline][-1], style.ARM_COLOURS[headline])
    _passes_axis(axes, results.budget["repetitions"])
    if titled:
        figure.text(0.012, 0.975, "Validation loss as the arms train", va="top", fontsize=11, weight="bold")
        figure.text(0.012, 0.905, _subtitle(results), va="top", color=style.MUTED, fontsize=8.5)
    return figure


def canvas(width: float, *, height: float = 3.0, top: float = 0.1) -> tuple[Figure, Axes]:
    """Return a figure with room for labels at the right ends of the curves; all sizes are in inches."""
    figure = Figure(figsize=(width, height))
    inside = 1 - (LEFT_INCHES + RIGHT_INCHES) / width, 1 - (BOTTOM_INCHES + top) / height
    axes = figure.add_axes((LEFT_INCHES / width, BOTTOM_INCHES / height, *inside))
    style.quiet_grid(axes)
    return figure, axes


def curves(
    axes: Axes, by_arm: Mapping[str, list[Curve]], notes: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Draw each arm's curves, the last of them (the mean) bold and named at its end, with its note."""
    for arm, all_curves in by_arm.items():
        look = {"color": style.ARM_COLOURS[arm], "linestyle": style.ARM_DASHES[arm]}
        for curve in all_curves[:-1] if len(all_curves) > 2 else []:
            axes.plot(curve.tokens, curve.nats_per_token, linewidth=0.7, alpha=0.4, **look)
        axes.plot(all_curves[-1].tokens, all_curves[-1].nats_per_token, linewidth=2.1, **look)
    axes.set_ylim(*_limits([curve for every in by_arm.values() for curve in every]))
    axes.set_ylabel("validation loss (nats per token)")
    _name_ends(axes, {arm: every[-1] for arm, every in by_arm.items()}, notes)


def _scaled(results: TextResults, arm: str, x_of: Callable[[Curve], np.ndarray]) -> list[Curve]:
    every = [*results.seed_curves(arm), results.mean_curve(arm)]
    return [Curve(x_of(curve), curve.nats_per_token) for curve in every]


def _limits(every: list[Curve]) -> tuple[float, float]:
    """Loss from a little under the lowest point to a little over the highest one after the start."""
    low = min(curve.nats_per_token.min() for curve in every)
    high = max(curve.nats_per_token[int(SHOWN_FROM * len(curve.tokens)) :].max() for curve in every)
    margin = 0.06 * (high - low) + 0.01
    return low - margin, high + margin


def _name_ends(axes: Axes, means: Mapping[str, Curve], notes: Mapping[str, str]) -> None:
    ends = [float(curve.nats_per_token[-1]) for curve in means.values()]
    assert axes.figure is not None
    height = axes.figure.get_size_inches()[1] * axes.get_position().height  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    gap = LABEL_INCHES * (high - low) / height
    places = style.spread(ends, gap)
    places += max(0.0, low + gap / 2 - places.min())  # no label falls onto the axis
    for (arm, curve), end, place in zip(means.items(), ends, places, strict=True):
        axes.annotate(
            f"{ARMS[arm].label}\n{plain(end)}{notes.get(arm, '')}",
            xy=(float(curve.tokens[-1]), place),
            xytext=(7, 0),
            textcoords="offset points",
            color=style.ARM_COLOURS[arm],
            va="center",
            linespacing=1.15,
            annotation_clip=False,
            fontsize=8.5,
        )


def _mark_best(axes: Axes, baseline: Curve, colour: str) -> None:
    best = int(np.argmin(baseline.nats_per_token))
    axes.plot(
        baseline.tokens[[best]],
        baseline.nats_per_token[[best]],
        "o",
        markersize=6.5,
        color=style.PAPER,
        markeredgecolor=colour,
        markeredgewidth=1.8,
        zorder=5,
        clip_on=False,
    )


def _passes_axis(axes: Axes, repetitions: float) -> None:
    scale = repetitions / axes.get_xlim()[1]

    def passes(tokens: Any) -> Any:
        return tokens * scale

    def tokens(passes: Any) -> Any:
        return passes / scale

    top = axes.secondary_xaxis("top", functions=(passes, tokens))
    top.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    top.set_xlabel("passes of the baseline over its unique tokens")
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)


def _subtitle(results: TextResults) -> str:
    budget = results.budget
    seeds = "one seed" if len(results.seeds) == 1 else f"mean of {len(results.seeds)} seeds"
    return (
        f"{results.config_name}: {count(budget['tokens'])} tokens an arm, {budget['repetitions']:.3g} passes "
        f"for the baseline, {percent(budget['synthetic_share'], 1)} of SBP's tokens synthetic; {seeds}"
    )
