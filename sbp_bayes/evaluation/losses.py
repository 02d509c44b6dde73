"""A model's loss on every document of a corpus."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.corpus import Corpus, Window, rows_of
from sbp_bayes.evaluation.scores import DocumentScores
from sbp_bayes.lm import Transformer, load_model, model_fingerprint, score_rows

SCORES = "scores.npz"
WINDOWS_TOGETHER = 256


def score_corpus(models: Sequence[Transformer], corpus: Corpus) -> DocumentScores:
    """Return −log P(d) of each document, its EOS included, read in windows of the models' context.

    Every token is scored once, given the earlier tokens of its own window. Several models are an ensemble:
    the mean of their probabilities for each token.
    """
    # Windows of like length share a batch, so that little of it is padding.
    windows = sorted(rows_of(corpus, models[0].config.context_length), key=lambda window: len(window.inputs))
    loss_nats = np.zeros(len(corpus))
    num_tokens = np.zeros(len(corpus), np.int64)
    with progress("scoring", len(windows), "windows") as advance:
        for start in range(0, len(windows), WINDOWS_TOGETHER):
            group = windows[start : start + WINDOWS_TOGETHER]
            nats, counts = score_rows(models, map(_row, group))
            documents = [window.document for window in group]
            np.add.at(loss_nats, documents, nats)
            np.add.at(num_tokens, documents, counts)
            advance(len(group))
    return DocumentScores(
        loss_nats=loss_nats,
        num_tokens=num_tokens,
        num_bytes=np.asarray(corpus.num_bytes),
        corpus_fingerprint=corpus.fingerprint,
    )


def evaluate(model_dir: Path | Sequence[Path], corpus: Corpus, directory: Place) -> Manifest:
    """Score `corpus` under the model in `model_dir` as a stage; the scores go to `scores.npz`.

    Several folders are an ensemble of models of one shape: the mean of their probabilities for each token.

    Returns:
        a manifest that counts documents, tokens and bytes, nats per token and bits per byte.

    Raises:
        CorpusError: the corpus holds no documents.
        ConfigError: the corpus has tokens that the model does not know.
        CheckpointError: the model is missing or damaged.
        StoreError: `directory` holds the output of another plan.
    """
    if len(corpus) == 0:
        raise CorpusError("the corpus to score holds no documents")
    folders = [model_dir] if isinstance(model_dir, Path) else model_dir
    models = [load_model(folder) for folder in folders]
    for model in models:
        model.config.require_known(corpus.tokens, "the corpus")
    inputs = {"model": ",".join(map(model_fingerprint, folders)), "corpus": corpus.fingerprint}
    plan = plan_stage("evaluate", None, inputs, __name__, device="cpu")

    def work(folder: StageFolder) -> Outcome:
        scores = score_corpus(models, corpus)
        scores.save(folder.path / SCORES)
        counts = {
            "documents": len(corpus),
            "tokens": scores.totals.num_tokens,
            "bytes": int(scores.num_bytes.sum()),
            "loss_nats_per_token": scores.nats_per_token,
            "bits_per_byte": scores.bits_per_byte,
        }
        flops_per_token = sum(model.config.forward_flops_per_token for model in models)
        return Outcome(counts=counts, flops=flops_per_token * corpus.num_tokens)

    return run_stage(plan, directory, work)


def _row(window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return window.inputs, window.targets, np.zeros(len(window.inputs), np.int64)
