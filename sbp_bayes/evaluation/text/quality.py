"""Quality of synthetic text without a judge: repetition, duplicates, lengths, copying, and relatedness.

Every measure is taken of real documents by the same functions, since none has a meaning of its own:
real text repeats and quotes too.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import encode, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import Pairs
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.corpus import Corpus, deduplicate
from sbp_bayes.corpus.repetition import RepetitionRule
from sbp_bayes.evaluation.text.matching import MatchIndex

LENGTH_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentQuality:
    """Measures of documents by themselves.

    Attributes:
        num_documents: documents measured.
        repetition: share that `RepetitionRule` flags, the rule by which samples are screened; of a
            screened corpus it is 0, and the rate before is in the synthesis's manifest.
        exact_duplicates, near_duplicates: share whose text equals, or has a Jaccard similarity of word
            5-grams of 0.8 or more with, an earlier document's (duplicate@num_documents: it grows with
            their number, so compare equal numbers).
        mean_tokens: mean length in tokens, EOS not counted.
        token_quantiles: lengths at `LENGTH_QUANTILES`.
        cut: share cut at a length limit.
    """

    num_documents: int
    repetition: float
    exact_duplicates: float
    near_duplicates: float
    mean_tokens: float
    token_quantiles: tuple[float, ...]
    cut: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairQuality:
    """How much d2 copies, from its d1 and from any document of D_unique; n-grams are of tokens.

    Attributes:
        num_pairs: pairs measured.
        coverage: mean over pairs of the share of d2's tokens within fragments shared with d1
            (Grusky et al. 2018, equation 2; fragments by their greedy procedure, figure 3).
        density: mean over pairs of Σ |fragment|² / |d2| (their equation 3), in tokens.
        copied_from_first: share of d2 with `copy_length` or more tokens in a row from d1.
        copied_from_any: the same from any document.
        contained_in_first: share of d2's n-grams of `copy_length` tokens, pooled, that are in d1.
        contained_in_any: the same for any document.
        mostly_from_first: share of d2 that copies d1 for the most part: of whose n-grams of `copy_length`
            tokens half or more are in d1, or which is a passage of d1 from its first token to its last.
        longest_from_first: longest match of d2 with d1 at the quantiles 0.5, 0.95 and 1, in tokens.
        novel_ngrams: share of d2's n-grams, pooled, that are in no document, for n = 1, 2, ….
    """

    num_pairs: int
    coverage: float
    density: float
    copied_from_first: float
    copied_from_any: float
    contained_in_first: float
    contained_in_any: float
    mostly_from_first: float
    longest_from_first: tuple[float, ...]
    novel_ngrams: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PairSimilarity(ArrayRecord):
    """Cosine similarity of d2 to its d1 and to the d1 of another pair.

    Attributes:
        pairs: of (d1, d2), float64 (P,).
        random: of (d1 of another pair, d2), float64 (P,).
    """

    pairs: np.ndarray
    random: np.ndarray

    @property
    def nearer_share(self) -> float:
        """Share of d2 that are nearer to their d1 than to the other one; 0.5 where unrelated."""
        return float((self.pairs > self.random).mean() + (self.pairs == self.random).mean() / 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """What the quality report measures.

    Attributes:
        max_document_tokens: real documents are cut to so many tokens, as the samples are.
        max_documents: documents, and pairs, measured; chosen at random where there are more.
        repetition: the rule by which the samples were screened.
        copy_length: tokens in a row that count as copied.
        seed: of the choice.
    """

    max_document_tokens: int
    max_documents: int = 10_000
    repetition: RepetitionRule = dataclasses.field(default_factory=RepetitionRule)
    copy_length: int = 13
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("max_document_tokens", "max_documents", "copy_length"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Synthetic text and, for comparison, real text; documents are as many of each kind.

    The measures of pairs are None where samples have no d1, and where no real pairs are given.
    """

    synthetic_documents: DocumentQuality
    real_documents: DocumentQuality
    synthetic_pairs: PairQuality | None
    real_pairs: PairQuality | None


