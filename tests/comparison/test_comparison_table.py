"""Losses, differences and shares by arm, and the control that validation chooses."""

import numpy as np
import pytest

from sbp_bayes.comparison import best_control, compared, difference_interval, loss_interval, share_interval

TOKENS = np.array([10.0, 30.0, 20.0, 40.0])


@pytest.fixture
def losses() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    base = 3 * TOKENS + generator.normal(0, 1, (3, 4))
    arms = {"baseline": 0.0, "tuned_baseline": -0.1, "self_distillation": -0.2, "sbp": -0.3, "oracle": -1.0}
    return {arm: base + gain * TOKENS + generator.normal(0, 0.1, (3, 4)) for arm, gain in arms.items()}


def test_each_arm_is_held_against_the_reference_of_its_checkpoint(losses: dict[str, np.ndarray]) -> None:
    records = compared({"best_validation": losses, "last": losses}, TOKENS)
    by = {(r["arm"], r["checkpoint"]): r for r in records}
    assert len(by) == len(records) == 10
    for checkpoint, reference in (("best_validation", "tuned_baseline"), ("last", "baseline")):
        assert by[reference, checkpoint]["delta"] is by[reference, checkpoint]["share"] is None
        own = by["sbp", checkpoint]
        delta = difference_interval(losses["sbp"], losses[reference], TOKENS)
        share = share_interval(losses[reference], losses["sbp"], losses["oracle"], TOKENS)
        assert own["reference"] == reference
        assert own["loss"]["value"] == loss_interval(losses["sbp"], TOKENS).estimate
        assert [own["delta"][key] for key in ("value", "low", "high")] == [
            delta.estimate,
            delta.low,
            delta.high,
        ]
        assert share is not None
        assert own["share"]["low"] == share.low
        assert by["oracle", checkpoint]["share"]["value"] == pytest.approx(1)
    untuned = compared({"best_validation": losses}, TOKENS, against_tuned=False)
    assert {record["reference"] for record in untuned} == {None, "baseline"}


def test_arms_that_were_not_run_leave_their_columns_empty(losses: dict[str, np.ndarray]) -> None:
    (alone,) = compared({"last": {"sbp": losses["sbp"]}}, TOKENS)
    assert (alone["delta"], alone["share"], alone["reference"]) == (None, None, None)
    two = compared({"last": {arm: losses[arm] for arm in ("baseline", "sbp")}}, TOKENS)
    assert two[1]["share"] is None
    assert two[1]["delta"] is not None


def test_validation_chooses_the_control(losses: dict[str, np.ndarray]) -> None:
    validation = {
        arm: np.full(3, value) for arm, value in zip(losses, (3.0, 2.9, 2.8, 1.0, 0.5), strict=True)
    }
    chosen = best_control(validation, losses, TOKENS)
    assert chosen is not None
    assert chosen["arm"] == "self_distillation"
    assert chosen["delta"]["value"] == pytest.approx(-0.1, abs=0.02)
    validation["baseline"] = np.zeros(3)  # whatever test says
    assert best_control(validation, losses, TOKENS)["arm"] == "baseline"  # type: ignore[index]
    assert best_control(validation, {"sbp": losses["sbp"]}, TOKENS) is None
    assert best_control(validation, {"baseline": losses["baseline"]}, TOKENS) is None


def test_one_number_has_no_interval() -> None:
    one = {"baseline": np.array([[2.0]]), "sbp": np.array([[1.8]]), "oracle": np.array([[1.0]])}
    records = {record["arm"]: record for record in compared({"last": one}, np.ones(1))}
    assert records["sbp"]["delta"] == {"value": pytest.approx(-0.2), "low": None, "high": None}
    assert records["sbp"]["share"] == {"value": pytest.approx(0.2), "low": None, "high": None}
    none = one | {"oracle": np.array([[2.5]])}
    assert compared({"last": none}, np.ones(1))[1]["share"] is None
