"""Training of any `torch.nn.Module` that has `loss_sum(batch)`, resumable to the bit on a CPU."""

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
    "learning_rate",
    "train",
    "validation_steps",
]
