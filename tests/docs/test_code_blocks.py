"""Every code block of README.md and docs/ runs as its reader would run it; every command named exists.

A comment above a block is for this test, and is not shown: `<!-- not executed: why -->` or, for what takes
too long, `<!-- executed with: --tokens 1000000 → --tokens 1000 -->` (`;` between several).
"""

import dataclasses
import importlib.util
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sbp_bayes.base.progress import use_display
from sbp_bayes.cli import main
from sbp_bayes.cli.parser import COMMANDS, join_words

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!--\s*(?P<note>.*?)\s*-->\n+)?```(?P<language>\S*)\n(?P<code>.*?)^```$", re.M | re.S
)
SHELL = set("|<>$&;`*")
"""Characters that only a shell understands."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line where its code begins, the code, and the comment above it."""

    language: str
    line: int
    code: str
    note: str

    def executed(self) -> str:
        """The code with what the comment replaces in it; empty where it is not executed."""
        kind, _, said = self.note.partition(":")
        if kind == "not executed":
            assert said.strip(), f"line {self.line}: say why the block is not executed"
            return ""
        code = self.code
        for old, new in (change.split(" → ") for change in said.strip().split("; ") if change):
            assert old in code, f"line {self.line}: the block has no {old!r}"
            code = code.replace(old, new)
        return code


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [
        Block(
            found["language"],
            text.count("\n", 0, found.start("code")) + 1,
            found["code"],
            found["note"] or "",
        )
        for found in FENCE.finditer(text)
    ]


def run_bash(code: str, folder: Path) -> None:
    """Run a block line by line; commands of `sbp` in this process, which has paid for its imports."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sbp"] and not SHELL & set("".join(words)):
            assert main(words[1:]) == 0, line
        elif words:
            path = (
                f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            )
            environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(["bash", "-c", line], env=environment, check=False, capture_output=True)
            assert done.returncode == 0, f"{line}\n{done.stderr.decode()}"


def run_python(block: Block, code: str, page: Path, names: dict[str, object]) -> None:
    """Run a block in the page's namespace; a traceback names the page's line."""
    exec(compile("\n" * (block.line - 1) + code, page, "exec"), names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a reader stands: documents of two topics in TEXT, an empty runs/, and `sbp` on the path."""
    generator = random.Random(0)
    common = "the of and to in is that for on with as are this be".split()  # noqa: SIM905
    topics = [[a + b + t for a in "bdfgk" for b in ("ala", "oro", "ini")] for t in "mn"]
    for name in ("TEXT", "runs", "bin"):
        (tmp_path / name).mkdir()
    with open(tmp_path / "TEXT" / "documents.jsonl", "w", encoding="utf-8") as file:
        for i in range(160):
            words = [
                generator.choice(topics[i % 2] if generator.random() < 0.6 else common) for _ in range(50)
            ]
            file.write(json.dumps({"text": " ".join(words)}) + "\n")
    (tmp_path / "bin" / "sbp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sbp_bayes.cli "$@"\n')
    (tmp_path / "bin" / "sbp").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)  # `main` takes it over
    use_display(None)
    yield tmp_path
    use_display(None)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs_in_its_order(page: Path, folder: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page.read_text(encoding="utf-8")):
        assert block.language in ("bash", "python", "text"), f"{page}:{block.line}: {block.language!r}"
        if code := block.executed():
            if block.language == "bash":
                run_bash(code, folder)
            elif block.language == "python":
                run_python(block, code, page, names)


def test_a_block_that_is_wrong_is_found(folder: Path) -> None:
    page = "\n".join(
        [
            "<!-- executed with: 10 → 2; no → number -->",
            "```python",
            "no = 10",
            "```",
            "<!-- not executed: hours -->",
            "```bash",
            "make demo",
            "```",
            "text",
            "```bash",
            "sbp runs --rnus runs",
            "```",
        ]
    )
    python, left_out, bash = blocks(page)
    assert [block.line for block in (python, left_out, bash)] == [3, 7, 11]
    names: dict[str, object] = {}
    run_python(python, python.executed(), Path("page.md"), names)
    assert names["number"] == 2
    assert left_out.executed() == ""
    run_bash("sbp runs --runs runs  # a comment\ntest -d TEXT && sbp runs | grep runs", folder)
    with pytest.raises(SystemExit):
        run_bash(bash.executed(), folder)
    with pytest.raises(AssertionError, match="no such folder"):
        run_bash("sbp runs --runs gone | cat; sbp runs --runs gone", folder)
    with pytest.raises(AssertionError, match="has no 'x'"):
        dataclasses.replace(python, note="executed with: x → y").executed()
    with pytest.raises(AssertionError, match="say why"):
        dataclasses.replace(python, note="not executed:").executed()


@pytest.fixture
def options(capsys: pytest.CaptureFixture[str]) -> Callable[[str], set[str]]:
    """Return the options of a command of `sbp`, as its help has them."""

    def of(command: str) -> set[str]:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out))

    return of


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_flags_and_modules_in_the_text_exist(page: Path, options) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    known = {command: options(command) for command in COMMANDS}
    unknown = []
    for span in re.findall(r"`([^`]+)`", text):
        words = span.split()
        flags = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        if words[0] == "sbp" and len(words) > 1:
            command = join_words(words[1:])[0]
            unknown += [span] if not flags <= known.get(command, set()) | {"--help"} else []
            unknown += [span] if command not in known and not command.startswith("--") else []
        elif words[0].startswith("--"):
            unknown += [span] if not any(flags <= found for found in known.values()) else []
        elif words[:2] == ["python", "-m"] and words[2] != "pytest":
            unknown += [span] if importlib.util.find_spec(words[2]) is None else []
    assert unknown == []
