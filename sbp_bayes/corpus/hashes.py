"""SHA-256 of the input's files, each read once for as long as it stays as it is.

Size, times and inode tell whether a file is the one that was read. Its time of change (ctime) moves with
every write, whatever a program does to its other times. Only a write within the same tick of the clock goes
unseen, so a file is not remembered before its last change is older than that.
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sbp_bayes.base.config import decode, encode
from sbp_bayes.base.errors import CorpusError, SbpError, StoreError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.store import read_json, write_json
from sbp_bayes.corpus.listing import shown

BYTES_TOGETHER = 1 << 20
SECONDS_BETWEEN_SAVES = 10.0
FINE_TICK, COARSE_TICK = 0.1, 2.0
"""Seconds within which two changes may have one time, where times have fractions of a millisecond or none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileHash:
    """A file's content, and what tells that it is still the same.

    Attributes:
        num_bytes: its size.
        modified, changed: mtime and ctime in nanoseconds.
        inode: its number in the file system.
        read: when reading began, in nanoseconds since 1970.
        sha256: of its content.
    """

    num_bytes: int
    modified: int
    changed: int
    inode: int
    read: int
    sha256: str

    def is_of(self, status: os.stat_result) -> bool:
        """Whether a file of this status is unchanged."""
        now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return (self.num_bytes, self.modified, self.changed, self.inode) == now

    @property
    def is_settled(self) -> bool:
        """Whether every change since reading began shows in the time of change."""
        tick = FINE_TICK if self.changed % 1_000_000 else COARSE_TICK
        return self.read - self.changed > tick * 1e9


def hash_files(files: Sequence[Path], memory: Path | None = None) -> list[FileHash]:
    """Return the hash of each file; the progress of reading is shown where any has to be read.

    Args:
        files: what to hash.
        memory: a file that keeps what is known, written every ten seconds and at the end; None: nothing is
            kept. One that is damaged, or that cannot be written, is done without.

    Raises:
        CorpusError: a file cannot be read.
    """
    known = {} if memory is None else _load(memory)
    found = {
        file: known[_key(file)]
        for file in files
        if _key(file) in known and known[_key(file)].is_of(_status(file))
    }
    missing = [file for file in files if file not in found]
    if missing:
        with progress(
            "hashing the input", sum(_status(file).st_size for file in missing), "bytes"
        ) as advance:
            saved = time.monotonic()
            for file in missing:
                found[file] = _hash(file, advance)
                if memory is not None and (
                    time.monotonic() - saved > SECONDS_BETWEEN_SAVES or file is missing[-1]
                ):
                    _save(memory, known | {_key(f): content for f, content in found.items()})
                    saved = time.monotonic()
    return [found[file] for file in files]


def _hash(file: Path, advance: Callable[[int], None]) -> FileHash:
    before, began, digest = _status(file), time.time_ns(), hashlib.sha256()
    try:
        with open(file, "rb") as opened:
            while part := opened.read(BYTES_TOGETHER):
                digest.update(part)
                advance(len(part))
    except OSError as error:
        raise CorpusError(f"{shown(file)}: cannot be read ({error.strerror})") from error
    return FileHash(
        num_bytes=before.st_size,
        modified=before.st_mtime_ns,
        changed=before.st_ctime_ns,
        inode=before.st_ino,
        read=began,
        sha256=digest.hexdigest(),
    )


def _status(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise CorpusError(f"{shown(file)}: cannot be read ({error.strerror})") from error


def _key(file: Path) -> str:
    return os.fsencode(file.absolute()).decode("utf-8", "backslashreplace")


def _load(memory: Path) -> dict[str, FileHash]:
    try:
        return {name: decode(FileHash, record) for name, record in read_json(memory).items()}
    except (SbpError, OSError, AttributeError):
        return {}


def _save(memory: Path, known: Mapping[str, FileHash]) -> None:
    with suppress(StoreError):
        write_json(memory, {name: encode(content) for name, content in known.items() if content.is_settled})
