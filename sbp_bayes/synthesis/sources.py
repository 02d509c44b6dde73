"""Where a synthesis takes its prompts from: documents d1 of a corpus, or no document at all.

The prompt of sample j is a function of (seed, j), whatever the source.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import fingerprint
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import EOS
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import LMConfig
from sbp_bayes.synthesis.seeds import is_left_out, seed_document, stream_seed
from sbp_bayes.synthesizer.prompt import prompt_tokens

NO_DOCUMENT = np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """What one sample starts from.

    Attributes:
        tokens: read before the document, int64 (n,).
        stream_seed: of the sample's random numbers.
        seed_document: d1, whole, int64; empty where there is none.
        metadata: of the document that is sampled: which d1 it was sampled from.
    """

    tokens: np.ndarray
    stream_seed: int
    seed_document: np.ndarray
    metadata: Mapping[str, Any]


class Source(Protocol):
    """A source of prompts."""

    @property
    def inputs(self) -> Mapping[str, str]:
        """What the prompts are made of, as fingerprints by name."""
        ...

    def require_known(self, model: LMConfig) -> None:
        """Raise unless `model` can read every prompt."""
        ...

    def prompts(self, seed: int, samples: Sequence[int], max_document_tokens: int) -> list[Prompt]:
        """Return the prompts of the samples of these numbers; d1 is cut to `max_document_tokens`."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class SeedDocuments(ArrayRecord):
    """EOS d1 SEP, with d1 uniform over a corpus: d2 ~ p_θ(· | d1), the synthesis of the paper.

    Attributes:
        corpus: the documents.
        alone: the share of a document's turns in which d1 is left out of the prompt, as in tuning; see
            `synthesizer.marginal`. None: in no turn.

    Raises:
        CorpusError: the corpus holds no documents.
    """

    corpus: Corpus
    alone: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.corpus) == 0:
            raise CorpusError("the corpus has no documents to draw seed documents from")

    @property
    def inputs(self) -> Mapping[str, str]:
        """The corpus."""
        inputs = {"corpus": self.corpus.fingerprint}
        return inputs if self.alone is None else inputs | {"alone": fingerprint(self.alone.tolist())}

    def require_known(self, model: LMConfig) -> None:
        """Raise a ConfigError where the corpus has tokens that `model` does not know."""
        model.require_known(self.corpus.tokens, "the corpus")

    def prompts(self, seed: int, samples: Sequence[int], max_document_tokens: int) -> list[Prompt]:
        """Return the prompts of the samples of these numbers."""
        return [self._prompt(seed, sample, max_document_tokens) for sample in samples]

    def _prompt(self, seed: int, sample: int, max_document_tokens: int) -> Prompt:
        index = seed_document(seed, sample, len(self.corpus))
        name, document = self.corpus.ids[index], self.corpus.document(index)
        metadata = {"seed_document": name, "seed_index": index}
        if self.alone is not None and is_left_out(seed, sample, self.alone[index]):
            document, metadata = NO_DOCUMENT, metadata | {"seed_is_left_out": True}
        return Prompt(
            tokens=prompt_tokens(document, max_document_tokens),
            stream_seed=stream_seed(seed, name, sample),
            seed_document=document,
            metadata=metadata,
        )


@dataclasses.dataclass(frozen=True)
class NoDocuments:
    """EOS alone, as every document begins: d ~ p_θ(d), self-distillation."""

    @property
    def inputs(self) -> Mapping[str, str]:
        """Nothing."""
        return {"corpus": "none"}

    def require_known(self, model: LMConfig) -> None:
        """Accept any model: each of them reads EOS."""

    def prompts(self, seed: int, samples: Sequence[int], max_document_tokens: int) -> list[Prompt]:
        """Return as many prompts, which differ in their random numbers alone."""
        return [Prompt(np.array([EOS]), stream_seed(seed, "", sample), NO_DOCUMENT, {}) for sample in samples]
