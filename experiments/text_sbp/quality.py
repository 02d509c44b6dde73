"""How good the synthetic text is, beside real text by the same measures: a stage of the experiment."""

import numpy as np

from experiments.text_sbp.config import TextSbpConfig
from sbp_bayes.base.config import encode
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.comparison import Made
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import DriftConfig, QualityConfig, drift, pair_similarity, quality_report
from sbp_bayes.lm import load_model
from sbp_bayes.pairing import embedder_device, fit_embedder
from sbp_bayes.synthesis import CORPUS

COMPARED = 2000
"""Pairs whose similarity is measured."""


def measure_quality(
    config: TextSbpConfig, seed: int, unique: Corpus, made: Made, work: Workspace
) -> Manifest:
    """Measure the synthetic corpus of one seed, and the real pairs that taught the synthesizer.

    The manifest's counts are "synthetic" and "real", each with documents, copying and similarity, and
    "drift", None where there are too few documents.
    """
    start, samples, pairs = made.start, made.samples, made.pairs
    inputs = {
        "start": start.fingerprint,
        "pairs": pairs.train.fingerprint,
        "synthesis": samples.fingerprint,
    }
    settings = QualityConfig(
        max_document_tokens=config.tune.max_document_tokens,
        repetition=config.screen.repetition,
        seed=seed,
    )
    drifting = DriftConfig(max_document_tokens=config.tune.max_document_tokens, seed=seed)
    plan = plan_stage(
        "quality",
        {"quality": settings, "drift": drifting, "pairs": config.pairs},
        inputs,
        __name__,
        device=embedder_device(config.pairs.embedder),
    )

    def measure(folder: StageFolder) -> Outcome:
        synthetic, train = Corpus.load(samples.directory / CORPUS), pairs.train
        report = quality_report(settings, synthetic, unique, train)
        model = load_model(start.directory / "best")
        embedder = fit_embedder(config.pairs.embedder, unique, model, seed=config.pairs.seed)
        vectors = embedder.embed(unique)
        sampled, real = synthetic.select(_sample(len(synthetic), seed)), _sample(len(train.first), seed)
        seeds = np.array([metadata["seed_index"] for metadata in sampled.metadata], np.int64)
        embedded = embedder.embed(sampled)
        found = drift(drifting, unique, synthetic, (vectors, embedded))
        return Outcome(
            counts={
                "drift": None if found is None else encode(found),
                "synthetic": {
                    "documents": encode(report.synthetic_documents),
                    "copying": encode(report.synthetic_pairs),
                    "similarity": _similarity(vectors[seeds], embedded, seed),
                },
                "real": {
                    "documents": encode(report.real_documents),
                    "copying": encode(report.real_pairs),
                    "similarity": _similarity(vectors[train.first[real]], vectors[train.second[real]], seed),
                },
            }
        )

    return run_stage(plan, work, measure)


def _sample(size: int, seed: int) -> np.ndarray:
    order = numpy_generator(seed, "compared").permutation(size)
    return np.sort(order[:COMPARED])


def _similarity(first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, float]:
    """Mean cosine of (d1, d2) and of (another d1, d2), over pairs where both have a vector."""
    known = np.any(first != 0, axis=1) & np.any(second != 0, axis=1)
    similarity = pair_similarity(first[known], second[known], seed)
    return {
        "num_pairs": int(known.sum()),
        "pairs_mean": float(similarity.pairs.mean()),
        "random_mean": float(similarity.random.mean()),
        "nearer_share": similarity.nearer_share,
    }
