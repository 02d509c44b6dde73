"""Pretraining from scratch on real text, repeated, mixed with synthetic text, at one token budget."""

from sbp_bayes.pretraining.budget import steps_of_budget
from sbp_bayes.pretraining.mixture import Mixture
from sbp_bayes.pretraining.pretrain import (
    PretrainConfig,
    pretrain,
    synthetic_tokens_needed,
)

__all__ = [
    "Mixture",
    "PretrainConfig",
    "pretrain",
    "steps_of_budget",
    "synthetic_tokens_needed",
]
