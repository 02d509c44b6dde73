"""What is fixed by the number of steps alone: the learning rate, and the steps that are validated."""

import math

from sbp_bayes.training.optimiser import OptimiserConfig


def learning_rate(step: int, num_steps: int, config: OptimiserConfig) -> float:
    """Return the learning rate of `step` (0 … num_steps − 1): linear warm-up, then `config.schedule`.

    The rate is `peak_lr` at the last step of the warm-up and `peak_lr · final_lr_ratio` at the last step;
    "wsd" stays at `peak_lr` between the warm-up and the decay.
    """
    done, warmup = step + 1, math.ceil(config.warmup_share * num_steps)
    if done < warmup:
        return config.peak_lr * done / warmup
    if config.schedule == "wsd":
        stable = max(warmup, num_steps - math.ceil(config.decay_share * num_steps))
        fallen = max(0, done - stable) / max(1, num_steps - stable)
        return config.peak_lr * (1.0 - (1.0 - config.final_lr_ratio) * fallen)
    fraction = (done - warmup) / max(1, num_steps - warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * fraction))
    return config.peak_lr * (config.final_lr_ratio + (1.0 - config.final_lr_ratio) * cosine)


def validation_steps(num_steps: int, num_validations: int) -> frozenset[int]:
    """Return the numbers of finished steps after which to validate: 0, num_steps, and evenly between.

    Args:
        num_steps: steps of the whole training.
        num_validations: validations after step 0; fewer where there are fewer steps, none if 0.
    """
    if num_validations == 0:
        return frozenset()
    return frozenset(num_steps * i // num_validations for i in range(num_validations + 1))
