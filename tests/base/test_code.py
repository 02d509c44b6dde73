"""The version of a stage's code changes with what runs, however far away, and with nothing else."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sbp_bayes.base import code
from sbp_bayes.base.code import module_digests, software

LAB = {
    "__init__.py": '"""A laboratory."""\n',
    "stage.py": """
        from typing import TYPE_CHECKING
        from lab.package import helper
        import lab.plain as plain
        if TYPE_CHECKING:
            from lab.types import Thing

        def work(thing: "Thing") -> int:
            '''Do the work.'''
            from lab.late import needed
            return helper() + plain.number() + needed()
        """,
    "package/__init__.py": "from lab.package.helpers import helper\nfrom lab.package.other import unused\n",
    "package/helpers.py": "from ..deep import constant\n\ndef helper():\n    return constant\n",
    "package/other.py": "def unused():\n    return 1\n",
    "deep/__init__.py": "from .very import constant\n",
    "deep/very.py": "constant = 3  # a number\n",
    "plain.py": "def number():\n    return 1\n",
    "late.py": "def needed():\n    return 2\n",
    "types.py": "class Thing:\n    pass\n",
    "lazy/__init__.py": """
        import importlib

        def __getattr__(name):
            return importlib.import_module('lab.lazy.inner')
        """,
    "lazy/inner.py": "x = 1\n",
}
COVERED = ["lab.deep.very", "lab.late", "lab.package.helpers", "lab.plain", "lab.stage"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package to be changed; returns its folder."""
    for name, text in LAB.items():
        path = tmp_path / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.split("\n")))
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path / "lab"
    forget()


def forget():
    for cached in (code.code_version, code._parse, code._path):
        cached.cache_clear()


def version(*modules: str) -> str:
    forget()
    return code.code_version(*modules or ("lab.stage",))


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_modules_that_a_stage_imports_are_found_through_others_and_packages_and_functions(lab):
    assert list(module_digests("lab.stage")) == COVERED


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage.py", "+ needed()", "- needed()"),
        ("plain.py", "return 1", "return 2"),
        ("late.py", "return 2", "return 3"),
        ("package/helpers.py", "return constant", "return -constant"),
        ("deep/very.py", "constant = 3", "constant = 4"),
        ("deep/very.py", "constant = 3", "constant = '3'"),
        ("deep/very.py", "constant = 3", "constant = True"),
        ("plain.py", "return 1", "return None"),
        ("plain.py", "return 1", "return"),
        ("deep/__init__.py", "from .very import constant", "constant = 3"),
        (
            "package/__init__.py",
            "from lab.package.helpers import helper",
            "from lab.package.other import unused as helper",
        ),
    ],
)
def test_a_change_of_what_runs_gives_another_version(lab, name, old, new):
    before = version()
    changed(lab / name, old, new)
    assert version() != before


def test_no_two_constants_are_the_same(lab):
    versions = set()
    for constant in ("0", "0.0", "False", "''", "b''", "None", "[]", "()", "..."):
        (lab / "deep" / "very.py").write_text(f"constant = {constant}")
        versions.add(version())
    assert len(versions) == 9


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage.py", "Do the work.", "Do all of the work."),
        ("stage.py", "            '''Do the work.'''\n".replace(" " * 8, "", 1), ""),
        ("deep/very.py", "  # a number", ""),
        ("deep/very.py", "constant = 3", "'''About a constant.'''\nconstant = 3\n'''It is three.'''"),
        ("package/helpers.py", "\n\ndef helper():\n", "\n\n\n\ndef helper(\n    ):\n"),
        ("package/other.py", "return 1", "return 2"),
        ("package/__init__.py", "from lab.package.other import unused\n", ""),
        ("types.py", "pass", "x: int"),
        ("__init__.py", "A laboratory", "The laboratory"),
        ("deep/very.py", "constant = 3", "constant = (3)"),
    ],
)
def test_a_change_of_a_docstring_a_comment_or_an_unrelated_module_gives_the_same_version(lab, name, old, new):
    before = version()
    changed(lab / name, old, new)
    assert version() == before


def test_a_package_that_finds_its_names_when_asked_counts_whole(lab):
    changed(lab / "stage.py", "from lab.package import helper", "from lab.lazy import helper")
    before = version()
    changed(lab / "lazy" / "inner.py", "x = 1", "x = 2")
    assert version() != before


def test_code_that_a_stage_is_given_counts_where_it_is_named(lab):
    assert version("lab.plain") != version("lab.plain", "lab.types")


def test_nothing_is_imported_and_circles_end(lab):
    changed(lab / "deep" / "very.py", "constant", "from lab import stage\nconstant")
    assert list(module_digests("lab.stage")) == COVERED
    assert not any(name.partition(".")[0] == "lab" for name in sys.modules)


def test_the_version_is_the_same_under_every_hash_seed_and_from_every_place(lab, tmp_path):
    script = (
        "from sbp_bayes.base.code import code_version as v; print(v('experiments.toy_validation.samples'))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            text=True,
            cwd=place,
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": seed},
        ).stdout
        for place, seed in ((tmp_path, "1"), ("/", "2"))
    }
    assert len(found) == 1


def test_stages_of_experiments_cover_worlds_and_experiments_and_no_command_line():
    covered = set(module_digests("experiments.toy_validation.samples"))
    assert {"toy_worlds.knowledge.fact_views", "toy_worlds.hidden_markov.forward"} <= covered
    assert {"experiments.toy_validation.data", "sbp_bayes.synthesizer.posterior"} <= covered
    assert not any(name.startswith(("sbp_bayes.cli", "paper_figures", "tests")) for name in covered)
    pretraining = set(module_digests("sbp_bayes.pretraining.pretrain"))
    assert {"sbp_bayes.lm.layers", "sbp_bayes.training.loop", "sbp_bayes.corpus.packing"} <= pretraining
    assert not any(
        name.startswith(("toy_worlds", "sbp_bayes.pairing", "sbp_bayes.lm.decode")) for name in pretraining
    )


def test_the_software_is_named():
    assert software()["torch"] == metadata.version("torch")
    assert {"python", "sbp_bayes", "numpy"} <= software().keys()
