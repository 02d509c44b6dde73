"""Training of any `torch.nn.Module` that has `loss_sum(batch)`, resumable to the bit on a CPU."""

from sbp_bayes.training.dropout import dropout_of_steps, require_dropout
from sbp_bayes.training.engine import EngineConfig
from sbp_bayes.training.loop import CHECKPOINT_DIR, BatchSource, TrainResult, train
from sbp_bayes.training.optimiser import OptimiserConfig, build_optimiser
from sbp_bayes.training.schedule import learning_rate, validation_steps

__all__ = [
    "CHECKPOINT_DIR",
    "BatchSource",
    "EngineConfig",
    "OptimiserConfig",
    "TrainResult",
    "build_optimiser",
    "dropout_of_steps",
    "learning_rate",
    "require_dropout",
    "train",
    "validation_steps",
]
