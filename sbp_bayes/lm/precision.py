"""The number format of matrix products in training."""

from typing import Literal

import torch

MatmulDtype = Literal["auto", "float32", "bfloat16"]
"""Format to which factors of products are rounded in training; sums and all else stay float32.

"auto" is bfloat16 where the processor multiplies it natively, and float32 elsewhere.
"""


def matmul_dtype(name: MatmulDtype) -> torch.dtype | None:
    """Return the format for `Transformer.set_matmul_dtype`; None is float32."""
    if name == "auto":
        name = "bfloat16" if _bfloat16_is_native() else "float32"
    return torch.bfloat16 if name == "bfloat16" else None


def _bfloat16_is_native() -> bool:
    processor = torch.cpu.get_capabilities()
    return bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
