"""`python -m experiments.text_sbp with demo`: SBP end to end on real text."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.runner import (
    make_experiment,
    run_command_line,
    run_folder,
    settings_of,
    workspace,
)
from experiments.text_sbp.config import CONFIGS, TextSbpConfig
from experiments.text_sbp.content import report_content
from experiments.text_sbp.report import write_report
from experiments.text_sbp.run import RunOutput, run
from experiments.text_sbp.table import print_table
from sbp_bayes.base.config import decode
from sbp_bayes.base.store import write_json
from sbp_bayes.results import write_results

if TYPE_CHECKING:
    from sacred.run import Run

experiment = make_experiment("text_sbp", CONFIGS, default="demo")


@experiment.main
def main(_config: dict[str, Any], _run: "Run") -> dict[str, Any]:
    """Decode the settings, run every stage, and leave rows, report and metrics in the run's folder."""
    output = run(decode(TextSbpConfig, settings_of(_config)), workspace(_config))
    content = report_content(output, config_name(_run), str(_run._id))
    folder = run_folder(experiment)
    if folder is not None:
        keep(output, content, folder)
    log_metrics(_run, content)
    print_table(content)
    if folder is not None:
        print(f"\nrun {_run._id}   report {folder / 'report.html'}")
    return {"best_control": content["best_control"]}


def config_name(run: "Run") -> str:
    """Return the named configurations and changed settings of the command line, as they were given."""
    updates = run.meta_info.get("options", {}).get("UPDATE") or ["demo"]
    return " ".join(updates)


def keep(output: RunOutput, content: dict[str, Any], folder: Path) -> None:
    """Write results.jsonl, report.json and report.html to the run's folder."""
    write_results(folder / "results.jsonl", output.rows(folder.name))
    write_json(folder / "report.json", content)
    write_report(content, folder / "report.html")


def log_metrics(run: "Run", content: dict[str, Any]) -> None:
    """Log every arm's validation curve to Sacred, by tokens seen."""
    for curve in content["dynamics"]:
        name = f"{curve['arm']}.{curve['seed']}.validation_nats_per_token"
        for tokens, loss in zip(curve["tokens"], curve["validation_nats_per_token"], strict=True):
            run.log_scalar(name, loss, tokens)


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
