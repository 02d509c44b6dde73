"""The stage that pretrains a model; baseline, SBP and oracle are this function with one value changed."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import LossTotals
from sbp_bayes.base.runtime import torchrun_rank
from sbp_bayes.base.seeds import derive_seed
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.corpus import TOKENIZER, Corpus, EpochStream, Tokenizer, rows_of
from sbp_bayes.lm import (
    Backend,
    LMConfig,
    MatmulDtype,
    Transformer,
    matmul_dtype,
    resolved_matmul_dtype,
    save_model,
)
from sbp_bayes.lm.score import score_rows
from sbp_bayes.pretraining.budget import steps_of_budget
from sbp_bayes.pretraining.mixture import Mixture, Order, synthetic_rows
from sbp_bayes.training import (
    CHECKPOINT_DIR,
    EngineConfig,
    OptimiserConfig,
    dropout_of_steps,
    require_dropout,
    train,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What determines a pretraining, its corpora aside.

    Attributes:
        model: shape of the model; its context length is the length of a row.
        optimiser: AdamW and its schedule over the whole budget.
        engine: how gradients are computed.
        budget_tokens: positions trained on, repetitions included; rounded down to whole steps.
        rows_per_batch: rows a step.
        synthetic_share: share of the budget that is synthetic; 0 is the baseline (and the oracle).
        repeat_synthetic: whether synthetic text may be read more than once; the paper reads it once.
        order: when synthetic text is read; see `Mixture`.
        dropout: share of what each layer adds to the residual stream, and of the embeddings, that is left out
            at random in training, 0 to 1; see `Transformer.set_dropout`.
        num_validations: validations after the one before the first step.
        matmul_dtype: number format of matrix products in training; see `lm.precision`. The plan has what
            "auto" stands for.
        attention: who computes attention; see `lm.attention`.
        seed: draws the weights and the order of the documents.
    """

    model: LMConfig
    optimiser: OptimiserConfig
    engine: EngineConfig = EngineConfig()  # noqa: RUF009 - frozen
    budget_tokens: int
    rows_per_batch: int
    synthetic_share: float = 0.0
    repeat_synthetic: bool = False
    order: Order = "mixed"
    dropout: float = 0.0
    num_validations: int = 20
    matmul_dtype: MatmulDtype = "auto"
    attention: Backend = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.budget_tokens > 0, "budget_tokens", self.budget_tokens, "a positive number")
        require(self.rows_per_batch > 0, "rows_per_batch", self.rows_per_batch, "a positive number")
        require(0 <= self.synthetic_share <= 1, "synthetic_share", self.synthetic_share, "0 to 1")
        require_one_of("order", self.order, get_args(Order))
        require_dropout(self.dropout, self.engine)
        require(self.num_validations > 0, "num_validations", self.num_validations, "a positive number")


def pretrain(
    config: PretrainConfig,
    real: Corpus,
    synthetic: Corpus | None,
    validation: Corpus,
    directory: Place,
    *,
    tokenizer: Tokenizer,
    label: str = "",
    checkpoint_seconds: float = 60.0,
    kept_checkpoints: int = 2,
) -> Manifest:
    """Pretrain a model from scratch; a stage, so a finished or interrupted one is taken up where it is.

    Args:
        config: the settings.
        real: unique documents, repeated as the budget asks.
        synthetic: documents read once at most unless `repeat_synthetic`; ignored at a share of 0.
        validation: held-out documents, scored whole at each validation.
        directory: receives best/ and last/ (weights), metrics.jsonl, tokenizer.json and the manifest.
        tokenizer: the one that made the corpora's tokens.
        label: the arm's name, shown with the progress.
        checkpoint_seconds: seconds between checkpoints, which the result doesn't depend on.
        kept_checkpoints: the newest ones that are kept while the training goes on.

    Returns:
        The manifest. Its counts hold steps, positions and epochs by source, and the best validation
        loss in nats per token; its FLOPs are 6·N·T of training and 2·N·T of all validations.

    Raises:
        CorpusError: too few synthetic tokens for the share where none may be repeated, or an empty corpus.
        ConfigError: a vocabulary that is not the tokenizer's or does not hold a corpus's tokens, a budget
            below one step, or a device, compiler or attention that cannot run here.
        TrainingError: a loss that is not finite, or too little memory; see `train`.
        CheckpointError, StoreError: damaged state, or another plan's, in `directory`.
    """
    _refuse_other_vocabulary(config, tokenizer)
    for name, corpus in (("real", real), ("synthetic", synthetic), ("validation", validation)):
        if corpus is not None:
            config.model.require_known(corpus.tokens, f"the {name} corpus")
    mixture = build_mixture(config, real, synthetic)
    validate = _validation(validation, config.model.context_length)
    inputs = {
        "real": real.fingerprint,
        "synthetic": mixture.synthetic.corpus.fingerprint if mixture.synthetic else "none",
        "validation": validation.fingerprint,
        "tokenizer": tokenizer.fingerprint,
    }
    device = config.engine.device_type
    config = dataclasses.replace(config, matmul_dtype=resolved_matmul_dtype(config.matmul_dtype, device))
    planned = dataclasses.replace(config, engine=dataclasses.replace(config.engine, device=device))
    plan = plan_stage("pretrain", planned, inputs, __name__, device=device)

    def work(folder: StageFolder) -> Outcome:
        if torchrun_rank() == 0:
            tokenizer.save(folder.path / TOKENIZER)
        checkpoints = {"checkpoint_seconds": checkpoint_seconds, "kept_checkpoints": kept_checkpoints}
        number = validation.num_tokens
        return _pretrain(
            config, mixture, validate, folder, label=label, validation_tokens=number, **checkpoints
        )

    return run_stage(plan, directory, work, collective=True)


