"""Pairs of related documents: neighbours more similar than α that aren't near-duplicates.

Paper: arXiv 2509.15248, step 1 of SBP; its α and k, and the near-duplicate rule's form, are unverified.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import NoPairsError, PairingError
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import Transformer
from sbp_bayes.pairing.embed.cache import CachedEmbedder
from sbp_bayes.pairing.embed.embedder import Embedder
from sbp_bayes.pairing.embed.table import EmbedderConfig, embedder_device, embedder_inputs, fit_embedder
from sbp_bayes.pairing.join.engines import Engine, LocalEngine
from sbp_bayes.pairing.join.join import Join
from sbp_bayes.pairing.join.salted import best_by_document
from sbp_bayes.pairing.labels import label_agreement
from sbp_bayes.pairing.neighbours import Backend, find_neighbours, resolved, unit_rows
from sbp_bayes.pairing.records import PairSet
from sbp_bayes.pairing.rules.pair_rules import PairRules, neighbour_ranks, ordered_pairs
from sbp_bayes.pairing.search.cost import search_flops

TRAIN, VALIDATION = "train", "validation"
EMBEDDINGS, JOIN = "embeddings", "join"
SAMPLED_SIMILARITIES = 10_000

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairConfig:
    """How documents are paired.

    Attributes:
        embedder: what turns a document into a vector.
        rules: which neighbours are pairs.
        k: neighbours searched for each document, at most (paper value unverified: 200).
        max_pairs_per_document: most d2 for one d1; the most similar stay.
        backend: how neighbours are found.
        num_shards: parts that the vectors are cut into, of the training documents and of the validation
            documents; exact results don't depend on it.
        seed: of the embedder and of the similarities sampled for the record.
    """

    embedder: EmbedderConfig = dataclasses.field(default_factory=EmbedderConfig)
    rules: PairRules = dataclasses.field(default_factory=PairRules)
    k: int = 8
    max_pairs_per_document: int = 8
    backend: Backend = "auto"
    num_shards: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of("backend", self.backend, get_args(Backend))
        for key in ("k", "max_pairs_per_document", "num_shards"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")


def pair_documents(
    corpus: Corpus,
    *,
    embedder: Embedder,
    alpha: float,
    k: int,
    max_pairs_per_document: int | None = None,
    backend: Backend = "auto",
    seed: int = 0,
    join: Join | None = None,
    **near_duplicates: float | None,
) -> PairSet:
    """Pair the documents of `corpus` among themselves.

    Documents are a pair, in both orders, if one of them is among the other's k nearest neighbours, their
    similarity is above `alpha`, and their texts are neither equal nor near-duplicates. A document
    without a vector is in no pair, nor is one whose vector isn't finite (logged).

    Args:
        corpus: the documents; another corpus than the embedder was fitted on is fine.
        embedder: fitted.
        alpha: similarity that a pair exceeds.
        k: neighbours searched for each document; all others where there are no more than k.
        max_pairs_per_document: most d2 for one d1, the most similar first; None: no limit.
        backend: see `nearest_neighbours`.
        seed: of the sampled similarities that are kept for the record; the pairs don't depend on it.
        join: how neighbours are joined and pairs grouped; by default by one shard in this process.
        near_duplicates: the other fields of `PairRules`.

    Raises:
        ConfigError: a rule, or a limit, that is out of its range.
        NoPairsError: no pair is left (the message has the highest similarity), or fewer than two documents
            have a vector.
        PairingError: an index that fails its audit, or more shards than documents.
    """
    rules, limit = PairRules(alpha=alpha, **near_duplicates), max_pairs_per_document
    require(limit is None or limit >= 1, "max_pairs_per_document", limit, "at least 1")
    if len(corpus) == 0:
        raise NoPairsError("there are no documents")
    vectors = embedder.embed(corpus)
    is_finite = np.isfinite(vectors).all(axis=1)
    is_zero = ~np.any(vectors != 0, axis=1)
    _warn_of_left_out(corpus, {"not finite": ~is_finite, "zero": is_zero})
    known = np.flatnonzero(is_finite & ~is_zero)
    if len(known) < 2:
        raise NoPairsError(f"{len(known)} of {len(corpus)} documents have a vector: none can be paired")
    unit = unit_rows(vectors[known])
    join = Join() if join is None else join
    (ids, similarities), search = find_neighbours(unit, min(k, len(known) - 1), backend, join=join)
    flops = search_flops(search, len(unit), unit.shape[1], ids.shape[1])
    edges, rule_counts = ordered_pairs(ids, similarities, corpus.texts, known, rules)
    with join.engine.start() as session:
        kept, balance = best_by_document(edges, limit, session=session, num_reducers=join.num_shards)
    counts = {
        "documents": len(corpus),
        "documents_without_vector": len(corpus) - len(known),
        "documents_with_bad_vector": int((~is_finite).sum()),
        **rule_counts,
        "over_limit": len(edges) - len(kept),
        "pairs": len(kept),
        "documents_with_pair": len(np.unique(kept.first)),
    }
    return PairSet(
        first=known[kept.first],
        second=known[kept.second],
        similarity=kept.similarity,
        rank_of_second=neighbour_ranks(ids, kept.first, kept.second),
        rank_of_first=neighbour_ranks(ids, kept.second, kept.first),
        corpus_fingerprint=corpus.fingerprint,
        counts=counts,
        search={**dataclasses.asdict(search), **dataclasses.asdict(balance), "flops": flops},
        neighbour_similarities=_sampled(similarities.ravel(), seed),
        random_similarities=_random_similarities(unit, seed),
    )


def _warn_of_left_out(corpus: Corpus, rows_by_kind: Mapping[str, np.ndarray]) -> None:
    for kind, rows in rows_by_kind.items():
        if rows.any():
            named = ", ".join(corpus.ids[row] for row in np.flatnonzero(rows)[:3])
            _logger.warning("%d vectors are %s and left out: %s", rows.sum(), kind, named)


def build_pairs(
    config: PairConfig,
    corpus: Corpus,
    directory: Place,
    *,
    validation: Corpus | None = None,
    model: Transformer | None = None,
    cache: Path | None = None,
    engine: Engine | None = None,
) -> Manifest:
    """Pair `corpus`, and `validation` among itself by the embedder fitted on `corpus`, as a stage.

    The pairs are in `directory`/train and `directory`/validation, each a `PairSet`; the manifest's counts
    have those names too, each with `PairSet.counts`, `PairSet.search` and, of labelled documents,
    `label_agreement`. Its FLOPs are those of fitting the embedder, embedding, and the search for neighbours.

    Args:
        config: the settings.
        corpus: the training documents.
        directory: the stage's folder, or a workspace.
        validation: held-out documents; their pairs stop the tuning. Where they have none, a warning and the
            counts say why, and `tune` holds out some of the training pairs.
        model: for the "self" embedder; the others ignore it.
        cache: keeps embeddings by content, see `CachedEmbedder`. None: in a workspace, its folder
            embeddings; else they are kept in the stage's folder until it is finished.
        engine: who does the join's work, by default this process; no part of the plan.

    Raises:
        ConfigError, PairingError: as `fit_embedder`.
        NoPairsError: as `pair_documents`, for the training documents.
        PairingError: as `pair_documents`; the message says for which of the two.
        StoreError: the folder holds another plan or cannot be written.
    """
    corpora = {TRAIN: corpus} | ({VALIDATION: validation} if validation is not None else {})
    inputs = {name: part.fingerprint for name, part in corpora.items()}
    inputs |= embedder_inputs(config.embedder, model)
    planned = _without_shards_that_do_not_matter(config, max(len(part) for part in corpora.values()))
    plan = plan_stage("pair", planned, inputs, __name__, device=embedder_device(config.embedder))
    if cache is None and isinstance(directory, Workspace):
        cache = directory.root / EMBEDDINGS
    engine = LocalEngine() if engine is None else engine

    def work(folder: StageFolder) -> Outcome:
        with engine.start():  # before the embedding, as it may fail
            fitted = fit_embedder(config.embedder, corpus, model, seed=config.seed)
            embedder = CachedEmbedder(fitted, cache or folder.path / EMBEDDINGS)
            return _build(config, corpora, embedder, engine, folder)

    return run_stage(plan, directory, work)


def _without_shards_that_do_not_matter(config: PairConfig, num_documents: int) -> PairConfig:
    method = resolved(config.backend, num_documents)
    return dataclasses.replace(config, num_shards=1) if method == "exact" else config


def _build(
    config: PairConfig,
    corpora: Mapping[str, Corpus],
    embedder: Embedder,
    engine: Engine,
    folder: StageFolder,
) -> Outcome:
    counts: dict[str, Any] = {}
    for name, corpus in corpora.items():
        # Held-out documents may be fewer than the shards that suit the training documents.
        num_shards = config.num_shards if name == TRAIN else min(config.num_shards, max(1, len(corpus)))
        why_none: dict[str, str] = {}
        try:
            pairs = pair_documents(
                corpus,
                embedder=embedder,
                k=config.k,
                max_pairs_per_document=config.max_pairs_per_document,
                backend=config.backend,
                seed=config.seed,
                join=Join(num_shards=num_shards, engine=engine, scratch=folder.path / JOIN / name),
                **dataclasses.asdict(config.rules),
            )
        except NoPairsError as error:
            if name == TRAIN:
                raise NoPairsError(f"{name} documents: {error}") from error
            _logger.warning("%s documents: %s; tuning will hold out training pairs instead", name, error)
            pairs = PairSet.empty(corpus.fingerprint, {"documents": len(corpus), "pairs": 0})
            why_none = {"why_none": str(error)}
        except PairingError as error:
            raise PairingError(f"{name} documents: {error}") from error
        pairs.save(folder.path / name)
        agreement = label_agreement(pairs, corpus)
        labels = {} if agreement is None else dict(zip(_AGREEMENT, agreement, strict=True))
        truncated = {"documents_truncated": _truncated(embedder, name, corpus)}
        counts[name] = {**truncated, **pairs.counts, **why_none, **labels, "search": dict(pairs.search)}
    embedding = sum(embedder.flops(corpus) for corpus in corpora.values())
    searching = sum(float(counts[name]["search"].get("flops", 0.0)) for name in corpora)
    flops = embedder.fit_flops + embedding + searching
    return Outcome(counts=counts, flops=flops, scratch=(EMBEDDINGS, JOIN))


def _truncated(embedder: Embedder, name: str, corpus: Corpus) -> int:
    number = embedder.num_truncated(corpus)
    if number:
        _logger.warning("%s documents: %d of %d are read in part, as too long", name, number, len(corpus))
    return number


_AGREEMENT = ("label_agreement", "label_agreement_of_random_pairs")


def _sampled(values: np.ndarray, seed: int) -> np.ndarray:
    generator = numpy_generator(seed, "neighbour similarities")
    return generator.choice(values, min(len(values), SAMPLED_SIMILARITIES), replace=False)


def _random_similarities(unit: np.ndarray, seed: int) -> np.ndarray:
    """Return ⟨d1, d2⟩ of random pairs of different rows."""
    generator = numpy_generator(seed, "random similarities")
    first = generator.integers(len(unit), size=SAMPLED_SIMILARITIES)
    second = (first + 1 + generator.integers(len(unit) - 1, size=SAMPLED_SIMILARITIES)) % len(unit)
    return np.einsum("nd,nd->n", unit[first], unit[second])
