"""From a run to the tables that are committed: numbers only, none of the text that a run may not publish.

`python -m experiments.text_sbp.export runs/1` writes them under experiments/results/text_sbp/.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import SbpError
from sbp_bayes.base.store import read_json, write_json
from sbp_bayes.results import ResultError, ResultRow, read_results, write_results

RESULTS = Path("experiments/results/text_sbp")

DYNAMICS = ("schema_version", "config_name", "seeds", "budget", "dynamics")
COMPARISON = (
    "schema_version",
    "config_name",
    "config_fingerprint",
    "code_version",
    "seeds",
    "arms",
    "best_control",
)
NAMES = ("config_name", "config_fingerprint", "code_version", "arm", "checkpoint", "reference")
"""The only keys whose text is kept: names that the code gave."""


def export_results(report: Mapping[str, Any], rows: Iterable[ResultRow], directory: Path) -> None:
    """Write results.jsonl, dynamics.json and comparison.json, from which `paper_figures` draws.

    Args:
        report: of the run.
        rows: of the run.
        directory: experiments/results/text_sbp/<configuration>.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_json(directory / "dynamics.json", _numbers({key: report[key] for key in DYNAMICS}))
    write_json(directory / "comparison.json", _numbers({key: report[key] for key in COMPARISON}))
    write_results(directory / "results.jsonl", rows)


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {name: _numbers(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if not isinstance(item, str) or name in NAMES}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value if not isinstance(item, str)]
    return value


def main(arguments: list[str]) -> int:
    """Export the run whose folder is the only argument; return 0, or 2 after a mistake."""
    if len(arguments) != 1:
        print("usage: python -m experiments.text_sbp.export RUN_FOLDER", file=sys.stderr)
        return 2
    run = Path(arguments[0])
    try:
        report = read_json(run / "report.json")
        target = RESULTS / report["config_name"].replace("/", "_")
        export_results(report, read_results(run / "results.jsonl"), target)
    except (SbpError, ResultError) as error:
        print(f"experiments.text_sbp.export: error: {error}", file=sys.stderr)
        return 2
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