def quality_report(
    config: QualityConfig, synthetic: Corpus, unique: Corpus, pairs: Pairs | None = None
) -> QualityReport:
    """Measure `synthetic` against `unique` (D_unique) and its real pairs.

    A real d2 is no source of itself: it is compared with all other documents.

    Raises:
        CorpusError: an empty corpus, no pairs, or pairs or documents d1 of another corpus.
    """
    if pairs is not None and pairs.corpus_fingerprint != unique.fingerprint:
        raise CorpusError("the pairs were made from another corpus than the unique documents given")
    if min(len(synthetic), len(unique), 1 if pairs is None else len(pairs.first)) == 0:
        raise CorpusError("quality needs a synthetic document, a real one and a real pair at least")
    alike = min(len(synthetic), len(unique), config.max_documents)
    return QualityReport(
        synthetic_documents=document_quality(
            synthetic.select(_choice(config, "synthetic", len(synthetic))[:alike]), config.repetition
        ),
        real_documents=document_quality(
            cut_documents(
                unique.select(_choice(config, "real", len(unique))[:alike]), config.max_document_tokens
            ),
            config.repetition,
        ),
        synthetic_pairs=_synthetic_pairs(config, synthetic, unique),
        real_pairs=None if pairs is None else _real_pairs(config, unique, pairs),
    )


def quality_stage(
    config: QualityConfig, samples: Manifest, unique: Corpus, pairs: Pairs, directory: Place
) -> Manifest:
    """Run `quality_report` on a synthesis as a stage; the manifest's counts are the report.

    Raises:
        CorpusError: see `quality_report`.
        StoreError: the folder holds another plan, or cannot be written.
    """
    inputs = {"synthesis": samples.fingerprint, "unique": unique.fingerprint, "pairs": pairs.fingerprint}
    plan = plan_stage("quality", config, inputs, __name__)

    def measure(folder: StageFolder) -> Outcome:
        synthetic = Corpus.load(samples.directory / "corpus")
        return Outcome(counts=encode(quality_report(config, synthetic, unique, pairs)))

    return run_stage(plan, directory, measure)


def _synthetic_pairs(config: QualityConfig, synthetic: Corpus, unique: Corpus) -> PairQuality | None:
    seeds = seed_indices(synthetic, unique)
    if seeds is None:
        return None
    chosen = _choice(config, "synthetic pairs", len(synthetic))
    return pair_quality(synthetic.select(chosen), seeds[chosen], unique, copy_length=config.copy_length)


def _real_pairs(config: QualityConfig, unique: Corpus, pairs: Pairs) -> PairQuality:
    chosen = _choice(config, "real pairs", len(pairs.first))
    second = pairs.second[chosen]
    return pair_quality(
        cut_documents(unique.select(second), config.max_document_tokens),
        pairs.first[chosen],
        unique,
        own=second,
        copy_length=config.copy_length,
    )


def seed_indices(synthetic: Corpus, unique: Corpus) -> Int[np.ndarray, " S"] | None:
    """Return the index in `unique` of each sample's d1, by which its metadata call it; None without any d1.

    A sample's metadata name d1 as "seed_document", its id, and may give its place as "seed_index".

    Raises:
        CorpusError: some samples have a d1 and others have none, or one that is not in `unique`.
    """
    named = [(m.get("seed_document"), m.get("seed_index")) for m in synthetic.metadata]
    if all(name is None for name, _ in named):
        return None
    by_id: dict[str | None, int] = {}
    if None in {place for _, place in named}:
        by_id |= {name: i for i, name in enumerate(unique.ids)}
    indices = np.array([by_id.get(name, -1) if place is None else place for name, place in named], np.int64)
    for (name, _), index in zip(named, indices.tolist(), strict=True):
        if name is None:
            raise CorpusError("some synthetic documents name no seed_document, and others do")
        if not 0 <= index < len(unique) or unique.ids[index] != name:
            raise CorpusError(
                "the synthetic documents were sampled from other documents than the unique ones given: "
                f"{name!r} is not where they say (another corpus, or another number of unique tokens)"
            )
    return indices


def document_quality(corpus: Corpus, rule: RepetitionRule) -> DocumentQuality:
    """Measure repetition, duplicates and lengths of the documents of `corpus` (one or more)."""
    lengths = corpus.lengths
    _, duplicates = deduplicate(corpus.texts)
    return DocumentQuality(
        num_documents=len(corpus),
        repetition=float(rule.flags(corpus.tokens, corpus.offsets).mean()),
        exact_duplicates=duplicates.exact_rate,
        near_duplicates=duplicates.near_rate,
        mean_tokens=float(lengths.mean()),
        token_quantiles=tuple(np.quantile(lengths, LENGTH_QUANTILES).tolist()),
        cut=float(1 - corpus.complete.mean()),
    )


