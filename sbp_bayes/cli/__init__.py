"""The console script `sbp`: single stages on files and folders, exports, and past runs.

Nothing heavy is imported before the arguments are known, so `sbp --help` answers at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from sbp_bayes.base.errors import SbpError, is_out_of_memory
from sbp_bayes.base.runtime import configure_runtime, torchrun_rank
from sbp_bayes.cli.parser import build_parser, join_words
from sbp_bayes.results import ResultError

MISTAKE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        0; 2 after a mistake of the user's or an exhausted machine, with one line on stderr; 130 if
        interrupted.
    """
    configure_runtime()
    arguments = build_parser().parse_args(join_words(sys.argv[1:] if argv is None else argv))
    try:
        output = _output(arguments.command, arguments)
        if torchrun_rank() == 0:
            print(output, flush=True)
    except BrokenPipeError:  # the reader of our output has gone, as after `sbp runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stop:
        return _fail(f"{str(stop) or 'interrupted'}; the same command goes on where it stopped", INTERRUPTED)
    except (SbpError, ResultError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_of_system(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail("out of memory: fewer rows a batch, a smaller model or fewer documents need less")
    return 0


def _output(command: str, arguments: argparse.Namespace) -> str:
    if command == "runs":
        from sbp_bayes.cli.history import show_runs

        return show_runs(arguments)
    if command == "corpus stats":
        from sbp_bayes.cli.statistics import show_statistics

        return show_statistics(arguments)
    if command == "pair report":
        from sbp_bayes.cli.pair_report import show_pair_report

        return show_pair_report(arguments)
    if command == "plan pairing":
        from sbp_bayes.cli.plan import show_pairing_plan

        return show_pairing_plan(arguments)
    if command == "export-hf":
        from sbp_bayes.cli.export import export_model

        return export_model(arguments)
    if command == "corpus":
        from sbp_bayes.cli.corpus import run_corpus
        from sbp_bayes.cli.tables import summary

        return summary(run_corpus(arguments))
    from sbp_bayes.cli.stages import COMMANDS

    return COMMANDS[command](arguments)


def _fail(message: str, code: int = MISTAKE) -> int:
    print(f"sbp: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def _of_system(error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = "; what is finished stays, the same command goes on" if error.errno == errno.ENOSPC else ""
    return f"{error.filename}: {reason}{hint}" if error.filename else f"{reason}{hint}"
