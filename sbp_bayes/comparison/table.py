"""The compute-matched comparison as numbers: losses, paired differences, and shares of the oracle's gain."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sbp_bayes.arms import ARMS, reference_of
from sbp_bayes.evaluation import Interval, difference_interval, loss_interval, share_interval

LossesByArm = Mapping[str, np.ndarray]
"""Arm → summed nats, (seeds, documents); all arms of the same seeds, on the same documents."""


def compared(
    losses: Mapping[str, LossesByArm], tokens_D: np.ndarray, *, against_tuned: bool = True
) -> list[dict[str, Any]]:
    """Return one record for each arm and checkpoint, as JSON types.

    `loss` is the mean in nats per token; `delta` the difference to the reference's at the same checkpoint,
    below zero where the arm is better (see `arms.reference_of`); `share` that of the oracle's gain over the
    reference, None for the reference itself, and where the oracle was not run or its gain cannot be told from
    0. Each is a value with its 95% interval, see `evaluation.difference_interval`; one seed with one number
    has none.

    Args:
        losses: by checkpoint, the arms' losses.
        tokens_D: of each document; or one number, where seeds have documents of their own and `losses` one
            mean per token for each.
        against_tuned: whether the reference at best checkpoints is repetition at its best weight decay, where
            it was run; else it is the baseline everywhere.
    """
    records = []
    for checkpoint, by_arm in losses.items():
        reference = reference_of(by_arm, checkpoint) if against_tuned else "baseline"
        base_SD, oracle_SD = by_arm.get(reference), by_arm.get("oracle")
        for arm, own_SD in by_arm.items():
            record: dict[str, Any] = {"arm": arm, "checkpoint": checkpoint, "reference": None, "share": None}
            record["loss"] = _estimate(own_SD, tokens_D)
            record["delta"] = None
            if base_SD is not None and arm != reference:
                record |= {"reference": reference, "delta": _difference(own_SD, base_SD, tokens_D)}
                if oracle_SD is not None:
                    record["share"] = _share(base_SD, own_SD, oracle_SD, tokens_D)
            records.append(record)
    return records


def best_control(
    validation: Mapping[str, np.ndarray], losses: LossesByArm, tokens_D: np.ndarray, method: str = "sbp"
) -> dict[str, Any] | None:
    """Hold the method against the arm of repetition or control that is best on validation.

    Args:
        validation: best validation loss of each arm, (seeds,), which chooses the control; test does not.
        losses: on test, at best checkpoints on validation.
        tokens_D: see `compared`.
        method: the arm that claims something.

    Returns:
        `arm`, and `delta`: the method's test loss less the control's, with its 95% interval. None where the
        method or every control is missing.
    """
    controls = [arm for arm in losses if ARMS[arm].role in ("repetition", "control")]
    if method not in losses or not controls:
        return None
    control = min(controls, key=lambda arm: validation[arm].mean())
    return {"arm": control, "delta": _difference(losses[method], losses[control], tokens_D)}


def _estimate(loss_SD: np.ndarray, tokens_D: np.ndarray) -> dict[str, float | None]:
    if loss_SD.size == 1:
        return _alone(loss_SD.item() / float(tokens_D.sum()))
    return _written(loss_interval(loss_SD, tokens_D))


def _difference(first_SD: np.ndarray, second_SD: np.ndarray, tokens_D: np.ndarray) -> dict[str, float | None]:
    if first_SD.size == 1:
        return _alone((first_SD - second_SD).item() / float(tokens_D.sum()))
    return _written(difference_interval(first_SD, second_SD, tokens_D))


def _share(
    base_SD: np.ndarray, own_SD: np.ndarray, oracle_SD: np.ndarray, tokens_D: np.ndarray
) -> dict[str, float | None] | None:
    if own_SD.size == 1:
        gain, possible = (base_SD - own_SD).item(), (base_SD - oracle_SD).item()
        return _alone(gain / possible) if possible > 0 else None
    share = share_interval(base_SD, own_SD, oracle_SD, tokens_D)
    return None if share is None else _written(share)


def _alone(value: float) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None}


def _written(interval: Interval) -> dict[str, float | None]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}
