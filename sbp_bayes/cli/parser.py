"""The commands of `sbp`, in one table, and the parser that it makes; standard library only."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import sbp_bayes
from sbp_bayes.cli import arguments

EXAMPLE = """\
one stage after the other, on a text of your own:
  sbp corpus texts/ --out work/corpus
  sbp corpus stats work/corpus
  sbp pretrain work/corpus --out work/baseline
  sbp pair work/corpus --out work/pairs
  sbp tune work/corpus --pairs work/pairs --model work/baseline --out work/synthesizer
  sbp synthesize work/corpus --model work/synthesizer --tokens 2000000 --out work/synthetic
  sbp pretrain work/corpus --synthetic work/synthetic --out work/joint
  sbp evaluate work/corpus --model work/joint --out work/scores
  sbp evaluate work/joint --tasks talk --out work/benchmarks
  sbp quality work/synthetic --against work/corpus --out work/quality

A finished stage is never run again; an interrupted one goes on where it stopped.
"""

STAGE_FOLDER = "the stage's own folder"
EXPORT_FOLDER = "a folder that is new, empty, or an earlier export, which is replaced"

ACCEPT_CODE = (
    "go on with what another version of the code has left unfinished in DIR, or use what it has finished; "
    "the manifest names both versions (default: an error)"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One command of `sbp`.

    Attributes:
        help: what it does.
        add_arguments: adds its own arguments to a parser.
        run: function that runs it, as "module:name" within `sbp_bayes.cli`, imported when it is needed. It
            takes the parsed arguments and returns what is printed: a text, or a stage's manifest.
        out: what `--out` names; None for a command that writes nothing.
        is_stage: whether it writes a stage, whose unfinished work another version of the code may go on with.
        has_settings: whether it has a configuration, whose settings `--set` and `--seed` change.
        has_seed: whether a seed is among them.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: str
    out: str | None = STAGE_FOLDER
    is_stage: bool = True
    has_settings: bool = True
    has_seed: bool = True


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line on stderr."""
        self.exit(2, f"sbp: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the parsed `command` names the one chosen."""
    parser = Parser(
        prog="sbp",
        description="Synthetic Bootstrapped Pretraining (arXiv 2509.15248), one stage at a time.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sbp_bayes {sbp_bayes.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(name, help=command.help, description=command.help)
        command.add_arguments(of_command)
        if command.out is not None:
            of_command.add_argument("--out", required=True, metavar="DIR", help=command.out)
        if command.is_stage:
            of_command.add_argument("--accept-code", action="store_true", help=ACCEPT_CODE)
        if command.has_settings:
            _add_settings(of_command, command.has_seed)
    return parser


def _add_settings(parser: argparse.ArgumentParser, has_seed: bool) -> None:
    if has_seed:
        parser.add_argument("--seed", type=int, metavar="N", help="seed of the stage (default 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help="any setting of the stage, nested with dots: --set optimiser.peak_lr=0.003 (repeatable)",
    )


def _reader(help: str, add_arguments: Callable[[argparse.ArgumentParser], None], run: str) -> Command:
    """Return a command that writes nothing."""
    return Command(
        help=help, add_arguments=add_arguments, run=run, out=None, is_stage=False, has_settings=False
    )


COMMANDS: Mapping[str, Command] = {
    "corpus": Command(
        help="read, clean, de-duplicate, split and tokenise text",
        add_arguments=arguments.add_corpus,
        run="corpus:run_corpus",
    ),
    "corpus stats": _reader(
        "show what a prepared corpus holds, in figures and bars",
        arguments.add_corpus_stats,
        "statistics:show_statistics",
    ),
    "pair": Command(
        help="pair related documents by nearest neighbours",
        add_arguments=arguments.add_pair,
        run="stages:run_pair",
    ),
    "pair report": _reader(
        "show what pairs a pairing found, in figures, bars and examples",
        arguments.add_pair_report,
        "pair_report:show_pair_report",
    ),
    "plan pairing": _reader(
        "say what pairing so many documents would take, before it is begun",
        arguments.add_plan_pairing,
        "plan:show_pairing_plan",
    ),
    "tune": Command(
        help="tune a pretrained model on pairs into a synthesizer",
        add_arguments=arguments.add_tune,
        run="stages:run_tune",
    ),
    "synthesize": Command(
        help="sample new documents from a synthesizer",
        add_arguments=arguments.add_synthesize,
        run="synthesis:run_synthesize",
    ),
    "synthesize prompts": Command(
        help="write requests for samples that another engine draws, such as vLLM",
        add_arguments=arguments.add_synthesize_prompts,
        run="synthesis:run_prompts",
    ),
    "synthesize vllm": Command(
        help="draw the samples of such requests by vLLM, in whose environment this has to run",
        add_arguments=arguments.add_synthesize_vllm,
        run="synthesis:run_vllm",
        has_seed=False,
    ),
    "synthesize import": Command(
        help="screen the samples that another engine drew, into a synthetic corpus",
        add_arguments=arguments.add_synthesize_import,
        run="synthesis:run_import",
        has_seed=False,
    ),
    "pretrain": Command(
        help="pretrain a model on real text, with or without synthetic text",
        add_arguments=arguments.add_pretrain,
        run="stages:run_pretrain",
    ),
    "evaluate": Command(
        help="score a model on held-out text, or on the talk's benchmarks",
        add_arguments=arguments.add_evaluate,
        run="evaluate:run_evaluate",
        has_settings=False,
    ),
    "quality": Command(
        help="measure synthetic text beside real text: the talk's table and more",
        add_arguments=arguments.add_quality,
        run="quality:run_quality",
    ),
    "export-hf": Command(
        help="write a model for transformers and vLLM, as Qwen3ForCausalLM",
        add_arguments=arguments.add_export_hf,
        run="export:export_model",
        out=EXPORT_FOLDER,
        is_stage=False,
        has_settings=False,
    ),
    "export-data": Command(
        help="write synthetic documents and pairs as a data set: parquet, JSON lines and a card",
        add_arguments=arguments.add_export_data,
        run="export:export_data_set",
        has_settings=False,
    ),
    "runs": _reader(
        "list past experiments, show one, or compare two",
        arguments.add_runs,
        "history:show_runs",
    ),
}
"""Name → command. A name of two words is one argument: see `join_words`."""


def join_words(words: Sequence[str]) -> list[str]:
    """Return the words with the first two in one where they name a command, as `corpus stats` do.

    A text of such a name is still read where it is written as a path: `sbp corpus ./stats --out DIR`.
    """
    name = " ".join(words[:2])
    return [name, *words[2:]] if name in COMMANDS else list(words)
