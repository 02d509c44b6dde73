"""A setting that is one of several words: another word is an error with the nearest, never a default."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from experiments.toy_validation.worlds import toy_config
from sbp_bayes.base.errors import ConfigError, SbpError
from sbp_bayes.cli.inputs import preset
from sbp_bayes.corpus import read_documents
from sbp_bayes.lm import matmul_dtype
from sbp_bayes.lm.attention import choose_backend
from sbp_bayes.pairing import EmbedderConfig, PairConfig, nearest_neighbours
from sbp_bayes.pairing.join.join import Rows, join_neighbours
from sbp_bayes.synthesis import ScreenConfig
from sbp_bayes.training import EngineConfig, OptimiserConfig
from toy_worlds import make_world

ROWS = Rows.numbered(np.eye(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("call", "key", "nearest"),
    [
        (lambda: EmbedderConfig(kind="minilmm"), "embedder", "minilm"),
        (lambda: EmbedderConfig(kind="sentense:folder"), "embedder", "sentence"),
        (lambda: PairConfig(backend="exakt"), "backend", "exact"),
        (lambda: nearest_neighbours(np.eye(3), 1, "hsnw"), "backend", "hnsw"),
        (lambda: join_neighbours(ROWS, ROWS, 1, "invert"), "method", "inverted"),
        (lambda: matmul_dtype("bfloat"), "matmul_dtype", "bfloat16"),
        (lambda: choose_backend("flash", torch.device("cpu"), torch.float32, 8), "attention", None),
        (lambda: choose_backend("spda", torch.device("cpu"), torch.float32, 8), "attention", "sdpa"),
        (lambda: OptimiserConfig(schedule="cosin"), "schedule", "cosine"),
        (lambda: EngineConfig(parallel="fdsp"), "parallel", "fsdp"),
        (lambda: preset("smok"), "--preset", "smoke"),
        (lambda: toy_config("markov_mixtur"), "world", "markov_mixture"),
        (lambda: toy_config("uniform", arms=("baselin",)), "arms", "baseline"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(
    call: Callable[[], object], key: str, nearest: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{key} = ")
    assert "expected one of" in message
    assert message.endswith(f" (did you mean {nearest!r}?)") == (nearest is not None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ScreenConfig(reasons=("emtpy",)),
        lambda: make_world("markov_mixture", initial="drawn"),
        lambda: make_world("markov"),
        lambda: list(read_documents("packaged:wiki")),
    ],
)
def test_others_are_refused_too(call: Callable[[], object]) -> None:
    with pytest.raises(SbpError):
        call()
