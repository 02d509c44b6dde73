"""Draw figures: `python -m paper_figures [name …] [--results DIR | --runs DIR] [--out DIR]`."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from paper_figures.text_results import TextResults, read_committed, read_newest_run
from paper_figures.toy_results import read_claims
from sbp_bayes.results import ResultError

TEXT_FIGURES = ("text_dynamics", "text_comparison")
TOY_FIGURES = ("toy_arms", "toy_fidelity", "toy_phase", "toy_prediction", "toy_rounds")
FIGURES = (*TEXT_FIGURES, *TOY_FIGURES)
RESULTS = Path("experiments/results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the figures asked for (all of them by default) as PNG and SVG, and print their paths.

    Returns:
        0; or 2 after one line on stderr where the numbers are missing or damaged.
    """
    options = _parser().parse_args(arguments)
    try:
        names = options.names or (TEXT_FIGURES if options.runs else _possible(options.results))
        written = []
        if text := [name for name in names if name in TEXT_FIGURES]:
            tables = [read_newest_run(options.runs)] if options.runs else _committed(options.results)
            written += draw(text, tables, options.out)
        if toys := [name for name in names if name in TOY_FIGURES]:
            written += draw_toys(toys, options.results / "claims", options.out)
        print(*written, sep="\n")
    except (ResultError, OSError) as error:
        print(f"paper_figures: {error}", file=sys.stderr)
        return 2
    return 0


def draw(names: Sequence[str], tables: Sequence[TextResults], out: Path) -> list[Path]:
    """Write each figure of each table to `out`/name_config.png and .svg; returns their paths."""
    from paper_figures import style, text_comparison, text_dynamics

    drawing: dict[str, Callable] = {
        "text_dynamics": text_dynamics.draw,
        "text_comparison": text_comparison.draw,
    }
    written = []
    for name in names:
        for table in tables:
            with style.styled(name):
                written += style.save(drawing[name](table), out / f"{name}_{_file_name(table)}")
    return written


def draw_toys(names: Sequence[str], claims: Path, out: Path) -> list[Path]:
    """Write each figure of the toy worlds to `out`/name.png and .svg; returns their paths."""
    from paper_figures import style, toy_arms, toy_fidelity, toy_phase, toy_prediction, toy_rounds

    drawing: dict[str, Callable] = {
        "toy_arms": toy_arms.draw,
        "toy_fidelity": toy_fidelity.draw,
        "toy_phase": toy_phase.draw,
        "toy_prediction": toy_prediction.draw,
        "toy_rounds": toy_rounds.draw,
    }
    results, written = read_claims(claims), []
    for name in names:
        with style.styled(name):
            written += style.save(drawing[name](results), out / name)
    return written


def _possible(results: Path) -> Sequence[str]:
    """Return the figures whose numbers are committed, at the least the text's."""
    return FIGURES if (results / "claims" / "claims.json").exists() else TEXT_FIGURES


def _committed(results: Path) -> list[TextResults]:
    tables = sorted(path.parent for path in (results / "text_sbp").glob("*/comparison.json"))
    if not tables:
        raise ResultError(f"{results}/text_sbp: no committed tables; --runs DIR reads a finished run instead")
    return [read_committed(table) for table in tables]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m paper_figures", description=__doc__)
    parser.add_argument(
        "names", nargs="*", type=_figure, metavar="name", help=f"{', '.join(FIGURES)}; all by default"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--results", type=Path, default=RESULTS, help=f"committed tables ({RESULTS})")
    source.add_argument("--runs", type=Path, help="take the newest finished run in this folder instead")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the pictures (figures)")
    return parser


def _file_name(table: TextResults) -> str:
    return re.sub(r"[^\w.=-]+", "_", table.config_name)


def _figure(name: str) -> str:
    if name not in FIGURES:
        raise argparse.ArgumentTypeError(f"unknown figure {name!r} (known: {', '.join(FIGURES)})")
    return name


if __name__ == "__main__":
    sys.exit(main())
