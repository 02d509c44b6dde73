"""`python -m experiments.claims`: judge every claim from the newest runs, print the table and keep it."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.claims.evidence import RESULTS, collect, keep, read_kept
from experiments.claims.judge import INFORMATIVE, informative_worlds, judge
from experiments.claims.predictor import predict_settings, predict_worlds
from experiments.claims.verdict import ALPHA, Claim
from sbp_bayes.base.config import encode
from sbp_bayes.base.errors import SbpError
from sbp_bayes.base.store import write_json, write_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, or 2 after one line on stderr where there are no runs to judge by."""
    parser = argparse.ArgumentParser(prog="python -m experiments.claims", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of Sacred runs (runs)")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"where the table goes ({RESULTS})")
    parser.add_argument("--kept", action="store_true", help="judge what --out keeps already, not new runs")
    options = parser.parse_args(arguments)
    try:
        evidence = read_kept(options.out) if options.kept else collect(options.runs)
        claims = sorted(judge(evidence), key=lambda claim: claim.name)
        keep(evidence, options.out)
        write_json(options.out / "claims.json", encode(claims))
        predictions = {"settings": predict_settings(evidence), "worlds": predict_worlds(evidence)}
        write_json(options.out / "predictions.json", encode(predictions))
        table = markdown(claims, informative_worlds(evidence))
        write_text(options.out / "claims.md", table)
    except SbpError as error:
        print(f"python -m experiments.claims: error: {error}", file=sys.stderr)
        return 2
    print(table, end="")
    print(f"\nkept in {options.out}")
    return 0


def markdown(claims: Sequence[Claim], informative: Sequence[str]) -> str:
    """Return the claims as a table in Markdown, and below it the worlds that count as informative."""
    lines = ["| | claim | statistic | value | p | Holm | verdict | evidence |", "|" + "---|" * 8]
    for claim in claims:
        interval = "" if claim.low is None else f" [{claim.low:.4f}, {claim.high:.4f}]"
        value = f"{claim.value:.4f}{interval}"
        p_values = (f"{p:.2g}" for p in (claim.p_value, claim.holm_p_value))
        cells = (claim.name, claim.claim, claim.statistic, value, *p_values, claim.verdict, claim.evidence)
        line = " | ".join(cell.replace("|", r"\|") for cell in cells)
        lines.append("| " + re.sub(r"-(?=\d)", "−", line) + " |")
    note = (
        f"I(d1;d2) is large, {INFORMATIVE} nats a token at least, in {', '.join(informative) or 'no world'}."
    )
    scope = (
        f"Verdicts are at {ALPHA:.0%} for all {len(claims)} claims together (Holm) and generalise over seeds "
        "of these worlds, not over worlds (f1: over settings); intervals are at 95% each."
    )
    return "\n".join([*lines, "", scope, note]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
