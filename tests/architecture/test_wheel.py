"""The wheel: two packages, everything that they need and nothing that only experiments need."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path) -> str:
    """Run a command without a trace of the checkout; return what it printed."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git would check out."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("sbp_bayes", "toy_worlds", "experiments", "paper_figures", "tests", "figures"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", source / "dist", source, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's programs, with the wheel in it; the libraries alone are this environment's."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file brings libraries, and not the .pth files beside them: no editable install.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--quiet", "--ignore-installed")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_it_holds_the_two_packages_and_the_licence(wheel: Path, metadata: Message) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sbp_bayes", "toy_worlds"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2509.15248"]


def test_what_only_experiments_need_is_no_dependency_of_it(metadata: Message) -> None:
    core = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    names = {re.match(r"[\w.-]+", text)[0] for text in core}
    assert not names & {"sacred", "setuptools", "wrapt", "matplotlib"}
    (xformers,) = (text for text in core if text.startswith("xformers"))
    assert 'sys_platform == "linux"' in xformers
    assert 'platform_machine == "x86_64"' in xformers  # aarch64 has no wheel


def test_it_runs_where_there_is_no_checkout(environment: Path, tmp_path: Path) -> None:
    texts = [{"text": f"{number} " + "the kettle is on the stove " * 20} for number in range(80)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    assert "export-hf" in run(environment / "sbp", "--help", cwd=tmp_path)
    prepared = run(environment / "sbp", "corpus", "texts.jsonl", "--out", "corpus", cwd=tmp_path)
    assert "documents" in prepared
    assert (tmp_path / "corpus" / "tokenizer.json").exists()


def test_a_worlds_example_holds_where_it_is_installed(environment: Path, tmp_path: Path) -> None:
    code = (
        "import doctest, importlib.util, pathlib, toy_worlds.hidden_markov.hmm_mixture as world;"
        "failed, tried = doctest.testmod(world, extraglobs={'torch': __import__('torch')});"
        "assert tried and not failed;"
        "assert 'site-packages' in pathlib.Path(world.__file__).parts;"
        "assert all(importlib.util.find_spec(name) is None for name in ('experiments', 'paper_figures'))"
    )
    run(environment / "python", "-c", code, cwd=tmp_path)


def test_the_citation_names_the_paper_and_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert f'__version__ = "{citation["version"]}"' in (ROOT / "sbp_bayes/__init__.py").read_text()
    (paper,) = citation["references"]
    assert paper["title"] == "Synthetic bootstrapped pretraining"
    assert paper["url"] == project["urls"]["Paper"]
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in paper["url"]
