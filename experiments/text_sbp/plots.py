"""Plots of the report as inline SVG whose colours are the page's, so that it reads on light and dark."""

import io
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from paper_figures.numbers import superscript
from paper_figures.text_results import Curve, TextResults, from_report
from sbp_bayes.arms import ARMS, MUTED

if TYPE_CHECKING:
    from paper_figures.canvas import Figure

WIDE, HALF, NARROW = 7.8, 4.6, 4.0
"""Widths in inches: across the page, in half of it, on a phone."""


def dynamics_plot(report: Mapping[str, Any]) -> str:
    """Validation loss of every arm against tokens seen."""
    from paper_figures import text_dynamics

    results = from_report(report)
    ends = [
        f"{ARMS[arm].label} ends at {results.mean_curve(arm).nats_per_token[-1]:.3f}"
        for arm in results.drawn_arms
    ]
    alt = f"Validation loss in nats per token against tokens seen: {', '.join(ends)}."
    return _two_widths(
        "dynamics", alt, lambda width: text_dynamics.draw(results, width=width, titled=False), WIDE
    )


def comparison_plot(report: Mapping[str, Any]) -> str:
    """Differences in test loss with their intervals."""
    from paper_figures import text_comparison

    results = from_report(report)
    comparison = results.comparison("best")
    said = [
        f"{ARMS[arm].label} {d.value:.3f}, {d.low:.3f} to {d.high:.3f}"
        for arm, d in comparison.deltas.items()
    ]
    alt = (
        f"Test loss less that of {ARMS[comparison.reference].label} at its best on validation, with 95% "
        f"intervals over {results.intervals_over}: {'; '.join(said)}."
    )
    return _two_widths(
        "comparison", alt, lambda width: text_comparison.draw(results, width=width, titled=False), WIDE
    )


def cost_plot(report: Mapping[str, Any]) -> str:
    """Validation loss against all operations that an arm needs, those before its pretraining included."""
    from paper_figures import text_dynamics

    results = from_report(report)
    needed = {arm: operations_curve(results, arm) for arm in results.drawn_arms}
    power = 3 * int(math.log10(max(curve.tokens[-1] for curve in needed.values())) / 3)
    shifted = {arm: Curve(curve.tokens / 10.0**power, curve.nats_per_token) for arm, curve in needed.items()}
    unit = f"10{superscript(power)} FLOPs"

    def draw(width: float) -> "Figure":
        figure, axes = text_dynamics.canvas(width, height=3.0)
        text_dynamics.curves(axes, {arm: [curve] for arm, curve in shifted.items()})
        axes.set_xlim(0, None)
        axes.set_xlabel(f"all operations that the arm needs ({unit})")
        return figure

    ends = [f"{ARMS[arm].label} {curve.tokens[-1]:.3g}" for arm, curve in shifted.items()]
    alt = f"Validation loss against floating-point operations; each arm's total in {unit}: {', '.join(ends)}."
    return _two_widths("cost", alt, draw, HALF)


def operations_curve(results: TextResults, arm: str) -> Curve:
    """Return the mean validation curve of `arm` with operations in place of tokens.

    Its end is all that the arm needs. Its own last pretraining is taken to cost what the baseline's does;
    what comes before (for SBP the baseline, the pairs, the tuning and the synthesis; for a tuned arm the
    other tries) is where it starts.
    """
    own = results.arm("baseline", "last")["total_flops"] / results.arm("baseline", "last")["tokens_seen"]
    record, mean = _whole(results, arm), results.mean_curve(arm)
    before = max(0.0, record["total_flops"] - own * mean.tokens[-1])
    return Curve(before + own * mean.tokens, mean.nats_per_token)


def _whole(results: TextResults, arm: str) -> Mapping[str, Any]:
    """Return the record of an arm's most expensive checkpoint, its last where it is known."""
    return max((row for row in results.arms if row["arm"] == arm), key=lambda row: row["total_flops"])


