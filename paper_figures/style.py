"""One look for all figures: Okabe–Ito colours, quiet axes, labels beside what they name."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper_figures.canvas import Axes, Figure, matplotlib
from sbp_bayes.arms import ARMS

INK, MUTED, RULE, PAPER = "#1b1d21", "#5f656e", "#d5d8dc", "#ffffff"
ARM_COLOURS = {name: arm.colour[0] for name, arm in ARMS.items()}
ROLE_DASHES: dict[str, Any] = {
    "repetition": (0, (1.5, 1.2)),
    "control": (0, (3, 1.2)),
    "ceiling": (0, (5, 1.6)),
}
ARM_DASHES = {name: ROLE_DASHES.get(arm.role, "-") for name, arm in ARMS.items()} | {"baseline": "-"}
"""Dashes tell arms apart where colours can't: in grey."""

SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
}


@contextlib.contextmanager
def styled(salt: str, **settings: Any) -> Iterator[None]:
    """Draw and save under the project's settings alone; `salt` fixes the identifiers in an SVG."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS | {"svg.hashsalt": salt} | settings)  # type: ignore[arg-type]
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png (for twice its size on screen) and `stem`.svg, the same bytes every time."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        path = stem.with_name(stem.name + suffix)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        os.replace(temporary, path)
        written.append(path)
    return written


def titles(figure: Figure, title: str, subtitle: str) -> None:
    """Put a title and a line of explanation at the figure's upper left, a fixed distance from the edge."""
    height = figure.get_size_inches()[1]
    figure.text(0.012, 1 - 0.12 / height, title, va="top", fontsize=11, weight="bold")
    figure.text(0.012, 1 - 0.42 / height, subtitle, va="top", color=MUTED, fontsize=8.5)


def quiet_grid(axes: Axes, axis: str = "y") -> None:
    """Put light lines behind the data along `axis`, and take the ticks away."""
    axes.grid(axis=axis, color=RULE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def spread(positions: Sequence[float], gap: float) -> np.ndarray:
    """Move positions apart until neighbours are at least `gap` away, keeping their order and centre.

    Used for labels at the ends of curves. Groups that touch are spread around their mean.
    """
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []
    for position in np.asarray(positions, float)[order]:
        groups.append([position])
        while len(groups) > 1 and _start(groups[-1], gap) < _start(groups[-2], gap) + len(groups[-2]) * gap:
            last = groups.pop()
            groups[-1].extend(last)
    moved = np.empty(len(order))
    moved[order] = [_start(group, gap) + i * gap for group in groups for i in range(len(group))]
    return moved


def _start(group: Sequence[float], gap: float) -> float:
    return float(np.mean(group)) - gap * (len(group) - 1) / 2
