"""Which row of which corpus each step reads: real text repeated, synthetic text only if allowed."""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from sbp_bayes.base.config import fingerprint, require, require_one_of
from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import Batch

if TYPE_CHECKING:
    from sbp_bayes.corpus import EpochStream


Order = Literal["mixed", "synthetic_first"]
"""When synthetic rows are read: evenly over the run, as in the paper, or all of them before the real ones."""


def synthetic_rows(synthetic_share: float, num_steps: int, rows_per_batch: int) -> int:
    """Return how many of a run's num_steps · rows_per_batch rows are synthetic: the share, rounded."""
    return round(synthetic_share * num_steps * rows_per_batch)


class Mixture:
    """Batches of real and synthetic rows: a `training.BatchSource`.

    Of the run's rows `synthetic_rows` are synthetic; where they are mixed, their number is after every step
    within one row of the share of all rows so far. Each stream is read in its own order from its first row
    on, so a share of 0 reads the real stream alone, exactly as the baseline does.

    Args:
        real: repeated as often as the budget asks.
        synthetic: read once at most unless `repeat_synthetic`; may be None at a share of 0.
        synthetic_share: share of the budget's rows that are synthetic, 0 to 1 (75/200 in the paper's
            3B run of 200B tokens).
        num_steps: steps of the run.
        rows_per_batch: rows a step.
        repeat_synthetic: whether synthetic text may be read again, as real text is: each time in another
            order, as often as the share asks.
        order: when synthetic rows are read.

    Raises:
        CorpusError: the synthetic corpus holds fewer rows than the share asks for and may not be repeated.
        ConfigError: a value out of its range, a share above 0 without a synthetic corpus, or streams
            of two context lengths.
    """

    def __init__(
        self,
        real: "EpochStream",
        synthetic: "EpochStream | None" = None,
        *,
        synthetic_share: float,
        num_steps: int,
        rows_per_batch: int,
        repeat_synthetic: bool = False,
        order: Order = "mixed",
    ) -> None:
        require_one_of("order", order, get_args(Order))
        require(0 <= synthetic_share <= 1, "synthetic_share", synthetic_share, "0 to 1")
        require(num_steps >= 0, "num_steps", num_steps, "0 or more")
        require(rows_per_batch > 0, "rows_per_batch", rows_per_batch, "a positive number")
        if synthetic_share > 0 and synthetic is None:
            raise ConfigError(f"synthetic_share = {synthetic_share} needs a synthetic corpus")
        self.real = real
        self.synthetic = synthetic if synthetic_share > 0 else None
        self.num_steps = num_steps
        self.rows_per_batch = rows_per_batch
        self.order = order
        self.context_length = real.context_length
        self.num_synthetic_rows = synthetic_rows(synthetic_share, num_steps, rows_per_batch)
        self._refuse_other_lengths()
        if not repeat_synthetic:
            self._refuse_repetition()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the sequence of batches."""
        synthetic = self.synthetic and self.synthetic.fingerprint
        sizes = [self.num_synthetic_rows, self.num_steps, self.rows_per_batch]
        return fingerprint("Mixture", self.real.fingerprint, synthetic, sizes, self.order)

    def batch(self, step: int) -> Batch:
        """Return the rows of `step`, the real ones first, as int64 (rows_per_batch, context_length)."""
        real, synthetic = self._rows_before(step)
        real_end, synthetic_end = self._rows_before(step + 1)
        rows = [self.real.row(row) for row in range(real, real_end)]
        if self.synthetic is not None:
            rows += [self.synthetic.row(row) for row in range(synthetic, synthetic_end)]
        inputs, targets, segments = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return Batch(inputs, targets, segments)

    def tokens_by_source(self, step: int) -> dict[str, int]:
        """Return the positions that the first `step` steps read from each corpus."""
        real, synthetic = self._rows_before(step)
        return {"real": real * self.context_length, "synthetic": synthetic * self.context_length}

    def epochs_by_source(self, step: int) -> dict[str, float]:
        """Return how often the first `step` steps went through each corpus."""
        real, synthetic = self._rows_before(step)
        synthetic_epochs = self.synthetic.epoch_of(synthetic) if self.synthetic is not None else 0.0
        return {"real": self.real.epoch_of(real), "synthetic": synthetic_epochs}

    def _rows_before(self, step: int) -> tuple[int, int]:
        """Return the real and synthetic rows of the first `step` steps, rounded in integers."""
        if self.order == "synthetic_first":
            synthetic = min(step * self.rows_per_batch, self.num_synthetic_rows)
            return step * self.rows_per_batch - synthetic, synthetic
        synthetic = (2 * step * self.num_synthetic_rows + self.num_steps) // (2 * max(1, self.num_steps))
        return step * self.rows_per_batch - synthetic, synthetic

    def _refuse_other_lengths(self) -> None:
        if self.synthetic is not None and self.synthetic.context_length != self.context_length:
            raise ConfigError(
                f"context_length = {self.synthetic.context_length} of the synthetic stream "
                f"differs from the real stream's {self.context_length}"
            )

    def _refuse_repetition(self) -> None:
        if self.synthetic is not None and self.num_synthetic_rows > self.synthetic.rows_per_epoch:
            needed = self.num_synthetic_rows * self.context_length
            raise CorpusError(
                f"the synthetic corpus holds {self.synthetic.num_tokens:,} tokens, but the mixture needs "
                f"{needed:,} and repeats none: generate more, lower synthetic_share, or set repeat_synthetic"
            )
