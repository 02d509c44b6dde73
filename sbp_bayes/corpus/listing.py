"""The files that a path stands for: which of them are read, and which are left out, by their names."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sbp_bayes.base.errors import CorpusError

CONTENTS = {".jsonl": "lines", ".ndjson": "lines", ".jsonlines": "lines", ".json": "json"}
COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
OTHER_COMPRESSIONS = (".bz2", ".xz", ".lz4", ".zip")
KNOWN = ".jsonl, .ndjson, .jsonlines, .json, each also with .gz or .zst; .parquet"
NAMES_KEPT = 3

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Kind(NamedTuple):
    """How a file is read.

    Attributes:
        content: "lines" (one JSON object per line), "json" (lines, an array, or objects over several
            lines) or "parquet".
        compression: "gzip", "zstd" or None.
    """

    content: str
    compression: str | None


class LeftOut:
    """Files that are not read: their number by ending, and the first few names of each ending."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: dict[str, list[str]] = {}

    def add(self, ending: str, *names: str, count: int = 1) -> None:
        """Count `count` files of which the first are called `names`; `ending` says what they are."""
        self.counts[ending] += count
        known = self.names.setdefault(ending, [])
        known.extend(names[: NAMES_KEPT - len(known)])

    def record(self) -> dict[str, Any]:
        """Return {ending: {"files", "first"}} in JSON types."""
        return {
            ending: {"files": count, "first": self.names[ending]}
            for ending, count in self.counts.most_common()
        }

    def add_record(self, record: dict[str, Any]) -> None:
        """Add what another one's `record` returned."""
        for ending, entry in record.items():
            self.add(ending, *entry["first"], count=entry["files"])

    def __str__(self) -> str:
        groups = []
        for ending, count in self.counts.most_common():
            names = self.names[ending]
            groups.append(f"{count:,} {ending} ({', '.join(names)}{', …' * (count > len(names))})")
        return ", ".join(groups)


def kind_of(name: str) -> Kind | None:
    """Return how a file of this name is read, in upper or lower case; None for an unknown kind."""
    stem, ending = os.path.splitext(name.lower())
    if ending == ".parquet":
        return Kind("parquet", None)
    compression = COMPRESSIONS.get(ending)
    content = CONTENTS.get(os.path.splitext(stem)[1] if compression else ending)
    return Kind(content, compression) if content else None


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as ids and logs have it: in one line of UTF-8, anything else in it escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def list_files(path: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Return the files `read_documents` reads at `path`, in its order; links are followed.

    Args:
        path: a file, or a folder, whose files of known kinds are listed at any depth.
        left_out: takes what lies in the folder and is not read: files of other kinds by their ending,
            and hidden files and folders.

    Raises:
        CorpusError: a missing path, an unknown extension, a folder without files of known kinds, or what
            cannot be opened in it.
    """
    if not path.exists():
        raise CorpusError(f"{shown(path)}: no such file or folder")
    if not path.is_dir():
        if kind_of(path.name) is None:
            raise CorpusError(f"{shown(path)}: unknown kind of file (known: {KNOWN})")
        return [path]
    left_out = LeftOut() if left_out is None else left_out
    files = list(_walk(path, path, (), left_out))
    if not files:
        others = f"; it holds {left_out}" if left_out.counts else ""
        raise CorpusError(f"{shown(path)}: no files of known kinds in this folder ({KNOWN}){others}")
    return sorted(files, key=lambda p: p.relative_to(path).as_posix())


def _walk(root: Path, folder: Path, above: tuple[Path, ...], left_out: LeftOut) -> Iterator[Path]:
    if (own := folder.resolve()) in above:  # a link in a circle: its files are listed already
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise CorpusError(f"{shown(folder)}: cannot be read ({error.strerror})") from error
    for entry in entries:
        name = shown(entry.relative_to(root))
        if entry.name.startswith("."):
            left_out.add("hidden", name)
        elif entry.is_dir():
            yield from _walk(root, entry, (*above, own), left_out)
        elif kind_of(entry.name) is None:
            left_out.add(_ending(entry.name), name)
        elif entry.is_file():
            yield entry
        else:
            raise CorpusError(f"{shown(entry)}: cannot be read ({_why_no_file(entry)})")


def _why_no_file(entry: Path) -> str:
    if entry.is_symlink() and ".git/annex/objects" in os.readlink(entry):
        return "a git-annex link without its content: run `git annex get`"
    return "a link to nothing, or no file"


def _ending(name: str) -> str:
    stem, ending = os.path.splitext(name.lower())
    if ending in (*COMPRESSIONS, *OTHER_COMPRESSIONS):
        ending = os.path.splitext(stem)[1] + ending
    return shown(ending) or "without an ending"
