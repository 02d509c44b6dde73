"""How much of what the machine can multiply a training uses; measured, and no part of any result."""

import functools
import time

import torch
from torch import nn

SIZES = {"cpu": 512, "cuda": 8192}
"""Rows and columns of the matrices by kind of device: a product that keeps it busy, yet is short."""

MEASURED_SECONDS = 0.1


def flops_utilisation(tokens_per_second: float, flops_per_token: float, peak_flops: float) -> float:
    """Return the share of `peak_flops` (per second) that a model's own operations take: MFU.

    Model FLOPs utilisation, arXiv 2204.02311, appendix B; here against a measured peak.

    Args:
        tokens_per_second: positions trained on by all processes.
        flops_per_token: operations the model needs for one, forward and backward; recomputed ones don't
            count.
        peak_flops: of all devices together.
    """
    return tokens_per_second * flops_per_token / peak_flops


def throughput(
    tokens_per_second: float, flops_per_token: float | None, model: nn.Module, num_devices: int = 1
) -> dict[str, float]:
    """Return `tokens_per_second` and, where `flops_per_token` is known, `mfu`, by name.

    Args:
        tokens_per_second: of all processes.
        flops_per_token: what the model needs.
        model: its products have the type `model.matmul_dtype` where that is set, or else its parameters'.
        num_devices: that work side by side, all like the model's.
    """
    if flops_per_token is None:
        return {"tokens_per_second": tokens_per_second}
    parameter = next(model.parameters())
    dtype = getattr(model, "matmul_dtype", None) or parameter.dtype
    peak = num_devices * matmul_peak(parameter.device, dtype, torch.get_num_threads())
    mfu = flops_utilisation(tokens_per_second, flops_per_token, peak)
    return {"tokens_per_second": tokens_per_second, "mfu": mfu}


@functools.cache
def matmul_peak(device: torch.device, dtype: torch.dtype, num_threads: int) -> float:
    """Return the floating-point operations a second of the fastest product seen within 0.1 s.

    Once a process for each device, type and number of threads, of which a product has
    `torch.get_num_threads()`.
    """
    assert num_threads == torch.get_num_threads()
    size = SIZES.get(device.type, 512)
    factor = torch.ones(size, size, device=device, dtype=dtype)
    product = factor @ factor  # the first one sets up the library
    fastest, end = float("inf"), time.perf_counter() + MEASURED_SECONDS
    while time.perf_counter() < end:
        _synchronise(device)
        started = time.perf_counter()
        torch.mm(factor, factor, out=product)
        _synchronise(device)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
