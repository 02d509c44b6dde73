"""A small model for exports, and text for its tokenizer."""

import torch

from sbp_bayes.lm import LMConfig, Transformer

SMALL = LMConfig(
    vocab_size=300,
    context_length=80,
    width=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=16,
    hidden_width=56,
    rope_theta=3_000.0,
    norm_eps=1e-5,
    tied_embeddings=False,
)
TEXTS = ["to be or not to be, that is the question. " * 9, "the cat sat on the mat; so it did. " * 9]


def random_model(config: LMConfig = SMALL, seed: int = 1) -> Transformer:
    """A model whose gains are random too, so that none can be exchanged unseen."""
    model, generator = Transformer(config, seed=seed).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model
