"""Settings: defaults, then flags, then --set, decoded strictly."""

import dataclasses

import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.cli.settings import configure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser:
    peak_lr: float = 0.1
    weight_decay: float = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    width: int
    name: str = "small"
    paths: tuple[str, ...] = ()
    patience: int | None = 3
    optimiser: Optimiser = Optimiser(peak_lr=0.5)
    other: Optimiser = dataclasses.field(default_factory=lambda: Optimiser(peak_lr=0.7))


def test_later_sources_win():
    assert configure(Settings, {"width": None}, [], width=1).width == 1
    assert configure(Settings, {"width": 2}, [], width=1).width == 2
    assert configure(Settings, {"width": 2}, ["width=3"], width=1).width == 3
    assert configure(Settings, {"width": 0}, [], width=1).width == 0


def test_one_part_of_a_nested_setting_keeps_the_others_defaults():
    config = configure(Settings, {"width": 1}, ["optimiser.weight_decay=0", "other.weight_decay=1"])
    assert config.optimiser == Optimiser(peak_lr=0.5, weight_decay=0.0)
    assert config.other == Optimiser(peak_lr=0.7, weight_decay=1.0)


def test_values_are_json_or_bare_strings():
    config = configure(Settings, {"width": 1}, ["name=lsa", 'paths=["a", "b=c"]', "patience=null"])
    assert (config.name, config.paths, config.patience) == ("lsa", ("a", "b=c"), None)
    assert configure(Settings, {"width": 1}, ["name=a=b"]).name == "a=b"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("width", "--set width: expected key=value"),
        ("=3", "--set =3: expected key=value"),
        ("widht=3", "unknown setting 'widht' (did you mean 'width'?)"),
        ("optimiser.peak=3", "unknown setting 'optimiser.peak' (did you mean 'optimiser.peak_lr'?)"),
        ("width=big", "width = 'big': expected int, got str"),
        ("width=1.5", "width = 1.5: expected int, got float"),
        ("width.inner=1", "--set width.inner: width has no settings of its own"),
        ("optimiser=0.1", "optimiser: expected settings by name (peak_lr, weight_decay), got 0.1"),
    ],
)
def test_mistakes_are_named(assignment, message):
    with pytest.raises(ConfigError) as raised:
        configure(Settings, {"width": 1}, [assignment])
    assert str(raised.value) == message
