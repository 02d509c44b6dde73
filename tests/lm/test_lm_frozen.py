"""A frozen model: the same answers, and the same bits for a row whatever the other rows are."""

import copy

import torch

from sbp_bayes.base.operators import packed_product
from sbp_bayes.lm import PRESETS, LMConfig, Transformer, generate
from sbp_bayes.lm.frozen import FrozenTransformer, freeze

CONFIG = LMConfig(
    vocab_size=300,
    context_length=70,
    width=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=16,
    hidden_width=80,
    tied_embeddings=False,
)


def random_model() -> Transformer:
    """Gains too are random, so that one in the wrong place is seen."""
    model = Transformer(CONFIG, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, 300, (5, 70), generator=generator), (torch.arange(70) // 21).expand(5, 70)


@torch.no_grad()
def test_a_frozen_model_gives_the_same_logits() -> None:
    model = random_model()
    frozen, expected = freeze(model), model(*inputs())
    assert isinstance(frozen, FrozenTransformer)
    torch.testing.assert_close(frozen(*inputs()), expected, rtol=1e-5, atol=1e-5)
    assert freeze(frozen) is frozen


@torch.no_grad()
def test_later_changes_of_the_weights_do_not_reach_it() -> None:
    model = random_model()
    frozen = freeze(model)
    before = frozen(*inputs())
    for block in model.layers:
        for matrix in (block.qkv, block.attention_out, block.gate_up, block.down):
            matrix.mul_(2)
    assert torch.equal(frozen(*inputs()), before)
    assert not torch.equal(freeze(model)(*inputs()), before)


def test_other_types_are_left_as_they_are() -> None:
    model = random_model().double()
    assert freeze(model) is model
    with torch.device("meta"):
        large = Transformer(PRESETS["toy"], seed=None)
    assert freeze(large) is large


@torch.no_grad()
def test_a_row_of_a_packed_product_has_the_same_bits_in_any_company() -> None:
    generator = torch.Generator().manual_seed(2)
    product = packed_product(torch.randn(96, 40, generator=generator))
    rows = torch.randn(128, 40, generator=generator)
    order = torch.randperm(128, generator=generator)
    assert torch.equal(product(rows)[order], product(rows[order]))
    others = torch.randn(128, 40, generator=generator)
    others[77] = rows[5]
    assert torch.equal(product(others)[77], product(rows)[5])


def test_samples_are_the_same_for_any_number_of_threads() -> None:
    model, tokens = random_model(), inputs()[0]
    prompts = [tokens[i % 5, : 1 + i % 17].numpy() for i in range(200)]
    before, samples = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            drawn = generate(copy.deepcopy(model), prompts, max_new_tokens=30, stream_seeds=range(200))
            samples.append([sample.tokens.tolist() for sample in drawn])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert samples[0] == samples[1] == samples[2]
