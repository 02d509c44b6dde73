"""Text for the command line's tests, and a way to run it in this process."""

import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sbp_bayes.cli import main

COMMON = "the of and to in is that for on with as are this be".split()  # noqa: SIM905
TOPICS = [[a + b + t for a in "bdfgk" for b in ("ala", "oro", "ini")] for t in "mnrstzlp"]


def write_texts(path: Path, *, num_documents: int = 240, seed: int = 0) -> Path:
    """Write documents of 8 topics, each of 90 words."""
    generator = random.Random(seed)
    with open(path, "w") as file:
        for i in range(num_documents):
            words = [
                generator.choice(TOPICS[i % 8] if generator.random() < 0.6 else COMMON) for _ in range(90)
            ]
            file.write(json.dumps({"text": " ".join(words)}) + "\n")
    return path


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of JSON lines."""
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl")


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    """`main` takes over SIGTERM; give it back to pytest."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def sbp(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must succeed; return what it prints."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert code == 0, output.err
        return output.out

    return run


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with exit code 2; return its line on stderr."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        output = capsys.readouterr()
        assert code == 2, output
        assert output.out == ""
        (line,) = [line for line in output.err.splitlines() if not line.endswith(" s")]  # progress
        assert line.startswith("sbp: error: ")
        return line.removeprefix("sbp: error: ")

    return run
