"""The engine: pieces add up to the whole, and the z-loss is in the gradient alone."""

import pytest
import torch
from tiny_training import TinyModel, TinySource, train_tiny

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import IGNORE, Batch
from sbp_bayes.lm import PRESETS, Transformer
from sbp_bayes.training import EngineConfig, OptimiserConfig
from sbp_bayes.training.engine import Engine


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def uneven_batch(num_rows: int = 5) -> Batch:
    """Rows with different numbers of targets, one with none."""
    batch = TinySource().batch(0)
    repeated = (part.repeat(2, 1)[:num_rows] for part in (batch.inputs, batch.targets, batch.segments))
    whole = Batch(*repeated)
    whole.targets[1] = IGNORE
    whole.targets[2, 3:] = IGNORE
    return whole


@pytest.mark.parametrize("pieces", [2, 3, 5])
def test_pieces_add_up_to_the_whole_batch(pieces: int) -> None:
    batch, computed = uneven_batch(), {}
    num_targets = int((batch.targets != IGNORE).sum())
    for steps in (1, pieces):
        model = TinyModel().double()
        loss = Engine(model, EngineConfig(accumulation_steps=steps), 0.0).backward(batch, num_targets)
        computed[steps] = (loss, gradients(model))
    torch.testing.assert_close(computed[pieces], computed[1], rtol=1e-12, atol=1e-14)
    loss, count = TinyModel().double().loss_sum(batch)
    assert computed[1][0] == pytest.approx((loss / count).item(), rel=1e-12)


def test_training_in_pieces_has_the_same_losses(tmp_path) -> None:
    whole = train_tiny(tmp_path / "whole")
    pieces = train_tiny(tmp_path / "pieces", engine=EngineConfig(accumulation_steps=4))
    for name in ("loss_nats_per_token", "gradient_norm", "validation_nats_per_token"):
        losses = [[r[name] for r in result.history if name in r] for result in (pieces, whole)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_more_pieces_than_rows_are_refused(tmp_path) -> None:
    with pytest.raises(
        ConfigError, match=r"accumulation_steps = 5 is out of range: expected at most 4: a batch"
    ):
        train_tiny(tmp_path, engine=EngineConfig(accumulation_steps=5))
    with pytest.raises(ConfigError, match="accumulation_steps = 0 is out of range"):
        EngineConfig(accumulation_steps=0)


def smoke_batch() -> Batch:
    inputs = torch.arange(128).reshape(4, 32) * 37 % 512
    return Batch(inputs, inputs.roll(-1, dims=1), torch.zeros_like(inputs))


def test_the_z_loss_is_minimised_but_not_reported() -> None:
    """The second road: autograd through whole logits."""
    batch, model, plain = (smoke_batch(), *(Transformer(PRESETS["smoke"], seed=3) for _ in range(2)))
    reported = Engine(model, EngineConfig(), 0.01).backward(batch, 128)
    logits = plain(batch.inputs, batch.segments).flatten(0, 1)
    nats = torch.nn.functional.cross_entropy(logits, batch.targets.flatten())
    (nats + 0.01 * logits.logsumexp(dim=-1).square().mean()).backward()
    assert reported == pytest.approx(nats.item(), rel=1e-5)
    torch.testing.assert_close(gradients(model), gradients(plain), rtol=1e-4, atol=1e-6)


def test_the_z_loss_reaches_the_weights(tmp_path) -> None:
    class Regularised(TinyModel):
        def regularised_loss_sum(self, batch, z_loss):
            loss, _ = self.loss_sum(batch)
            return loss + z_loss * self.hidden.weight.square().sum() * 1e3, loss.detach()

    results = {
        z_loss: train_tiny(
            tmp_path / str(z_loss), model=Regularised(), optimiser=OptimiserConfig(z_loss=z_loss)
        )
        for z_loss in (0.0, 0.1)
    }
    first, last = ([result.history[index] for result in results.values()] for index in (1, -2))
    assert first[0]["loss_nats_per_token"] == first[1]["loss_nats_per_token"]
    assert first[0]["gradient_norm"] < first[1]["gradient_norm"]
    assert last[0]["loss_nats_per_token"] != last[1]["loss_nats_per_token"]
