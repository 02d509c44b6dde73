"""The arguments of `sbp`; standard library only."""

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

import sbp_bayes

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

A finished stage is never run again; an interrupted one goes on where it stopped.
"""

SOURCES = (
    "a folder made by `sbp corpus`, or text: a file or folder of .jsonl, .ndjson, .jsonlines or .json (also "
    "with .gz or .zst) or .parquet, packaged:wikipedia, packaged:factbook, packaged:cookbook, "
    "packaged:docstrings, or hf:NAME"
)

EMBEDDERS = (
    "lsa (default: words alone), bm25 (likewise, by BM25), minilm (packaged), self (with --model), "
    "qwen3 (Qwen3-Embedding-0.6B), qwen3:MODEL or sentence:MODEL (sentence-transformers), where MODEL is a "
    "local folder or a name on the Hugging Face hub; these need the extra [hf] and read "
    "--set embedder.max_tokens=N tokens of a document"
)

CACHE = (
    "keep embeddings here, by content, so that another alpha or k needs no second embedding (default: the "
    "environment's SBP_CACHE; without it the stage's own folder keeps them until it is finished)"
)

OUT = {
    "stage": "the stage's own folder",
    "export-hf": "a folder that is new, empty, or an earlier export, which is replaced",
}

ACCEPT_CODE = (
    "go on with what another version of the code has left unfinished in DIR, or use what it has finished; "
    "the manifest names both versions (default: an error)"
)

READERS = ("runs", "corpus stats", "pair report", "plan pairing")
"""Commands that write nothing."""


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
    for name, (description, add_arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        add_arguments(command)
        if name not in READERS:
            command.add_argument("--out", required=True, metavar="DIR", help=OUT.get(name, OUT["stage"]))
        if name not in (*READERS, "export-hf"):
            command.add_argument("--accept-code", action="store_true", help=ACCEPT_CODE)
        if name not in (*READERS, "evaluate", "export-hf"):
            _add_settings(command)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the stage (default 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help="any setting of the stage, nested with dots: --set optimiser.peak_lr=0.003 (repeatable)",
    )


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="TEXT", help=SOURCES.partition("or text: ")[2])
    _add_vocab_size(parser)
    parser.add_argument(
        "--min-chars", type=int, metavar="N", help="leave shorter documents out (default 200)"
    )
    parser.add_argument(
        "--text-field", metavar="NAME", help="field or column that holds the text (default text)"
    )
    parser.add_argument("--limit-documents", type=int, metavar="N", help="read at most N of each path")
    parser.add_argument(
        "--keep-fields",
        metavar="NAMES",
        help="metadata fields to keep besides url and label, as a,b.c; '' keeps none (default: all)",
    )
    parser.add_argument("--drop-fields", metavar="NAMES", help="metadata fields to leave out, as a,b.c")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that share the files (default: the usable cores)"
    )


def _add_corpus_stats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="CORPUS", help="a folder made by `sbp corpus`")
    parser.add_argument(
        "--repetitions", type=int, default=20, metavar="N", help="of the budget (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def _add_pair(parser: argparse.ArgumentParser) -> None:
    _add_real_text(parser)
    _add_vocab_size(parser)
    parser.add_argument("--embedder", metavar="NAME", help=EMBEDDERS)
    parser.add_argument("--cache", metavar="DIR", help=CACHE)
    parser.add_argument("--alpha", type=float, metavar="X", help="lowest similarity of a pair (default 0.5)")
    parser.add_argument("-k", type=int, metavar="N", help="neighbours searched for each document (default 8)")
    parser.add_argument(
        "--engine",
        default="local",
        choices=("local", "ray"),
        help="who searches: this process (default), or Ray's workers, which may be lost and come back",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="with --engine ray: HOST:PORT of a running cluster, or auto (default: a Ray of its own)",
    )
    help = "parts that vectors are cut into, for --engine ray; exact pairs don't depend on it (default 1)"
    parser.add_argument("--shards", type=int, metavar="N", help=help)
    _add_model(parser, required=False, help="model whose hidden states `--embedder self` averages")


def _add_pair_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pairs", metavar="DIR", help="a folder made by `sbp pair`")
    parser.add_argument(
        "--corpus", metavar="CORPUS", help="the prepared corpus that was paired (default: where it was then)"
    )
    parser.add_argument(
        "--unique-tokens", type=int, metavar="N", help="as in `sbp pair`, where the folder doesn't say"
    )
    parser.add_argument(
        "--split", default="train", choices=("train", "validation"), help="which pairs (default train)"
    )
    parser.add_argument(
        "--samples", type=int, default=3, metavar="N", help="pairs shown (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the pairs shown (default 0)")


def _add_plan_pairing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--documents", type=_whole, required=True, metavar="N", help="to be paired, for instance 582e6"
    )
    parser.add_argument(
        "--dimension", type=_whole, default=1024, metavar="N", help="of the vectors (default %(default)s)"
    )
    parser.add_argument(
        "-k", type=_whole, default=200, metavar="N", help="neighbours of a document (default %(default)s)"
    )
    parser.add_argument(
        "--cores", type=_whole, default=1000, metavar="N", help="of all machines (default %(default)s)"
    )
    parser.add_argument(
        "--memory-per-worker",
        type=float,
        default=8.0,
        metavar="GIB",
        help="for one shard, which is one core's (default %(default)s)",
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure this machine first, some 10 seconds on one core"
    )
    parser.add_argument(
        "--corpus",
        metavar="CORPUS",
        help="measure on passages of this prepared corpus how many lists must be asked",
    )


def _whole(text: str) -> int:
    """Read a whole number, also as 582e6."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


