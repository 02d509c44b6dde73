"""The fused cross entropy equals the plain one, in value and gradient, whatever its chunks."""

import pytest
import torch

from sbp_bayes.base.records import IGNORE
from sbp_bayes.lm import loss as loss_module
from sbp_bayes.lm.loss import linear_cross_entropy, regularised_cross_entropy, token_losses


def problem(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 6, generator=generator, dtype=dtype, requires_grad=True)
    head = torch.randn(9, 6, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 9, (11,), generator=generator)
    targets[[2, 7]] = IGNORE
    return hidden, head, targets


def plain(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="sum", ignore_index=IGNORE)


@pytest.mark.parametrize("chunk", [1, 4, 9, 512])
def test_value_and_gradients_equal_plain_cross_entropy(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK", chunk)
    hidden, head, targets = problem()
    fused, expected = linear_cross_entropy(hidden, head, targets), plain(hidden, head, targets)
    torch.testing.assert_close(fused, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(3 * fused, (hidden, head)),
        torch.autograd.grad(3 * expected, (hidden, head)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK", 4)
    hidden, head, targets = problem()
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets), (hidden, head))


def test_the_z_term_and_its_gradient_are_those_of_whole_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK", 4)
    hidden, head, targets = problem()
    loss, nats = regularised_cross_entropy(hidden, head, targets, None, 0.3)
    log_z = (hidden @ head.T)[targets != IGNORE].logsumexp(dim=1)
    expected = plain(hidden, head, targets) + 0.3 * log_z.square().sum()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(nats, plain(hidden, head, targets).detach(), rtol=1e-10, atol=0)
    assert not nats.requires_grad
    for ours, theirs in zip(
        torch.autograd.grad(loss, (hidden, head)), torch.autograd.grad(expected, (hidden, head)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_one_side_may_be_frozen() -> None:
    hidden, head, targets = problem()
    (gradient,) = torch.autograd.grad(linear_cross_entropy(hidden, head.detach(), targets), hidden)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain(hidden, head, targets), hidden)[0])


def test_huge_logits_stay_finite() -> None:
    hidden, head, targets = problem(torch.float32)
    value = linear_cross_entropy(hidden * 1e4, head * 1e2, targets)
    torch.testing.assert_close(value, plain(hidden * 1e4, head * 1e2, targets), rtol=1e-5, atol=0)


def test_without_gradients_and_without_targets() -> None:
    hidden, head, targets = problem()
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, head, targets), plain(hidden, head, targets))
    nothing = torch.full_like(targets, IGNORE)
    loss = linear_cross_entropy(hidden, head, nothing)
    loss.backward()
    assert loss == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_token_losses_are_the_summands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK", 4)
    hidden, head, targets = problem()
    targets = targets.clamp(min=0)
    expected = torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="none")
    torch.testing.assert_close(
        token_losses(hidden, lambda chunk: chunk @ head.T, targets), expected.detach(), rtol=1e-10, atol=0
    )
