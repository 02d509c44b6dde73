"""Belief-state probe: how much of P(hidden state | tokens so far) is linear in a transformer's activations.

A linear map is fitted by least squares on some documents and judged on others (Shai et al.,
arXiv 2405.15943); an untrained model of the same shape is the control, since random features of the last
tokens explain something already.

Shapes: N documents, T time, S targets, D width, P positions of all documents.
"""

import dataclasses

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sbp_bayes.base.config import require
from sbp_bayes.base.records import EOS
from sbp_bayes.concept.documents import PAD
from sbp_bayes.lm import Transformer
from sbp_bayes.lm.score import TOKENS_PER_BATCH
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeliefProbe:
    """Held-out R² of a linear map from hidden states to belief states, per layer.

    Attributes:
        trained: R² after the embedding (first) and after each layer.
        untrained: the same of a model of the same shape with its initial parameters.
        num_train: documents on which the maps were fitted.
        num_held_out: documents on which they were judged.
    """

    trained: tuple[float, ...]
    untrained: tuple[float, ...]
    num_train: int
    num_held_out: int


def belief_probe(
    model: Transformer,
    documents: Tensor,
    beliefs: Tensor,
    generator: torch.Generator,
    *,
    untrained: Transformer | None = None,
    held_out_share: float = 0.25,
    ridge: float = 1e-6,
) -> BeliefProbe:
    """Fit and judge a linear map to `beliefs` on every layer of `model`, and on an untrained control.

    Args:
        model: a language model of world documents; it reads EOS and then token t as id t + 2.
        documents: world tokens, int64 (N, T), padded behind the end of shorter ones.
        beliefs: [:, t] is the belief state given tokens 0 … t, (N, T, S); not read at padding.
        generator: chooses the documents held out.
        untrained: the control; None builds one of the same shape, with seed 0.
        held_out_share: share of documents held out.
        ridge: penalty on the map's squared norm, as a share of the hidden coordinates' mean variance.

    Raises:
        ConfigError: a setting out of its range, too few documents, documents longer than the model's
            context, or beliefs that never change on the documents held out.
    """
    _check(documents, beliefs, held_out_share)
    control = Transformer(model.config, seed=0).eval() if untrained is None else untrained
    num_held_out = min(max(1, round(held_out_share * len(documents))), len(documents) - 1)
    order = torch.randperm(len(documents), generator=generator)
    held_out_N = torch.zeros(len(documents), dtype=torch.bool)
    held_out_N[order[:num_held_out]] = True
    inputs = torch.where(documents == PAD, EOS, documents + NUM_SPECIAL)
    inputs = torch.nn.functional.pad(inputs, (1, 0), value=EOS)
    real_NT = documents != PAD

    def scores(of: Transformer) -> tuple[float, ...]:
        layers = (states[:, 1:] for states in hidden_states(of, inputs))
        return tuple(
            linear_probe(
                *(part[mask] for mask in _masks(real_NT, held_out_N) for part in (layer, beliefs)),
                ridge=ridge,
            )
            for layer in layers
        )

    return BeliefProbe(
        trained=scores(model),
        untrained=scores(control),
        num_train=len(documents) - num_held_out,
        num_held_out=num_held_out,
    )


def linear_probe(
    train_PD: Float[Tensor, "P D"],
    train_PS: Float[Tensor, "P S"],
    test_PD: Float[Tensor, "Q D"],
    test_PS: Float[Tensor, "Q S"],
    *,
    ridge: float = 0.0,
) -> float:
    """Return the R² on test positions of the affine map that fits the training positions best.

    R² = 1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖², ȳ the test mean, all targets together; it can be negative. The map
    minimises Σ‖y − ŷ‖² + ridge · P · v · ‖map‖², v the hidden coordinates' mean variance.

    Args:
        train_PD: hidden states to fit on.
        train_PS: their targets.
        test_PD: hidden states to judge on.
        test_PS: their targets.
        ridge: 0 is plain least squares (the least norm of the best maps where several are).

    Raises:
        ConfigError: a negative penalty, or test targets that are constant.
    """
    require(ridge >= 0, "ridge", ridge, "0 or more")
    x, y, x_test, y_test = (part.double() for part in (train_PD, train_PS, test_PD, test_PS))
    spread = (y_test - y_test.mean(dim=0)).square().sum()
    require(bool(spread > 0), "test targets' variance", float(spread), "above 0")
    mean_D, mean_S = x.mean(dim=0), y.mean(dim=0)
    centred_PD = x - mean_D
    penalty = (ridge * centred_PD.square().sum() / x.shape[1]).sqrt()
    penalty_DD = penalty * torch.eye(x.shape[1], dtype=x.dtype)
    targets = torch.cat([y - mean_S, y.new_zeros(x.shape[1], y.shape[1])])
    rows = torch.cat([centred_PD, penalty_DD])
    map_DS = torch.linalg.lstsq(rows, targets, driver="gelsd").solution
    error = (y_test - mean_S - (x_test - mean_D) @ map_DS).square().sum()
    return float(1 - error / spread)


@torch.no_grad()
def hidden_states(model: Transformer, inputs: Int64[Tensor, "B T"]) -> list[Float[Tensor, "B T D"]]:
    """Return the residual stream after the embedding and after each layer, (rows, time, width) each.

    Args:
        model: read through forward hooks, which are removed again.
        inputs: token ids, int64 (rows, time); a row is one document.

    Raises:
        ConfigError: the rows are longer than the model's context.
    """
    modules: list[nn.Module] = [model.embedding, *model.layers]
    caught: list[list[Tensor]] = [[] for _ in modules]

    handles = [
        module.register_forward_hook(lambda _, __, output, place=place: place.append(output))
        for module, place in zip(modules, caught, strict=True)
    ]
    try:
        for rows in inputs.split(max(1, TOKENS_PER_BATCH // inputs.shape[1])):
            model.hidden(rows)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(place) for place in caught]


def _masks(real_NT: Tensor, held_out_N: Tensor) -> tuple[Tensor, Tensor]:
    return real_NT & ~held_out_N[:, None], real_NT & held_out_N[:, None]


def _check(documents: Tensor, beliefs: Tensor, held_out_share: float) -> None:
    require(len(documents) >= 2, "documents", len(documents), "at least 2")
    require(0 < held_out_share < 1, "held_out_share", held_out_share, "between 0 and 1")
    fits = beliefs.shape[:2] == documents.shape and beliefs.ndim == 3
    require(fits, "beliefs", tuple(beliefs.shape), f"({', '.join(map(str, documents.shape))}, states)")
