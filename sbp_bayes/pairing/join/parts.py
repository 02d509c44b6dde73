"""What shards have answered to a join's blocks of queries, on disk too where a join must survive a kill."""

import contextlib
import hashlib
import io
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.pairing.join.shard import merge

JOIN = "join.json"
_DIGEST_BYTES = 32


class Parts:
    """Answers by block and shard, and, as soon as all shards have answered a block, its merged result.

    A part is a file until its block is merged, a merged block is a file until the join is over. Each has its
    digest before it: one that was cut short or altered is asked for again.

    Args:
        num_shards: of the join.
        k: neighbours wanted.
        folder: where the files are; None keeps them in memory alone.
        identity: of the join. Files of another join in the folder are removed.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, num_shards: int, k: int, folder: Path | None, identity: str) -> None:
        self._num_shards, self._k, self._folder = num_shards, k, folder
        self._answered: dict[int, dict[int, np.ndarray]] = {}
        self._merged: dict[int, np.ndarray] = {}
        if folder is not None:
            _empty_unless_of(folder, identity)
            for path, numbers, packed in _whole_files(folder):
                if len(numbers) == 1:
                    self._merged[numbers[0]] = packed
                elif numbers[0] in self._merged:  # a kill came before its parts were removed
                    path.unlink()
                else:
                    self._answered.setdefault(numbers[0], {})[numbers[1]] = packed

    def missing(self, block: int) -> list[int]:
        """Return the shards that haven't answered this block."""
        if block in self._merged:
            return []
        return [shard for shard in range(self._num_shards) if shard not in self._answered.get(block, {})]

    def add(self, block: int, shard: int, packed: np.ndarray) -> None:
        """Take a shard's answer, int64 (Q, at most k); merge the block if it's the last one."""
        answered = self._answered.setdefault(block, {})
        answered[shard] = packed
        if len(answered) < self._num_shards:
            self._write(packed, block, shard)
            return
        self._merged[block] = merge(list(answered.values()), self._k)
        self._write(self._merged[block], block)
        for answering in self._answered.pop(block):
            if self._folder is not None:
                _path(self._folder, block, answering).unlink(missing_ok=True)

    def result(self, num_blocks: int) -> np.ndarray:
        """Return the merged answers to all queries, int64 (all queries, k)."""
        return np.concatenate([self._merged[block] for block in range(num_blocks)])

    def _write(self, packed: np.ndarray, *numbers: int) -> None:
        if self._folder is not None:
            buffer = io.BytesIO()
            np.save(buffer, packed)
            content = buffer.getvalue()
            with atomic_path(_path(self._folder, *numbers)) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)


def _path(folder: Path, *numbers: int) -> Path:
    return folder / ("-".join(f"{number:06d}" for number in numbers) + ".part")


def _empty_unless_of(folder: Path, identity: str) -> None:
    """Make the folder this join's: what another one, or a damaged record, left there is removed."""
    with contextlib.suppress(StoreError):
        if read_json(folder / JOIN) == {"join": identity}:
            return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / JOIN, {"join": identity})


def _whole_files(folder: Path) -> Iterator[tuple[Path, list[int], np.ndarray]]:
    """Yield path, numbers and content of each whole file, merged blocks first; remove the others."""
    paths = sorted(folder.glob("*.part"), key=lambda path: (path.stem.count("-"), path.name))
    for path in paths:
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() == content[:_DIGEST_BYTES]:
            packed = np.load(io.BytesIO(content[_DIGEST_BYTES:]))
            yield path, [int(number) for number in path.stem.split("-")], packed
        else:
            logging.getLogger(__name__).warning("%s is damaged: it's asked for again", path)
            path.unlink()
