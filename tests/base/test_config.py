"""Configurations are decoded strictly, and their fingerprints depend on their content alone."""

import dataclasses
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbp_bayes.base.config import decode, did_you_mean_path, encode, fingerprint, require
from sbp_bayes.base.errors import ConfigError, SbpError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser:
    peak_lr: float = 0.1
    nesterov: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    width: int
    name: str = "small"
    kind: Literal["a", "b"] = "a"
    paths: tuple[str, ...] = ()
    patience: int | None = None
    optimiser: Optimiser = Optimiser()


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherSettings(Settings):
    pass


settings = st.builds(
    Settings,
    width=st.integers(),
    name=st.text(),
    kind=st.sampled_from(["a", "b"]),
    paths=st.lists(st.text()).map(tuple),
    patience=st.none() | st.integers(),
    optimiser=st.builds(Optimiser, peak_lr=st.floats(allow_nan=False), nesterov=st.booleans()),
)


@given(settings)
def test_decoding_json_of_an_encoded_configuration_returns_it(config):
    assert decode(Settings, json.loads(json.dumps(encode(config)))) == config


@given(settings, settings)
def test_fingerprints_are_equal_exactly_where_configurations_are(first, second):
    assert (fingerprint(first) == fingerprint(second)) == (repr(first) == repr(second))
    assert fingerprint(first) == fingerprint(decode(Settings, encode(first)))


def test_fingerprints_tell_classes_and_parts_apart_and_ignore_the_order_of_keys():
    values = {"width": 3}
    assert fingerprint(Settings(**values)) != fingerprint(OtherSettings(**values))
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(1) != fingerprint("1")
    assert fingerprint({"a": [1, None]}) == "79052010cc25b31c"  # stored runs rely on it


def test_missing_keys_take_defaults_and_ints_serve_as_floats():
    config = decode(Settings, {"width": 2, "optimiser": {"peak_lr": 1}})
    assert config == Settings(width=2, optimiser=Optimiser(peak_lr=1.0))
    assert isinstance(config.optimiser.peak_lr, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 2}, "unknown setting 'widht' (did you mean 'width'?)"),
        (
            {"width": 1, "optimiser": {"peak_rl": 2}},
            "unknown setting 'optimiser.peak_rl' (did you mean 'optimiser.peak_lr'?)",
        ),
        ({"width": 1, "peak_lr": 2}, "unknown setting 'peak_lr' (did you mean 'optimiser.peak_lr'?)"),
        ({"zzz": 2}, "unknown setting 'zzz' (known: kind, name, optimiser, paths, patience, width)"),
        ({}, "missing setting 'width'"),
        ({"width": "2"}, "width = '2': expected int, got str"),
        ({"width": 2.0}, "width = 2.0: expected int, got float"),
        ({"width": True}, "width = True: expected int, got bool"),
        ({"width": None}, "width = None: expected int, got NoneType"),
        ({"width": 1, "kind": "c"}, "kind = 'c': expected one of a, b"),
        ({"width": 1, "paths": "abc"}, "paths = 'abc': expected a list"),
        ({"width": 1, "paths": ["a", 1]}, "paths[1] = 1: expected str, got int"),
        ({"width": 1, "patience": 0.5}, "patience = 0.5: expected int, got float"),
        ({"width": 1, "optimiser": {"nesterov": 1}}, "optimiser.nesterov = 1: expected bool, got int"),
        ({"width": 1, "optimiser": {"peak_lr": True}}, "optimiser.peak_lr = True: expected float, got bool"),
        ({"width": 1, "optimiser": 3}, "optimiser: expected settings by name (nesterov, peak_lr), got 3"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as raised:
        decode(Settings, values)
    assert str(raised.value) == message
    assert isinstance(raised.value, SbpError)


def test_require_names_key_value_and_range():
    require(True, "alpha", 2, "below 1")
    with pytest.raises(ConfigError, match=r"^alpha = 2 is out of range: expected below 1$"):
        require(False, "alpha", 2, "below 1")


def test_of_settings_with_one_name_the_one_in_the_same_place_is_meant():
    paths = ["seed", "tune.seed", "pairs.seed", "pairs.rules.alpha"]
    assert did_you_mean_path("pairs.sed", paths) == " (did you mean 'pairs.seed'?)"
    assert did_you_mean_path("sed", paths) == " (did you mean 'seed'?)"
    assert did_you_mean_path("pairs.alpha", paths) == " (did you mean 'pairs.rules.alpha'?)"
    assert did_you_mean_path("pairs.zzz", paths) == ""