def pair_quality(
    second: Corpus,
    first: Int[np.ndarray, " P"],
    references: Corpus,
    *,
    own: Int[np.ndarray, " P"] | None = None,
    copy_length: int = 13,
    max_ngram: int = 13,
) -> PairQuality:
    """Measure how much the documents `second` copy; exact, about 3 µs a token.

    Args:
        second: the documents d2 of P pairs, synthetic or real.
        first: index of each d1 in `references`, int64 (P,).
        references: D_unique, all documents that the synthesizer could have seen.
        own: index of each d2 itself in `references`, int64 (P,), where d2 is real: it is no source.
        copy_length: tokens in a row that count as copied.
        max_ngram: longest n-gram whose novelty is reported.
    """
    require(len(second) > 0, "pairs", len(second), "one pair or more")
    index = MatchIndex(references, second)
    in_first, in_any = index.in_own(first), index.in_any(except_own=own)
    coverage, density = _extractive_fragments(in_first, second.offsets)
    longest = _document_maximum(in_first, second.offsets)
    return PairQuality(
        num_pairs=len(second),
        coverage=float(coverage.mean()),
        density=float(density.mean()),
        copied_from_first=float((longest >= copy_length).mean()),
        copied_from_any=float((_document_maximum(in_any, second.offsets) >= copy_length).mean()),
        contained_in_first=1 - _novel_share(in_first, second.offsets, copy_length),
        contained_in_any=1 - _novel_share(in_any, second.offsets, copy_length),
        mostly_from_first=float(_mostly_copied(in_first, second.offsets, copy_length).mean()),
        longest_from_first=tuple(np.quantile(longest, (0.5, 0.95, 1.0)).tolist()),
        novel_ngrams=tuple(_novel_share(in_any, second.offsets, n) for n in range(1, max_ngram + 1)),
    )


def pair_similarity(
    first: Float[np.ndarray, "P D"], second: Float[np.ndarray, "P D"], seed: int
) -> PairSimilarity:
    """Compare the similarity of pairs with that of random pairs.

    Args:
        first, second: vectors of d1 and d2 of P pairs, two or more, (P, D).
        seed: of the random pairs: each d2 meets the d1 of one other pair.
    """
    require(len(first) > 1, "pairs", len(first), "two pairs or more")
    first_PD, second_PD = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (first, second)
    )
    cycle = numpy_generator(seed, "random pairs").permutation(len(first))
    other = np.empty_like(cycle)
    other[cycle] = np.roll(cycle, 1)
    return PairSimilarity(
        pairs=np.einsum("pd,pd->p", first_PD, second_PD),
        random=np.einsum("pd,pd->p", first_PD[other], second_PD),
    )


def cut_documents(corpus: Corpus, max_tokens: int) -> Corpus:
    """Return the documents' first `max_tokens` tokens; their texts stay whole."""
    lengths = corpus.lengths
    place = np.arange(len(corpus.tokens)) - np.repeat(corpus.offsets[:-1], lengths)
    return dataclasses.replace(
        corpus,
        tokens=corpus.tokens[place < max_tokens],
        offsets=np.concatenate([[0], np.cumsum(np.minimum(lengths, max_tokens))]),
        complete=corpus.complete & (lengths <= max_tokens),
    )


def _choice(config: QualityConfig, name: str, number: int) -> np.ndarray:
    """Return at most `max_documents` of `number` indices, in random order."""
    return numpy_generator(config.seed, name).permutation(number)[: config.max_documents]


def _extractive_fragments(matches: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and density, each float64 (P,): walk d2 from its start, by whole fragments."""
    lengths = matches.tolist()
    covered, squares = np.zeros(len(offsets) - 1), np.zeros(len(offsets) - 1)
    for document, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        position = start
        while position < end:
            length = lengths[position]
            covered[document] += length
            squares[document] += length * length
            position += length or 1
    tokens = np.maximum(np.diff(offsets), 1)
    return covered / tokens, squares / tokens


def _mostly_copied(matches: np.ndarray, offsets: np.ndarray, ngram: int) -> np.ndarray:
    """Return which documents are passages of the other one, or have half or more of their n-grams in it."""
    lengths = np.diff(offsets)
    document = np.repeat(np.arange(len(lengths)), lengths)
    copied = np.bincount(document, matches >= ngram, minlength=len(lengths))
    num_ngrams = np.maximum(lengths - ngram + 1, 0)
    whole = (lengths > 0) & (_document_maximum(matches, offsets) == lengths)
    return whole | ((num_ngrams > 0) & (2 * copied >= num_ngrams))


def _document_maximum(matches: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    longest = np.zeros(len(offsets) - 1, np.int64)
    np.maximum.at(longest, np.repeat(np.arange(len(longest)), np.diff(offsets)), matches)
    return longest


def _novel_share(matches: np.ndarray, offsets: np.ndarray, ngram: int) -> float:
    """Share of all documents' n-grams that match nowhere; 1 where there are none, as nothing is copied."""
    document_end = np.repeat(offsets[1:], np.diff(offsets))
    whole = np.arange(len(matches)) + ngram <= document_end
    return float((matches[whole] < ngram).mean()) if whole.any() else 1.0
