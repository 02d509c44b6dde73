"""Pool, validation and test: a function of a document's content, so that no order can change it."""

from collections.abc import Mapping
from pathlib import Path

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.seeds import derive_seed
from sbp_bayes.corpus.records import Corpus

POOL, VALIDATION, TEST = SPLITS = ("pool", "validation", "test")


def split_of(text: str, fractions: Mapping[str, float], seed: int) -> str:
    """Return the split of a document: a key of `fractions`, or "pool" for the rest.

    Args:
        text: the document's text (or id), which alone decides, with the seed.
        fractions: share of documents in each split but the pool, for instance {"validation": 0.03}.
        seed: another seed, another split.

    Raises:
        ConfigError: shares below 0, or a sum that leaves nothing for the pool.
    """
    valid = min(fractions.values(), default=0) >= 0 and sum(fractions.values()) < 1
    require(valid, "split shares", dict(fractions), "each at least 0, their sum below 1")
    place = derive_seed(seed, "split", text) / 2**63
    for name, share in fractions.items():
        if place < share:
            return name
        place -= share
    return POOL


def load_split(directory: Path, name: str, *, verify: bool = False) -> Corpus:
    """Load a split of the prepared corpus in `directory`; `verify` is that of `Corpus.load`.

    Raises:
        CorpusError: the split holds no documents, as where its share is 0.
        StoreError: a file is missing or damaged.
    """
    corpus = Corpus.load(Path(directory) / name, verify=verify)
    if len(corpus) == 0:
        raise CorpusError(f"{directory}: the {name} split holds no documents")
    return corpus
