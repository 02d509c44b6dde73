"""How much SBP will gain, said before any training, and how well that is borne out.

The predictor was chosen before the runs: with I = I(d1; d2) in nats a token, all that a document tells of
another of its concept, and r = the repetitions of D_unique within the budget, the gain over repetition is

    a + b I + c log r + d I log r,

since what repetition wastes grows with r, and pairs can give back at most what they share.
"""

import numpy as np


def features(information: np.ndarray, repetitions: np.ndarray) -> np.ndarray:
    """Return 1, I, log r and I log r of N settings, (N, 4).

    Args:
        information: I(d1; d2), nats a token, (N,).
        repetitions: budget over D_unique's tokens, above 0, (N,).
    """
    log_r = np.log(repetitions)
    return np.column_stack([np.ones_like(log_r), information, log_r, information * log_r])


def leave_one_out_r2(design: np.ndarray, targets: np.ndarray) -> float:
    """Return 1 − Σ (y − ŷ₋ᵢ)² / Σ (y − ȳ)² of the linear fit to `design`, each ŷ without its own point."""
    hat = design @ np.linalg.pinv(design)
    left_out = (targets - hat @ targets) / (1.0 - np.diag(hat))
    return float(1.0 - (left_out**2).sum() / ((targets - targets.mean()) ** 2).sum())


def transferred_r2(
    design: np.ndarray, targets: np.ndarray, elsewhere: np.ndarray, gains: np.ndarray
) -> float:
    """Return R² on other settings, (elsewhere, gains), of the fit to (design, targets); below 0 is worse
    than their mean."""
    predicted = elsewhere @ (np.linalg.pinv(design) @ targets)
    return float(1.0 - ((gains - predicted) ** 2).sum() / ((gains - gains.mean()) ** 2).sum())
