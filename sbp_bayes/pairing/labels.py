"""Do labels say that paired documents belong together? Labels score a pairing and take no part in it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing.records import PairSet


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelPrecision(ArrayRecord):
    """How often the two documents of a pair have one label.

    Attributes:
        name: of the label.
        values: distinct labels among the documents.
        pairs: those whose documents both have a label; only these count.
        precision: share of them whose labels are equal.
        random: the same for pairs of different labelled documents drawn at random, exactly.
        band_pairs: int64 (B,), of those pairs, by similarity.
        band_precision: float64 (B,), share in each band; NaN where a band is empty.
    """

    name: str
    values: int
    pairs: int
    precision: float
    random: float
    band_pairs: np.ndarray
    band_precision: np.ndarray


def label_agreement(pairs: PairSet, corpus: Corpus) -> tuple[float, float] | None:
    """Return the share of pairs whose two labels are equal, and the same for random pairs (exactly).

    Only labelled documents count; None where no pair has two labels.
    """
    found = label_precision("label", corpus.labels, pairs, np.array([-1.0, 1.0]))
    return None if found is None else (found.precision, found.random)


def label_precision(
    name: str, labels: Sequence[str | None], pairs: PairSet, band_edges: np.ndarray
) -> LabelPrecision | None:
    """Score `pairs` by one label a document; None where no pair has two labels.

    Args:
        name: of the label.
        labels: one a document, None where it has none.
        pairs: indices of these documents.
        band_edges: float64 (B + 1,), ascending. A band holds its lower edge, not its upper one; similarities
            beyond all edges belong to the first or last band.
    """
    labelled = np.array([label is not None for label in labels], bool)
    counted = np.flatnonzero(labelled[pairs.first] & labelled[pairs.second])
    if not len(counted):
        return None
    codes = np.unique([label or "" for label in labels], return_inverse=True)[1]
    agree = codes[pairs.first[counted]] == codes[pairs.second[counted]]
    band = np.clip(np.searchsorted(band_edges, pairs.similarity[counted], side="right") - 1, 0, None)
    band = np.minimum(band, len(band_edges) - 2)
    sizes = np.bincount(band, minlength=len(band_edges) - 1)
    agreeing = np.bincount(band, weights=agree, minlength=len(sizes))
    of_value = np.bincount(codes[labelled]).astype(np.float64)
    number = of_value.sum()
    return LabelPrecision(
        name=name,
        values=int((of_value > 0).sum()),
        pairs=len(counted),
        precision=float(agree.mean()),
        random=float((of_value * (of_value - 1)).sum() / (number * (number - 1))),
        band_pairs=sizes,
        band_precision=np.where(sizes > 0, agreeing / np.maximum(1, sizes), np.nan),
    )


def labels_of(corpus: Corpus) -> dict[str, list[str | None]]:
    """Return every label that a corpus has, by name, one entry a document.

    These are the source, the label, and each field of the metadata that holds text whose values are shared,
    by two documents each on average. A label with fewer than two values says nothing and is left out.
    """
    found: dict[str, list[str | None]] = {"source": list(corpus.sources), "label": list(corpus.labels)}
    for index, metadata in enumerate(corpus.metadata):
        for name, value in metadata.items():
            if isinstance(value, str) and name not in ("source", "label"):
                found.setdefault(name, [None] * len(corpus))[index] = value
    return {name: labels for name, labels in found.items() if _is_shared(labels)}


def _is_shared(labels: Sequence[str | None]) -> bool:
    known = [label for label in labels if label is not None]
    return 2 <= len(set(known)) <= len(known) / 2
