"""Seeds as a function of a root and a path, so that item i never depends on how it was reached."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(root: int, *path: str | int) -> int:
    """Return a 63-bit seed that is a function of `root` and `path` alone (BLAKE2b).

    Example: `derive_seed(run_seed, "synthesis", document_id, sample_index)`.
    """
    text = "\x1f".join([str(root), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(root: int, *path: str | int) -> np.random.Generator:
    """Return NumPy's Philox generator (counter-based, stable across versions) seeded by the path."""
    return np.random.Generator(np.random.Philox(derive_seed(root, *path)))


def torch_generator(root: int, *path: str | int) -> "torch.Generator":
    """Return a CPU `torch.Generator` seeded by the path."""
    import torch

    return torch.Generator().manual_seed(derive_seed(root, *path))
