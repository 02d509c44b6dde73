"""Dropout of a training: new numbers in each step, the same ones whenever the step is done again."""

import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.training import EngineConfig, dropout_of_steps, require_dropout


class Recorder:
    """A model that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []

    def set_dropout(self, rate: float, seed: int = 0) -> None:
        self.told.append((rate, seed))


def test_every_step_has_numbers_of_its_own() -> None:
    model, other, none = Recorder(), Recorder(), Recorder()
    begin, begin_other = dropout_of_steps(model, 0.2, seed=5), dropout_of_steps(other, 0.2, seed=6)
    for step in (0, 1, 2, 1):
        begin(step)
        begin_other(step)
        dropout_of_steps(none, 0.0, seed=5)(step)
    assert {rate for rate, _ in model.told} == {0.2}
    seeds = [seed for _, seed in model.told]
    assert len(set(seeds)) == 3
    assert seeds[3] == seeds[1]
    assert not set(seeds) & {seed for _, seed in other.told}
    assert none.told == []


def test_what_cannot_be_left_out_is_named() -> None:
    for rate in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=f"dropout = {rate}"):
            require_dropout(rate, EngineConfig())
    with pytest.raises(ConfigError, match=r"dropout = 0\.1.*engine\.compile"):
        require_dropout(0.1, EngineConfig(compile=True))
    require_dropout(0.0, EngineConfig(compile=True))
