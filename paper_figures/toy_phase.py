"""Where SBP gains: number of concepts × documents per concept."""

import numpy as np

from paper_figures import style
from paper_figures.canvas import Figure
from paper_figures.numbers import signed
from paper_figures.toy_results import ToyResults
from sbp_bayes.results import ResultError


def draw(results: ToyResults) -> Figure:
    """Draw SBP's gain over repetition in each cell; one whose interval holds 0 stands in brackets.

    Raises:
        ResultError: no phase diagram was kept.
    """
    if results.phase_diagram is None:
        raise ResultError("no phase diagram is committed (python -m experiments.toy_phase_diagram)")
    cells = results.phase_diagram["cells"]
    concepts = sorted({cell["num_concepts"] for cell in cells})
    documents = sorted({cell["documents_per_concept"] for cell in cells})
    gains = np.full((len(documents), len(concepts)), np.nan)
    for cell in cells:
        gains[documents.index(cell["documents_per_concept"]), concepts.index(cell["num_concepts"])] = cell[
            "gain"
        ]
    figure = Figure(figsize=(7.6, 4.0))
    style.titles(
        figure,
        f"SBP's gain over repetition in {cells[0]['world'].replace('_', ' ')}",
        "nats per token at best checkpoints on validation, mean of seeds; (…): the 95% interval holds 0",
    )
    axes = figure.add_axes((0.1, 0.13, 0.88, 0.68))
    limit = float(np.nanmax(np.abs(gains)))
    axes.imshow(gains, cmap="RdBu", vmin=-1.6 * limit, vmax=1.6 * limit, aspect="auto", origin="lower")
    for cell in cells:
        half = cell["gain_half_width"]
        text = signed(cell["gain"])
        unsure = half is None or abs(cell["gain"]) <= half
        axes.text(
            concepts.index(cell["num_concepts"]),
            documents.index(cell["documents_per_concept"]),
            f"({text})" if unsure else text,
            ha="center",
            va="center",
            fontsize=8.5,
            color=style.MUTED if unsure else style.INK,
        )
    axes.set_xticks(range(len(concepts)), [str(c) for c in concepts])
    axes.set_yticks(range(len(documents)), [str(d) for d in documents])
    axes.set_xlabel("concepts")
    axes.set_ylabel("documents per concept in D_unique")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
