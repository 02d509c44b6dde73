"""Memory of large tensors on a processor, from which glibc's heap makes no holes.

PyTorch asks for aligned memory (`posix_memalign`). For that, glibc takes a block longer by the alignment and
gives the rest back in small pieces, which other small objects soon occupy. So what a tensor leaves on the
heap is a hole too short for the next tensor of its size, and a training step, which asks for the same sizes
again and again, holds a third more than its tensors need. NumPy asks for plain memory (`malloc`), whose holes
serve again.
"""

import math

import numpy as np
import torch
from torch import Tensor

LARGE = 2**18
"""Bytes from which a tensor's memory comes from NumPy; holes of smaller tensors do not matter."""

ALIGNMENT = 64
"""Bytes to whose multiples a tensor is aligned, as PyTorch aligns it: a line of the processor's cache."""


def empty_like(
    x: Tensor, *, shape: tuple[int, ...] | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Return a contiguous tensor on x's device, with x's shape and type unless told, of undefined content."""
    shape, dtype = x.shape if shape is None else shape, dtype or x.dtype
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE or x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.empty(shape, dtype=dtype, device=x.device)
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return torch.from_numpy(block[start : start + size]).view(dtype).view(shape)


def contiguous(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return `x` in `dtype`, its own by default, contiguous: itself where it is so already."""
    dtype = dtype or x.dtype
    return x if x.dtype == dtype and x.is_contiguous() else empty_like(x, dtype=dtype).copy_(x)


def product(x: Tensor, right: Tensor) -> Tensor:
    """Return x (…, X) · right (X, Y)."""
    return torch.matmul(x, right, out=empty_like(x, shape=(*x.shape[:-1], right.shape[-1])))
