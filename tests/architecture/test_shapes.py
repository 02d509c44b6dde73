"""Array shapes at the borders of concept, lm, synthesizer and evaluation are checked by the tests."""

from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from sbp_bayes.evaluation import loss_interval
from sbp_bayes.evaluation.worlds.probe import linear_probe
from sbp_bayes.lm import PRESETS, Transformer
from sbp_bayes.lm.attention import attention
from sbp_bayes.lm.loss import linear_cross_entropy
from sbp_bayes.lm.masks import CausalMask
from sbp_bayes.synthesizer import TemperedSynthesizer
from toy_worlds import make_world

WORLD = make_world("unigram_mixture", num_concepts=2, vocab_size=3, doc_length=2)
DOCUMENTS = torch.zeros(4, 2, dtype=torch.int64)
HEADS = torch.zeros(2, 4, 5, 8)

WRONG: dict[str, Callable[[], Any]] = {
    "a document without its batch": lambda: WORLD.log_prob(DOCUMENTS[0]),
    "documents of another type": lambda: WORLD.posterior(DOCUMENTS.double()),
    "as many d1 as d2": lambda: WORLD.log_prob_pair(DOCUMENTS, given=DOCUMENTS[:3]),
    "concepts that are rows": lambda: WORLD.sample(DOCUMENTS, torch.Generator()),
    "a prompt without its batch": lambda: Transformer(PRESETS["smoke"])(DOCUMENTS[0]),
    "segments of other rows": lambda: Transformer(PRESETS["smoke"])(DOCUMENTS, DOCUMENTS[:2]),
    "values of other keys": lambda: attention(HEADS, HEADS, HEADS[:, :, :3], CausalMask(2, 5)),
    "targets of other positions": lambda: linear_cross_entropy(
        torch.zeros(3, 4), torch.zeros(7, 4), torch.zeros(2, dtype=torch.int64)
    ),
    "weights of one document": lambda: TemperedSynthesizer(WORLD, 1.0).log_weights(DOCUMENTS[0]),
    "losses of one seed without its axis": lambda: loss_interval(np.zeros(3), np.ones(3, np.int64)),
    "a probe's targets of other positions": lambda: linear_probe(*[torch.zeros(n, 2) for n in (5, 4, 3, 3)]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_shape_is_refused(case: str) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        WRONG[case]()