_whole.__name__ = "whole number"  # argparse shows it


def _add_tune(parser: argparse.ArgumentParser) -> None:
    _add_real_text(parser)
    parser.add_argument("--pairs", required=True, metavar="DIR", help="folder made by `sbp pair`")
    _add_model(
        parser, help="model to start from; of a pretraining's folder, its best checkpoint on validation"
    )
    _add_document_limit(parser, "the model's context length")
    parser.add_argument("--epochs", type=float, metavar="X", help="most times each pair is seen (default 2)")
    _add_checkpoints(parser)


def _add_synthesize(parser: argparse.ArgumentParser) -> None:
    _add_real_text(parser)
    _add_model(parser, help="synthesizer, made by `sbp tune`")
    parser.add_argument(
        "--tokens", type=int, required=True, metavar="N", help="tokens wanted after screening"
    )
    _add_document_limit(parser, "as in tuning")
    parser.add_argument("--temperature", type=float, metavar="X", help="default 1, as in the paper")
    parser.add_argument(
        "--unconditional",
        action="store_true",
        help="sample without any d1: of a pretrained model, self-distillation, the control of SBP",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that sample (default: the usable cores)"
    )


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    _add_real_text(parser)
    _add_vocab_size(parser)
    parser.add_argument("--preset", default="demo", metavar="NAME", help="shape of the model (default demo)")
    parser.add_argument(
        "--budget-tokens", type=int, metavar="N", help="tokens trained on (default: 20 times the real text)"
    )
    parser.add_argument("--rows-per-batch", type=int, default=32, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--synthetic", metavar="DIR", help="folder made by `sbp synthesize`: joint pretraining"
    )
    parser.add_argument(
        "--synthetic-share", type=float, metavar="X", help="of the budget (default 0.375 with --synthetic)"
    )
    parser.add_argument(
        "--repeat-synthetic",
        action="store_true",
        default=None,
        help="read synthetic text again where the budget asks for more than there is (default: an error)",
    )
    _add_checkpoints(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="CORPUS", help=SOURCES)
    _add_model(parser, help="model to score; of a pretraining's folder, its best checkpoint on validation")
    parser.add_argument(
        "--split", default="test", choices=("test", "validation", "pool"), help="default test"
    )


def _add_export_hf(parser: argparse.ArgumentParser) -> None:
    help = "model to export; of a pretraining's folder, its best checkpoint on validation"
    parser.add_argument("model", metavar="MODEL", help=help)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="none: list all; one: show it; two: compare them"
    )
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder of the runs (default runs)")


def _add_real_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="CORPUS", help=SOURCES)
    parser.add_argument(
        "--unique-tokens",
        type=int,
        metavar="N",
        help="use a random N tokens of the real text, the same in every stage (default: all)",
    )


def _add_model(parser: argparse.ArgumentParser, *, help: str, required: bool = True) -> None:
    help = f"{help}; or a Hugging Face Qwen3 folder with this library's token ids"
    parser.add_argument("--model", required=required, metavar="DIR", help=help)


def _add_vocab_size(parser: argparse.ArgumentParser) -> None:
    help = "ids of the tokenizer trained on the text (default %(default)s; a prepared corpus has its own)"
    parser.add_argument("--vocab-size", type=int, default=2048, metavar="N", help=help)


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    help = "between the checkpoints an interrupted training goes on from; changes no result (default 60)"
    parser.add_argument("--checkpoint-seconds", type=float, metavar="X", help=help)
    help = "the newest N are kept until the training ends, besides its best weights (default 2)"
    parser.add_argument("--kept-checkpoints", type=int, metavar="N", help=help)


def _add_document_limit(parser: argparse.ArgumentParser, default: str) -> None:
    help = f"cut documents to N tokens (default: {default})"
    parser.add_argument("--max-document-tokens", type=int, metavar="N", help=help)


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "corpus": ("read, clean, de-duplicate, split and tokenise text", _add_corpus),
    "corpus stats": ("show what a prepared corpus holds, in figures and bars", _add_corpus_stats),
    "pair": ("pair related documents by nearest neighbours", _add_pair),
    "pair report": ("show what pairs a pairing found, in figures, bars and examples", _add_pair_report),
    "plan pairing": ("say what pairing so many documents would take, before it is begun", _add_plan_pairing),
    "tune": ("tune a pretrained model on pairs into a synthesizer", _add_tune),
    "synthesize": ("sample new documents from a synthesizer", _add_synthesize),
    "pretrain": ("pretrain a model on real text, with or without synthetic text", _add_pretrain),
    "evaluate": ("score a model on held-out text", _add_evaluate),
    "export-hf": ("write a model for transformers and vLLM, as Qwen3ForCausalLM", _add_export_hf),
    "runs": ("list past experiments, show one, or compare two", _add_runs),
}
"""Name → (what it does, what adds its arguments). A name of two words is one argument: see `join_words`."""


def join_words(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the first two in one where they name a command, as `corpus stats` do.

    A text of such a name is still read where it is written as a path: `sbp corpus ./stats --out DIR`.
    """
    name = " ".join(arguments[:2])
    return [name, *arguments[2:]] if name in COMMANDS else list(arguments)
