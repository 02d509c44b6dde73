"""Nats and the units that readers compare: bits per byte, perplexity."""

import math


def bits_per_byte(loss_nats: float, num_bytes: float) -> float:
    """Convert a total loss in nats over text of `num_bytes` UTF-8 bytes to bits per byte."""
    return loss_nats / (math.log(2.0) * num_bytes)


def perplexity(loss_nats_per_token: float) -> float:
    """Return exp(loss), the perplexity per token."""
    return math.exp(loss_nats_per_token)
