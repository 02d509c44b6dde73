"""Samples on disk before any screening: consecutive samples in one atomic file."""

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import atomic_path
from sbp_bayes.lm import Generated


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shard(ArrayRecord):
    """Samples first, first + 1, … of a synthesis.

    Attributes:
        first: number of the first sample.
        tokens: the samples' tokens end to end, without EOS, uint32.
        offsets: int64 (samples + 1,); sample first + i is tokens[offsets[i]:offsets[i + 1]].
        finished: bool (samples,); False where the sample was cut at the length limit.
    """

    first: int
    tokens: np.ndarray
    offsets: np.ndarray
    finished: np.ndarray

    def __len__(self) -> int:
        return len(self.finished)

    def sample(self, index: int) -> np.ndarray:
        """Return the tokens of sample `first + index`, uint32 (n,)."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def of(cls, first: int, samples: Sequence[Generated]) -> "Shard":
        """Gather consecutive samples, the first of which has the number `first`."""
        return cls(
            first=first,
            tokens=np.concatenate([np.zeros(0, np.uint32), *(s.tokens.astype(np.uint32) for s in samples)]),
            offsets=np.cumsum([0, *(len(s.tokens) for s in samples)]),
            finished=np.array([s.finished for s in samples], bool),
        )

    def save(self, path: Path) -> None:
        """Write the shard to `path`; the file is there whole or not at all, so it is its own marker."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Shard":
        """Read the shard that `save` wrote (its ZIP checksums are verified).

        Raises:
            StoreError: the file is damaged; removing it lets the synthesis write it anew.
        """
        try:
            with open(path, "rb") as file, np.load(file) as arrays:
                values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path}: damaged ({error}): remove it to generate it again") from error
        return cls(**values | {"first": int(values["first"])})
