"""What a model's loss is on each document of a corpus: the record from which intervals are taken."""

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import ConfigError, StoreError
from sbp_bayes.base.records import LossTotals
from sbp_bayes.base.store import atomic_path
from sbp_bayes.base.units import bits_per_byte


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DocumentScores(ArrayRecord):
    """One model's loss on each of N documents.

    Attributes:
        loss_nats: −log P(d) of each document, its EOS included, float64 (N,).
        num_tokens: tokens scored in each document, EOS included, int64 (N,).
        num_bytes: UTF-8 bytes of each document's text, int64 (N,).
        corpus_fingerprint: of the corpus scored; scores of one corpus can be paired.
    """

    loss_nats: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray
    corpus_fingerprint: str

    @property
    def totals(self) -> LossTotals:
        """Loss summed over the documents."""
        return LossTotals(loss_nats=float(self.loss_nats.sum()), num_tokens=int(self.num_tokens.sum()))

    @property
    def nats_per_token(self) -> float:
        """Mean loss per token, EOS included."""
        return self.totals.nats_per_token

    @property
    def bits_per_byte(self) -> float:
        """Mean loss per UTF-8 byte of text, in bits; the loss on EOS counts, its zero bytes do not."""
        return bits_per_byte(self.totals.loss_nats, float(self.num_bytes.sum()))

    def save(self, path: Path) -> None:
        """Write the scores to the file `path` (.npz), atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "DocumentScores":
        """Read the scores that `save` wrote.

        Raises:
            StoreError: the file is missing or damaged; the message names it.
        """
        try:
            with open(path, "rb") as file, np.load(file) as arrays:
                values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        except FileNotFoundError as error:
            raise StoreError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path}: damaged, not document scores ({error})") from error
        return cls(**values | {"corpus_fingerprint": str(values["corpus_fingerprint"])})


ScoresBySeed = Mapping[int, DocumentScores]
"""Scores of one arm on one split, by the seed of its run."""


def pair_arms(*arms: ScoresBySeed) -> tuple[Float64[np.ndarray, "A S D"], Int64[np.ndarray, " D"]]:
    """Lay the losses of arms side by side, as intervals take them.

    Returns:
        Nats by arm, seed and document, float64 (A, S, D), and each document's tokens, (D,).

    Raises:
        ConfigError: an arm has no scores, or the arms have other seeds or scored other documents.
    """
    seeds = sorted(arms[0])
    if not seeds:
        raise ConfigError("an arm has no scores")
    documents = arms[0][seeds[0]].corpus_fingerprint
    for arm in arms:
        if sorted(arm) != seeds:
            raise ConfigError(f"arms of seeds {seeds} and {sorted(arm)} cannot be paired")
        if any(scores.corpus_fingerprint != documents for scores in arm.values()):
            raise ConfigError("arms that scored different documents cannot be paired")
    loss_ASD = np.array([[arm[seed].loss_nats for seed in seeds] for arm in arms])
    return loss_ASD, arms[0][seeds[0]].num_tokens
