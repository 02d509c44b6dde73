"""Drift of the marginal: how far synthetic text, taken as a whole, is from the real text that it was made of.

In the Bayesian model the average of P(d2 | d1) over d1 is P(d2) itself, so samples of the exact synthesizer
have no drift. Every measure has its zero: the same measure of two random halves of the real documents, which
differ by chance alone. Halves are smaller, so that chance is a little larger than between all documents.
"""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sbp_bayes.base.config import encode, require
from sbp_bayes.base.seeds import derive_seed, numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation.intervals import Estimate, Interval
from sbp_bayes.evaluation.text.quality import LENGTH_QUANTILES, cut_documents

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FEWEST_DOCUMENTS = 20
"""Documents of each kind below which nothing is measured."""

NUM_FOLDS = 5
MOST_CLUSTERS = 20
SOURCES_SHOWN = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variation:
    """Total variation ½ Σ |p − q| between the shares of real and of synthetic documents.

    Attributes:
        value: 0 where all shares are equal, 1 where no kind is in both.
        of_halves: the same between two random halves of the real documents.
    """

    value: float
    of_halves: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """What the drift is measured of.

    Attributes:
        max_document_tokens: real documents are cut to so many tokens, as the samples are.
        max_documents: documents of each kind that the classifier reads, chosen at random.
        seed: of choices, halves, folds and clusters.
    """

    max_document_tokens: int
    max_documents: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.max_document_tokens >= 1, "max_document_tokens", self.max_document_tokens, "at least 1")
        fewest = f"at least {FEWEST_DOCUMENTS}"
        require(self.max_documents >= FEWEST_DOCUMENTS, "max_documents", self.max_documents, fewest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """How synthetic text differs from real text.

    Attributes:
        auc: probability that a classifier finds a synthetic document more like synthetic text than a real
            one, 0.5 where they cannot be told apart, with its 95% interval: logistic regression on TF-IDF of
            tokens and pairs of tokens, cross-validated. A real document and a sample whose d1 it is are in
            one fold; each d1 has one sample at most.
        auc_of_halves: the same between two random halves of the real documents.
        sources: of the largest sources, shares of the "real" and "synthetic" documents and of their tokens,
            "real_tokens" and "synthetic_tokens". A synthetic document has the source and label of its d1.
        sources_variation, labels_variation: None without d1, or where no document has a label.
        clusters_variation: of clusters of the embedding; None where no vectors are given.
        real_quantiles, synthetic_quantiles: lengths in tokens at `LENGTH_QUANTILES`.
        real_cut, synthetic_cut: share cut at the length limit.
    """

    auc: Interval
    auc_of_halves: Interval
    sources: Mapping[str, Mapping[str, float]]
    sources_variation: Variation | None
    labels_variation: Variation | None
    clusters_variation: Variation | None
    real_quantiles: tuple[float, ...]
    synthetic_quantiles: tuple[float, ...]
    real_cut: float
    synthetic_cut: float


def drift(
    config: DriftConfig,
    real: Corpus,
    synthetic: Corpus,
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
) -> Drift | None:
    """Measure the drift of `synthetic`, which `synthesize` wrote, from `real`, the documents d1.

    Args:
        config: the settings.
        real: documents; they are cut here.
        synthetic: samples, whose metadata name their d1 where they have one.
        vectors: embeddings of real and of synthetic documents (or of samples of both), (R, D) and (S, D).

    Returns:
        None where there are fewer than `FEWEST_DOCUMENTS` of either kind to compare.
    """
    limit = config.max_document_tokens
    seeds = np.array([metadata.get("seed_index", -1) for metadata in synthetic.metadata], np.int64)
    has_d1 = len(seeds) > 0 and bool((seeds >= 0).all())
    groups = seeds if has_d1 else len(real) + np.arange(len(synthetic))
    order = numpy_generator(config.seed, "drift", "synthetic").permutation(len(synthetic))
    one_a_group = order[np.sort(np.unique(groups[order], return_index=True)[1])][: config.max_documents]
    chosen = numpy_generator(config.seed, "drift", "real").permutation(len(real))[: 2 * config.max_documents]
    if min(len(chosen), len(one_a_group)) < FEWEST_DOCUMENTS:
        return None
    halves = np.array_split(chosen, 2)
    against = chosen[: len(one_a_group)]
    fold_seed = derive_seed(config.seed, "drift", "folds") % 2**31
    lengths = np.minimum(real.lengths, limit)

    def of_real(indices: np.ndarray) -> Corpus:
        return cut_documents(real.select(indices), limit)

    return Drift(
        auc=two_sample_auc(
            (of_real(against), synthetic.select(one_a_group)), (against, groups[one_a_group]), fold_seed
        ),
        auc_of_halves=two_sample_auc(
            (of_real(halves[0]), of_real(halves[1])), (halves[0], halves[1]), fold_seed
        ),
        sources=_source_shares(real.sources, seeds, lengths, synthetic.lengths) if has_d1 else {},
        sources_variation=_of_seeds(real.sources, seeds, config.seed) if has_d1 else None,
        labels_variation=_of_seeds(real.labels, seeds, config.seed) if has_d1 else None,
        clusters_variation=None if vectors is None else _clusters_variation(*vectors, config.seed),
        real_quantiles=tuple(np.quantile(lengths, LENGTH_QUANTILES).tolist()),
        synthetic_quantiles=tuple(np.quantile(synthetic.lengths, LENGTH_QUANTILES).tolist()),
        real_cut=float(1 - (real.complete & (real.lengths <= limit)).mean()),
        synthetic_cut=float(1 - synthetic.complete.mean()),
    )


def drift_stage(config: DriftConfig, real: Corpus, samples: Manifest, directory: Place) -> Manifest:
    """Measure the drift of a synthesis as a stage; its counts are the fields of `Drift`, or none."""
    inputs = {"real": real.fingerprint, "synthesis": samples.fingerprint}
    plan = plan_stage("drift", config, inputs, __name__)

    def measure(folder: StageFolder) -> Outcome:
        found = drift(config, real, Corpus.load(samples.directory / "corpus"))
        return Outcome(counts={} if found is None else encode(found))

    return run_stage(plan, directory, measure)


def drift_line(counts: Mapping[str, Any] | None) -> str:
    """Say in a line what `drift` found, given as JSON types; nothing was found among too few documents."""
    if not counts:
        return f"drift of the marginal: not known of fewer than {FEWEST_DOCUMENTS} documents d1 and samples"
    middle = LENGTH_QUANTILES.index(0.5)
    parts = [
        f"a classifier tells samples from real documents with AUC {_auc(counts['auc'])}, "
        f"real ones from each other with {_auc(counts['auc_of_halves'])}",
        f"median length {counts['synthetic_quantiles'][middle]:,.0f} tokens, "
        f"of real documents {counts['real_quantiles'][middle]:,.0f}",
        f"cut {counts['synthetic_cut']:.0%}, of real documents {counts['real_cut']:.0%}",
    ]
    for name in ("sources", "clusters"):
        if (found := counts[f"{name}_variation"]) is not None:
            parts.append(f"{name} differ by {found['value']:.1%}, by chance {found['of_halves']:.1%}")
    return f"drift of the marginal: {'; '.join(parts)}"


def _auc(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def two_sample_auc(
    samples: tuple[Corpus, Corpus], groups: tuple[np.ndarray, np.ndarray], seed: int
) -> Interval:
    """Return the cross-validated AUC of a classifier between two samples of documents, with its interval.

    The standard error is DeLong's (Biometrics 44, 1988) within folds; it leaves out that the classifiers of
    two folds are trained on common documents.

    Args:
        samples: documents, `NUM_FOLDS` of each or more.
        groups: a number for each document; documents of one number are in one fold.
        seed: of the folds.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    features = TfidfTransformer(sublinear_tf=True).fit_transform(_ngrams(samples))
    is_second = np.repeat([0, 1], [len(one) for one in samples])
    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    placements: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for trained, tested in folds.split(features, is_second, np.concatenate(groups)):
        classifier = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear")
        scores = classifier.fit(features[trained], is_second[trained]).decision_function(features[tested])
        first, second = (scores[is_second[tested] == kind] for kind in (0, 1))
        if len(first) and len(second):
            above = (second[:, None] > first) + (second[:, None] == first) / 2
            placements[0].append(above.mean(axis=0))
            placements[1].append(above.mean(axis=1))
    of_first, of_second = (np.concatenate(parts) for parts in placements)
    variance = of_first.var(ddof=1) / len(of_first) + of_second.var(ddof=1) / len(of_second)
    return Estimate(
        value=float(of_second.mean()),
        standard_error=float(np.sqrt(variance)),
        degrees_of_freedom=min(len(of_first), len(of_second)) - 1,
        over="documents alone",
    ).interval()


def _ngrams(samples: Sequence[Corpus]) -> "csr_matrix":
    """Return counts of tokens and pairs of tokens that are in two documents or more, (documents, n-grams)."""
    from scipy.sparse import csr_matrix

    lengths = np.concatenate([one.lengths for one in samples])
    tokens = np.concatenate([np.asarray(one.tokens, np.int64) for one in samples])
    document = np.repeat(np.arange(len(lengths)), lengths)
    together = np.flatnonzero(document[1:] == document[:-1])
    pairs = (tokens[together] + 1) * (int(tokens.max(initial=0)) + 1) + tokens[together + 1]
    ngrams, columns = np.unique(np.concatenate([tokens, pairs]), return_inverse=True)
    rows = np.concatenate([document, document[together]])
    counts = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(lengths), len(ngrams)))
    return counts[:, np.bincount(counts.indices, minlength=len(ngrams)) > 1]


def _source_shares(
    names: Sequence[str], seeds: np.ndarray, real_lengths: np.ndarray, synthetic_lengths: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return the shares of the largest sources; see `Drift`."""
    distinct, source = np.unique(np.array(list(names), dtype=str), return_inverse=True)
    size = len(distinct)
    columns = {
        "real": np.bincount(source, minlength=size),
        "synthetic": np.bincount(source[seeds], minlength=size),
        "real_tokens": np.bincount(source, weights=real_lengths, minlength=size),
        "synthetic_tokens": np.bincount(source[seeds], weights=synthetic_lengths, minlength=size),
    }
    largest = np.argsort(-columns["real"], kind="stable")[:SOURCES_SHOWN]
    return {
        str(distinct[i]): {name: float(column[i] / column.sum()) for name, column in columns.items()}
        for i in largest
    }


def _of_seeds(names: Sequence[str | None], seeds: np.ndarray, seed: int) -> Variation | None:
    """Compare the names of real documents with those of the samples' d1; None where nothing has a name."""
    known = [name for name in names if name is not None]
    if not known:
        return None
    return _variation(known, [name for i in seeds.tolist() if (name := names[i]) is not None], seed)


def _variation(real: Sequence[Hashable], synthetic: Sequence[Hashable], seed: int) -> Variation:
    order = numpy_generator(seed, "drift", "halves").permutation(len(real))
    halves = [[real[i] for i in half] for half in np.array_split(order, 2)]
    return Variation(value=_total_variation(real, synthetic), of_halves=_total_variation(*halves))


def _total_variation(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    p, q = Counter(first), Counter(second)
    size_p, size_q = max(len(first), 1), max(len(second), 1)
    return sum(abs(p[kind] / size_p - q[kind] / size_q) for kind in p | q) / 2


def _clusters_variation(real: np.ndarray, synthetic: np.ndarray, seed: int) -> Variation | None:
    """Compare shares of the real vectors' clusters; documents without a vector are left out."""
    from sklearn.cluster import KMeans

    real, synthetic = (vectors[np.any(vectors != 0, axis=1)] for vectors in (real, synthetic))
    if min(len(real), len(synthetic)) < FEWEST_DOCUMENTS:
        return None
    number = min(MOST_CLUSTERS, len(real) // 10)
    means = KMeans(number, n_init=1, random_state=derive_seed(seed, "drift", "clusters") % 2**31).fit(real)
    return _variation(means.labels_.tolist(), means.predict(synthetic).tolist(), seed)