def similarity_plot(similarity: Mapping[str, Any]) -> str:
    """Histograms of the similarities of neighbours and of random pairs, with the threshold α."""
    from paper_figures import style
    from paper_figures.canvas import Figure

    edges, alpha = similarity["bin_edges"], similarity["alpha"]

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 3.0))
        axes = figure.add_axes((0.3 / width, 0.5 / 3.0, 1 - 0.6 / width, 1 - 0.6 / 3.0))
        for kind, name, colour, height in (
            ("neighbours", "neighbours", style.ARM_COLOURS["sbp"], 0.99),
            ("random", "random pairs", style.MUTED, 0.9),
        ):
            axes.stairs(similarity[kind], edges, color=colour, linewidth=1.4)
            axes.stairs(similarity[kind], edges, color=colour, fill=True, alpha=0.22)
            axes.text(1, height, name, transform=axes.transAxes, color=colour, ha="right", va="top")
        axes.axvline(alpha, color=style.INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.annotate(
            f"α = {alpha:g}",
            (alpha, 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
        )
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.02, y=0.14)
        axes.set_xlabel("cosine similarity (density)")
        return figure

    alt = (
        f"Density of cosine similarity: neighbours against random pairs; pairs above α = {alpha:g} are kept."
    )
    return _two_widths("similarity", alt, draw, HALF)


def novelty_plot(quality: Mapping[str, Any]) -> str:
    """Share of n-grams that are in no document of D_unique, synthetic against real, n = 1, 2, …."""
    from paper_figures import style, text_dynamics
    from paper_figures.canvas import MaxNLocator, PercentFormatter

    copying = {kind: quality[kind]["copying"] for kind in ("synthetic", "real")}
    shares = {kind: found["novel_ngrams"] for kind, found in copying.items() if found is not None}

    def draw(width: float) -> "Figure":
        figure, axes = text_dynamics.canvas(width, height=3.0)
        ends = style.spread([values[-1] for values in shares.values()], 0.09)
        looks = {"synthetic": (style.ARM_COLOURS["sbp"], "-", "o"), "real": (style.MUTED, "--", "s")}
        for (kind, values), end in zip(shares.items(), ends, strict=True):
            colour, dashes, marker = looks[kind]
            n = range(1, len(values) + 1)
            axes.plot(n, values, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=3.5)
            axes.annotate(
                kind, (len(values), end), (8, 0), textcoords="offset points", va="center", color=colour
            )
        axes.set_ylim(-0.03, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("n, tokens")
        axes.set_ylabel("n-grams found nowhere in the real text")
        return figure

    said = "; ".join(f"{kind} {values[-1]:.1%} at n = {len(values)}" for kind, values in shares.items())
    return _two_widths(
        "novelty", f"Share of n-grams found nowhere in the unique real text: {said}.", draw, HALF
    )


def _two_widths(name: str, alt: str, draw: Callable[[float], "Figure"], width: float) -> str:
    """Draw for the page and for a phone; the style sheet shows the one that fits."""
    drawn = (
        f'<div class="{kind}">{inline_svg(draw, inches, f"{name}-{kind}", alt)}</div>'
        for kind, inches in (("wide", width), ("narrow", NARROW))
    )
    return f'<div class="plot">{"".join(drawn)}</div>'


def inline_svg(draw: Callable[[float], "Figure"], width: float, name: str, alt: str) -> str:
    """Return a figure as an `<svg>` element for HTML: same bytes every time, no outside reference.

    Identifiers start with `name`, so that several figures share a page; colours become the page's
    variables; text stays text.
    """
    from html import escape

    from paper_figures import style

    buffer = io.StringIO()
    with style.styled(name, **{"svg.fonttype": "none", "savefig.transparent": True}):
        draw(width).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font-family:[^;\"]*;?", "", svg)
    for colour, variable in _variables().items():
        svg = svg.replace(colour, f"var({variable})")
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = f'<svg {view[0]} role="img" aria-label="{escape(alt)}">'
    return head + svg[svg.index(">") + 1 :].strip()


def _variables() -> dict[str, str]:
    """Colours of the figures, and the page's variables that stand for them."""
    from paper_figures import style

    roles = {style.INK: "--ink", style.MUTED: "--muted", style.RULE: "--rule", style.PAPER: "--paper"}
    own = {arm.colour[0]: f"--{name}" for name, arm in ARMS.items() if arm.colour != MUTED}
    return roles | own
