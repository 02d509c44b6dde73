"""AdamW and its settings."""

import dataclasses
from typing import Literal, get_args

import torch
from torch import nn

from sbp_bayes.base.config import require, require_one_of

Schedule = Literal["cosine", "wsd"]
"""Of the learning rate after its warm-up: a half cosine, or stable and then a linear decay."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """What is minimised, and by which steps: AdamW under a schedule with a linear warm-up.

    Peak 1e-2, final 5e-5 and a warm-up of 5% are the paper's (arXiv 2509.15248); its weight decay, betas,
    epsilon and clipping norm are unverified.

    Attributes:
        peak_lr: learning rate at the end of the warm-up.
        final_lr_ratio: learning rate of the last step over `peak_lr`.
        weight_decay: decoupled decay of matrices; norms' gains, biases and embeddings have none.
        warmup_share: share of all steps over which the rate rises linearly from 0.
        clip_norm: bound on the Euclidean norm of the whole gradient.
        schedule: "cosine", or "wsd" (warm-up, stable, decay; arXiv 2404.06395).
        decay_share: share of all steps over which "wsd" falls linearly from `peak_lr` to its end.
        z_loss: weight of the mean of (log Z)² in what is minimised, Z being the softmax's normaliser
            (1e-4 in arXiv 2204.02311); the reported losses are without it. The model needs
            `regularised_loss_sum` unless it is 0.
    """

    peak_lr: float = 1e-2
    final_lr_ratio: float = 5e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    warmup_share: float = 0.05
    clip_norm: float = 1.0
    schedule: Schedule = "cosine"
    decay_share: float = 0.2
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        for key in ("peak_lr", "eps", "clip_norm"):
            require(0 < getattr(self, key) < float("inf"), key, getattr(self, key), "a positive number")
        for key in ("final_lr_ratio", "warmup_share", "decay_share"):
            require(0 <= getattr(self, key) <= 1, key, getattr(self, key), "0 to 1")
        for key in ("beta1", "beta2"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "0 to below 1")
        for key in ("weight_decay", "z_loss"):
            require(0 <= getattr(self, key) < float("inf"), key, getattr(self, key), "0 or more")
        require_one_of("schedule", self.schedule, get_args(Schedule))


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Return a fused AdamW whose weight decay spares vectors (norms, biases) and embeddings."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            spares = parameter.ndim < 2 or id(parameter) in embeddings
            (spared if spares else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.peak_lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
