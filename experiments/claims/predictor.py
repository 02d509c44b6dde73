"""How much SBP will gain, said before any training, and how well that is borne out.

The predictor was chosen before the runs: with I = I(d1; d2) in nats a token, all that a document tells of
another of its concept, and r = the repetitions of D_unique within the budget, the gain over repetition is

    a + b I + c log r + d I log r,

since what repetition wastes grows with r, and pairs can give back at most what they share.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.claims.evidence import Evidence
from sbp_bayes.base.seeds import numpy_generator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """One setting's gain, foretold and measured.

    Attributes:
        world: its name.
        information: I(d1; d2), nats a token.
        repetitions: of D_unique within the budget.
        gain: measured, baseline − SBP at best checkpoints on validation, nats a token, mean over seeds.
        predicted: the gain by a fit that has not seen this setting.
    """

    world: str
    information: float
    repetitions: float
    gain: float
    predicted: float


def predict_settings(evidence: Evidence) -> list[Prediction]:
    """Predict each setting of the phase diagram from the others; none without a phase diagram."""
    if evidence.phase_diagram is None:
        return []
    cells = evidence.phase_diagram["cells"]
    design, gains = _fitted(cells)
    left_out = gains - _left_out_errors(design, gains)
    return [
        Prediction(
            world=cell["world"],
            information=cell["information"],
            repetitions=cell["repetitions"],
            gain=cell["gain"],
            predicted=float(predicted),
        )
        for cell, predicted in zip(cells, left_out, strict=True)
    ]


def predict_worlds(evidence: Evidence) -> list[Prediction]:
    """Predict the gain in the other worlds from the phase diagram; none without one."""
    if evidence.phase_diagram is None:
        return []
    cells = evidence.phase_diagram["cells"]
    design, gains = _fitted(cells)
    weights = np.linalg.pinv(design) @ gains
    predictions = []
    for world in evidence.validations:
        if evidence.is_measured(world) and world != cells[0]["world"]:
            known = evidence.information(world), evidence.repetitions(world)
            predictions.append(
                Prediction(
                    world=world,
                    information=known[0],
                    repetitions=known[1],
                    gain=float(evidence.gain(world).mean()),
                    predicted=float(features(*known) @ weights),
                )
            )
    return predictions


def features(information: float, repetitions: float) -> np.ndarray:
    """Return 1, I, log r and I log r of one setting, (4,)."""
    log_r = np.log(repetitions)
    return np.array([1.0, information, log_r, information * log_r])


def explained(predictions: Sequence[Prediction]) -> float:
    """Return R² of the predictions."""
    return r_squared([p.gain for p in predictions], [p.predicted for p in predictions])


def r_squared(gains: Sequence[float], predicted: Sequence[float]) -> float:
    """Return R² = 1 − Σ (gain − predicted)² / Σ (gain − mean)²; below 0 is worse than the mean."""
    gains_N = np.asarray(gains)
    return float(1.0 - ((gains_N - predicted) ** 2).sum() / ((gains_N - gains_N.mean()) ** 2).sum())


def chance_of(cells: Sequence[dict[str, float]], num_deals: int = 9999) -> float:
    """Return the p-value of leave-one-out R²: how often gains dealt to the settings anew are told as well."""
    design, gains = _fitted(cells)
    generator = numpy_generator(0, "chance of a prediction")
    dealt_RN = generator.permuted(np.tile(gains, (num_deals, 1)), axis=1)
    error, error_R = ((_left_out_errors(design, g) ** 2).sum(-1) for g in (gains, dealt_RN))
    return float(1 + (error_R <= error * (1 + 1e-12)).sum()) / (1 + num_deals)


def _left_out_errors(design: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return each gain less its prediction by a fit to the others, shaped as gains, (…, settings)."""
    hat = design @ np.linalg.pinv(design)
    return (gains - gains @ hat) / (1.0 - np.diag(hat))


def _fitted(cells: Sequence[dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    design = np.stack([features(cell["information"], cell["repetitions"]) for cell in cells])
    return design, np.array([cell["gain"] for cell in cells])
