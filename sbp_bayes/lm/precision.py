"""The number format of matrix products in training."""

from typing import Literal, get_args

import torch

from sbp_bayes.base.config import require_one_of

MatmulDtype = Literal["auto", "float32", "bfloat16"]
"""Format of products in training, their factors and attention; norms, residual stream and loss stay float32.

This is the one setting of mixed precision: parameters, their gradients and AdamW's state are float32. It
stands for torch.autocast, which cannot see into gradients written by hand and would round the norms' sums.

"auto" is bfloat16 where the processor, or the GPU, multiplies it natively, and float32 elsewhere.
"""


def matmul_dtype(name: MatmulDtype, device: str | None = None) -> torch.dtype | None:
    """Return the format for `Transformer.set_matmul_dtype` on `device` (None: the CPU); None is float32.

    Raises:
        ConfigError: an unknown format.
    """
    return torch.bfloat16 if resolved_matmul_dtype(name, device) == "bfloat16" else None


def resolved_matmul_dtype(name: MatmulDtype, device: str | None = None) -> Literal["float32", "bfloat16"]:
    """Return what `name` stands for on `device` (None: the CPU) of this machine.

    Raises:
        ConfigError: an unknown format.
    """
    require_one_of("matmul_dtype", name, get_args(MatmulDtype))
    if name == "auto":
        return "bfloat16" if _bfloat16_is_native(device or "cpu") else "float32"
    return name


def _bfloat16_is_native(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    processor = torch.cpu.get_capabilities()
    return bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
