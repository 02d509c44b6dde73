"""Where xformers has no wheel (aarch64, macOS), attention goes without it, and says so if it is asked for."""

import sys

import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.lm.attention import choose_backend


@pytest.fixture
def _cuda_without_xformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without xformers, with a processor's tensors in place of a card's."""
    zeros = torch.zeros

    def on_the_processor(*size: int, device: torch.device, **options: object) -> torch.Tensor:
        return zeros(*size, **options)

    for name in [name for name in sys.modules if name.partition(".")[0] == "xformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setattr(torch, "zeros", on_the_processor)


@pytest.mark.usefixtures("_cuda_without_xformers")
def test_a_card_without_xformers_takes_sdpa_and_says_why_not_xformers() -> None:
    arguments = (torch.device("cuda"), torch.float32, 64)
    choose = choose_backend.__wrapped__  # without its memory of earlier answers
    assert choose("auto", *arguments) == "sdpa"
    with pytest.raises(ConfigError, match=r"attention = 'xformers' cannot run: .*xformers"):
        choose("xformers", *arguments)
