"""Tuning of a synthesizer: a pretrained model goes on to learn p(d2 | d1) from pairs.

Paper: arXiv 2509.15248, step 2 of SBP: loss on d2 alone, from the pretrained checkpoint.
"""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import LossTotals, Pairs
from sbp_bayes.base.runtime import torchrun_rank
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.corpus import TOKENIZER, Corpus, Tokenizer
from sbp_bayes.lm import (
    Backend,
    MatmulDtype,
    Transformer,
    load_model,
    matmul_dtype,
    model_fingerprint,
    resolved_matmul_dtype,
    save_model,
    with_context_length,
)
from sbp_bayes.synthesizer.controls import IndexPairs
from sbp_bayes.synthesizer.marginal import BalancedPairs, balanced_pairs
from sbp_bayes.synthesizer.rows import PackedPairs, PairRows, pair_loss, row_length_of
from sbp_bayes.training import (
    CHECKPOINT_DIR,
    EngineConfig,
    OptimiserConfig,
    dropout_of_steps,
    require_dropout,
    train,
)

HELD_OUT_SHARE = 0.1
"""Share of the training pairs that validate a tuning where the validation documents have no pairs."""

_logger = logging.getLogger(__name__)


Marginal = Literal["pairs", "documents"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How a synthesizer is tuned.

    Attributes:
        max_document_tokens: d1 and d2 are cut to this many tokens each.
        num_epochs: most times that each pair is seen.
        rows_per_batch: rows of 2·max_document_tokens + 2 positions a step.
        optimiser: AdamW and its schedule.
        engine: how gradients are computed.
        num_validations: validations, evenly spaced, after the first one before tuning.
        patience: stop after so many validations in a row without a new lowest loss; None: never.
        dropout: share of what each layer adds to the residual stream, and of the embeddings, that is left out
            at random in training, 0 to 1; see `Transformer.set_dropout`.
        word_dropout: share of the tokens of d1 and d2 that the model does not get to read in training; see
            `PairRows`.
        marginal: how d2 is distributed in tuning: as in the pairs, or uniformly over the documents, as the
            Bayesian model has it; see `synthesizer.marginal`.
        max_validation_pairs: validation pairs used, chosen at random where there are more.
        matmul_dtype: number format of matrix products in training; see `lm.precision`. The plan has what
            "auto" stands for.
        attention: who computes attention; see `lm.attention`.
        seed: of the order of pairs and the choice of validation pairs.
    """

    max_document_tokens: int
    num_epochs: float = 2.0
    rows_per_batch: int = 16
    optimiser: OptimiserConfig = OptimiserConfig(peak_lr=5e-4)  # noqa: RUF009 - frozen
    engine: EngineConfig = EngineConfig()  # noqa: RUF009 - frozen
    num_validations: int = 10
    patience: int | None = 3
    dropout: float = 0.0
    word_dropout: float = 0.0
    marginal: Marginal = "pairs"
    max_validation_pairs: int = 512
    matmul_dtype: MatmulDtype = "auto"
    attention: Backend = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("max_document_tokens", "rows_per_batch", "num_validations", "max_validation_pairs"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        require(0 < self.num_epochs < float("inf"), "num_epochs", self.num_epochs, "a positive number")
        require(self.patience is None or self.patience >= 1, "patience", self.patience, "at least 1 or none")
        require_dropout(self.dropout, self.engine)
        require_one_of("marginal", self.marginal, get_args(Marginal))
        require(0 <= self.word_dropout < 1, "word_dropout", self.word_dropout, "0 or more, below 1")


def tune(  # noqa: PLR0917 - inputs in the order of the data
    config: TuneConfig,
    model_directory: Path,
    corpus: Corpus,
    pairs: Pairs,
    validation_corpus: Corpus,
    validation_pairs: Pairs,
    directory: Place,
    *,
    tokenizer: Tokenizer,
    checkpoint_seconds: float = 60.0,
    kept_checkpoints: int = 2,
) -> Manifest:
    """Tune the model of `model_directory` on pairs, as a stage that resumes where it was stopped.

    `directory`/best has the weights of the lowest loss on the validation pairs, those before the first
    step included; its `context_length` is 2·max_document_tokens + 2. `last`, metrics.jsonl and
    tokenizer.json are beside it.

    Args:
        config: the settings.
        model_directory: weights to start from, as `load_model` reads them.
        corpus: the documents that `pairs` index.
        pairs: the pairs to learn.
        validation_corpus: the documents that `validation_pairs` index.
        validation_pairs: decide on the best weights and on stopping early. Where there are none, a tenth of
            `pairs` does so instead and is not trained on, which is logged and counted; see `hold_out`.
        directory: the stage's folder, or a workspace.
        tokenizer: the one that made the corpora's tokens.
        checkpoint_seconds: seconds between checkpoints, which the result doesn't depend on.
        kept_checkpoints: the newest ones that are kept while the tuning goes on.

    Raises:
        CorpusError: pairs of another corpus, no pairs, none that can be held out where that is needed, or
            tokens that the model doesn't know.
        ConfigError: a tokenizer with more ids than the model has.
        CheckpointError: the model is missing or damaged.
        TrainingError: a loss that is not finite, or too little memory; see `train`.
        StoreError: the folder holds another plan or cannot be written.
    """
    model = load_model(model_directory)
    largest = model.config.vocab_size
    fits = tokenizer.vocab_size <= largest
    require(fits, "tokenizer.vocab_size", tokenizer.vocab_size, f"at most the model's {largest}")
    inputs = {"model": model_fingerprint(model_directory), "tokenizer": tokenizer.fingerprint}
    named = (("train", corpus, pairs), ("validation", validation_corpus, validation_pairs))
    for name, documents, indices in named:
        _refuse_strangers(name, documents, indices, model)
        inputs |= {f"{name}_corpus": documents.fingerprint, f"{name}_pairs": indices.fingerprint}
    device = config.engine.device_type
    config = dataclasses.replace(config, matmul_dtype=resolved_matmul_dtype(config.matmul_dtype, device))
    planned = dataclasses.replace(config, engine=dataclasses.replace(config.engine, device=device))
    plan = plan_stage("tune", planned, inputs, __name__, device=device)
    validated_by = "validation documents"
    if not len(validation_pairs.first):
        validated_by, validation_corpus = "training pairs", corpus
        pairs, validation_pairs = hold_out(pairs, config.max_validation_pairs, config.seed)
        _logger.warning(
            "the validation documents have no pairs: %d of %d training pairs validate the tuning instead",
            len(validation_pairs.first),
            len(validation_pairs.first) + len(pairs.first),
        )
    if config.marginal == "documents":
        pairs = balanced_pairs(pairs, len(corpus), config.seed)
    packed = PackedPairs(corpus, pairs.first, pairs.second, config.max_document_tokens)
    source = PairRows(
        packed,
        num_epochs=config.num_epochs,
        rows_per_batch=config.rows_per_batch,
        seed=config.seed,
        pairs_fingerprint=pairs.fingerprint,
        word_dropout=config.word_dropout,
    )
    chosen = _chosen(config, validation_pairs)
    held_out = PackedPairs(validation_corpus, chosen.first, chosen.second, config.max_document_tokens)

    def work(folder: StageFolder) -> Outcome:
        if torchrun_rank() == 0:
            tokenizer.save(folder.path / TOKENIZER)
            if isinstance(pairs, BalancedPairs):
                pairs.save_alone(folder.path)
        checkpoints = {"checkpoint_seconds": checkpoint_seconds, "kept_checkpoints": kept_checkpoints}
        return _tune(config, model, source, held_out, folder, validated_by=validated_by, **checkpoints)

    return run_stage(plan, directory, work, collective=True)


def held_out_pairs(
    config: TuneConfig, corpus: Corpus, pairs: Pairs, validation_corpus: Corpus, validation_pairs: Pairs
) -> tuple[Corpus, IndexPairs]:
    """Return the documents and the pairs that validate the tuning of these arguments; see `tune`.

    Raises:
        CorpusError: there are no validation pairs, and none can be held out.
    """
    if not len(validation_pairs.first):
        _, validation_pairs = hold_out(pairs, config.max_validation_pairs, config.seed)
        validation_corpus = corpus
    return validation_corpus, _chosen(config, validation_pairs)


def hold_out(pairs: Pairs, max_pairs: int, seed: int) -> tuple[IndexPairs, IndexPairs]:
    """Return the pairs that are trained on and those that validate; no d1 is in both.

    Documents d1 are drawn at random until their pairs are a tenth of all, or `max_pairs`. Their d2s may be in
    other pairs too, so that the loss is lower than on new documents.

    Args:
        pairs: P of them.
        max_pairs: most that are needed for validation.
        seed: of the draw.

    Raises:
        CorpusError: there are no pairs, or all have the same d1.
    """
    _, document, counts = np.unique(pairs.first, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        one = "there are no pairs to tune on" if not len(counts) else f"all {counts[0]:,} pairs have one d1"
        raise CorpusError(f"{one}: none can be held out for validation")
    order = numpy_generator(seed, "held-out pairs").permutation(len(counts))
    wanted = min(max_pairs, math.ceil(HELD_OUT_SHARE * len(pairs.first)))
    number = 1 + int(counts[order].cumsum().searchsorted(wanted))
    is_held_out = np.isin(document, order[: min(number, len(counts) - 1)])
    trained, held_out = (
        IndexPairs(pairs.first[rows], pairs.second[rows], pairs.corpus_fingerprint)
        for rows in (~is_held_out, is_held_out)
    )
    return trained, held_out


def _tune(
    config: TuneConfig,
    model: Transformer,
    source: PairRows,
    held_out: PackedPairs,
    folder: StageFolder,
    *,
    validated_by: str,
    **checkpoints: Any,
) -> Outcome:
    def validate(tuned: Transformer) -> LossTotals:
        return pair_loss(tuned, held_out, config.rows_per_batch)

    longer = with_context_length(model, row_length_of(config.max_document_tokens))
    result = train(
        longer.set_attention(config.attention).set_matmul_dtype(
            matmul_dtype(config.matmul_dtype, config.engine.device)
        ),
        source,
        optimiser=config.optimiser,
        engine=config.engine,
        directory=folder.path,
        save_weights=save_model,
        validate=validate,
        num_validations=config.num_validations,
        patience=config.patience,
        flops_per_token=model.config.flops_per_token,
        before_step=dropout_of_steps(longer, config.dropout, config.seed),
        **checkpoints,
        description="tuning the synthesizer",
        tick=folder.tick,
    )
    validations = [r["validation_nats_per_token"] for r in result.history if "validation_nats_per_token" in r]
    counts = {
        "pairs": len(source.packed.first),
        "validation_pairs": len(held_out.first),
        "validated_by": validated_by,
        "rows": len(source.packed),
        "padding_share": source.packed.padding_share,
        "steps": result.num_steps,
        "epochs": result.num_steps * config.rows_per_batch / len(source.packed),
        "tokens": result.tokens,
        "validated_tokens": len(validations) * len(held_out) * held_out.row_length,
        "best_step": result.best_step,
        "validation_nats_per_token_before": validations[0],
        "validation_nats_per_token": result.best_nats_per_token,
    }
    flops = model.config.flops_per_token * result.tokens
    flops += model.config.forward_flops_per_token * counts["validated_tokens"]
    return Outcome(counts=counts, flops=flops, scratch=(CHECKPOINT_DIR,))


def _refuse_strangers(name: str, corpus: Corpus, pairs: Pairs, model: Transformer) -> None:
    if pairs.corpus_fingerprint != corpus.fingerprint:
        raise CorpusError(f"the {name} pairs were made from another corpus than the {name} documents given")
    if len(corpus.tokens) and corpus.tokens.max() >= model.config.vocab_size:
        raise CorpusError(
            f"the {name} documents have token {corpus.tokens.max()}, but the model knows "
            f"{model.config.vocab_size}: they were made with another tokenizer"
        )


def _chosen(config: TuneConfig, pairs: Pairs) -> IndexPairs:
    order = numpy_generator(config.seed, "validation pairs").permutation(len(pairs.first))
    chosen = np.sort(order[: config.max_validation_pairs])
    return IndexPairs(pairs.first[chosen], pairs.second[chosen], pairs.corpus_fingerprint)
