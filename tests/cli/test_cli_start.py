"""The command line starts fast and explains itself."""

import importlib
import inspect
import subprocess
import sys
import time

import pytest

from sbp_bayes.cli import main
from sbp_bayes.cli.parser import COMMANDS

HELP = """
import sys
from sbp_bayes.cli import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    assert leaving.code == 0
heavy = {"torch", "numpy", "pyarrow", "rich", "tokenizers", "sacred"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["pretrain", "--help"], ["--version"], ["runs", "--runs", "."]]
)
def test_it_answers_within_a_second_without_heavy_imports(arguments):
    seconds = []
    for _ in range(3):  # the machine may be busy: the fastest counts
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", HELP, *arguments], check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1


def test_a_corpus_is_prepared_without_torch():
    code = "import sys, sbp_bayes.cli.corpus, sbp_bayes.cli.tables; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([command, "--help"])
    assert leaving.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    assert words.startswith(f"usage: sbp {command} ")
    assert COMMANDS[command].help in words


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_function(command):
    module, _, function = COMMANDS[command].run.partition(":")
    (parameter,) = inspect.signature(
        getattr(importlib.import_module(f"sbp_bayes.cli.{module}"), function)
    ).parameters
    assert parameter == "arguments"