def synthetic_tokens_needed(config: PretrainConfig) -> int:
    """Return the tokens a synthetic corpus must hold so that `pretrain` repeats none of it."""
    length = config.model.context_length
    num_steps = steps_of_budget(config.budget_tokens, config.rows_per_batch, length)
    return synthetic_rows(config.synthetic_share, num_steps, config.rows_per_batch) * length


def build_mixture(config: PretrainConfig, real: Corpus, synthetic: Corpus | None) -> Mixture:
    """Return the batches that `pretrain` reads; see `Mixture` for the errors."""
    length = config.model.context_length

    def stream(corpus: Corpus, name: str) -> EpochStream:
        return EpochStream(corpus, derive_seed(config.seed, name), length)

    return Mixture(
        stream(real, "real"),
        None if synthetic is None or config.synthetic_share == 0 else stream(synthetic, "synthetic"),
        synthetic_share=config.synthetic_share,
        num_steps=steps_of_budget(config.budget_tokens, config.rows_per_batch, length),
        rows_per_batch=config.rows_per_batch,
        repeat_synthetic=config.repeat_synthetic,
        order=config.order,
    )


def _refuse_other_vocabulary(config: PretrainConfig, tokenizer: Tokenizer) -> None:
    if config.model.vocab_size != tokenizer.vocab_size:
        raise ConfigError(
            f"model.vocab_size = {config.model.vocab_size} is not the tokenizer's {tokenizer.vocab_size}"
        )


def _validation(corpus: Corpus, context_length: int) -> Callable[[Transformer], LossTotals]:
    windows = [(w.inputs, w.targets, np.zeros_like(w.inputs)) for w in rows_of(corpus, context_length)]
    if not windows:
        raise CorpusError("the validation corpus holds no documents")
    # Windows of like length are batched together, so that little is padding.
    windows.sort(key=lambda window: len(window[0]))

    def validate(model: Transformer) -> LossTotals:
        loss_nats, num_targets = score_rows(model, windows)
        return LossTotals(loss_nats=float(loss_nats.sum()), num_tokens=int(num_targets.sum()))

    return validate


def _pretrain(
    config: PretrainConfig,
    mixture: Mixture,
    validate: Callable[[Transformer], LossTotals],
    folder: StageFolder,
    *,
    validation_tokens: int,
    label: str,
    **checkpoints: Any,
) -> Outcome:
    model = Transformer(config.model, seed=derive_seed(config.seed, "model")).set_attention(config.attention)
    result = train(
        model.set_matmul_dtype(matmul_dtype(config.matmul_dtype, config.engine.device)),
        mixture,
        optimiser=config.optimiser,
        engine=config.engine,
        directory=folder.path,
        save_weights=save_model,
        validate=validate,
        num_validations=config.num_validations,
        flops_per_token=config.model.flops_per_token,
        before_step=dropout_of_steps(model, config.dropout, config.seed),
        **checkpoints,
        description=f"pretraining {label}".strip(),
        tick=folder.tick,
    )
    num_validations = sum("validation_nats_per_token" in record for record in result.history)
    validated_tokens = num_validations * validation_tokens
    counts = {
        "num_parameters": config.model.num_parameters,
        "num_steps": result.num_steps,
        "num_tokens": result.tokens,
        "tokens_by_source": mixture.tokens_by_source(result.num_steps),
        "epochs_by_source": mixture.epochs_by_source(result.num_steps),
        "last_loss_nats_per_token": result.loss_nats_per_token,
        "best_step": result.best_step,
        "best_validation_nats_per_token": result.best_nats_per_token,
        "validated_tokens": validated_tokens,
        "num_threads": result.num_threads,
    }
    training = config.model.flops_per_token * result.tokens
    flops = training + config.model.forward_flops_per_token * validated_tokens
    return Outcome(counts=counts, flops=flops, scratch=(CHECKPOINT_DIR,))
