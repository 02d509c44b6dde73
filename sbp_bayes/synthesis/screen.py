"""What is dropped of the samples: the empty, the repetitive, copies of the seed document, and duplicates."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.repetition import RepetitionRule
from sbp_bayes.synthesis.shards import Shard

REASONS = ("empty", "repetitive", "copy_of_seed", "duplicate")
"""Why a sample is dropped, in the order of judgement: a sample counts under the first that applies.

A copy of the seed document repeats it from its start, whole or up to where the sample ends; a
duplicate equals an earlier sample token for token.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScreenConfig:
    """Which samples pass.

    Attributes:
        reasons: those for which a sample is dropped. Where short documents come again by right, as in a toy
            world, dropping duplicates would bend the distribution that is sampled.
        repetition: what counts as repetitive.
        min_kept_share: the synthesis gives up where fewer of the samples pass; judged from sample
            `judged_after` on, so that a synthesizer that writes nothing of use does not run for ever.
        judged_after: samples before the first judgement.
    """

    reasons: tuple[str, ...] = REASONS
    repetition: RepetitionRule = dataclasses.field(default_factory=RepetitionRule)
    min_kept_share: float = 0.05
    judged_after: int = 1000

    def __post_init__(self) -> None:
        require(set(self.reasons) <= set(REASONS), "reasons", self.reasons, f"some of {', '.join(REASONS)}")
        require(0 <= self.min_kept_share <= 1, "min_kept_share", self.min_kept_share, "a share, 0 to 1")
        require(self.judged_after >= 1, "judged_after", self.judged_after, "at least 1")


class Screen:
    """Takes samples in order and keeps those that pass, until enough tokens are kept.

    What is kept depends on the samples and their order alone, not on how they are cut into shards.

    Attributes:
        counts: samples taken, kept, cut at the length limit, and dropped by reason.
        kept_tokens: Σ (n + 1) over the kept samples.
    """

    def __init__(self, config: ScreenConfig, num_tokens: int) -> None:
        """Start with nothing kept; `num_tokens` is how many tokens are enough."""
        self.config = config
        self.num_tokens = num_tokens
        self.kept_tokens = 0
        self.counts = Counter(dict.fromkeys(("samples", "kept", "cut", *REASONS), 0))
        self._seen: set[bytes] = set()

    @property
    def is_full(self) -> bool:
        """Whether enough tokens are kept."""
        return self.kept_tokens >= self.num_tokens

    def take(self, shard: Shard, seed_documents: Sequence[np.ndarray]) -> list[int]:
        """Return which samples of the next shard are kept, as indices into it, up to the last one needed.

        Args:
            shard: the samples that follow those taken before.
            seed_documents: tokens of each sample's seed document, int64; empty where it has none.

        Raises:
            CorpusError: fewer than `min_kept_share` of the samples so far passed.
        """
        repetitive = self.config.repetition.flags(shard.tokens, shard.offsets)
        kept = []
        for index in range(len(shard)):
            if self.is_full:
                break
            tokens = shard.sample(index)
            reason = self._reason(tokens, bool(repetitive[index]), seed_documents[index])
            if reason not in self.config.reasons:
                reason = None
            self.counts["samples"] += 1
            self.counts["cut"] += not shard.finished[index]
            self.counts[reason or "kept"] += 1
            if reason is None:
                kept.append(index)
                self.kept_tokens += len(tokens) + 1
            self._give_up_if_hopeless()
        return kept

    def _reason(self, tokens: np.ndarray, repetitive: bool, seed_document: np.ndarray) -> str | None:
        if len(tokens) == 0:
            return "empty"
        if repetitive:
            return "repetitive"
        if np.array_equal(tokens, seed_document[: len(tokens)]):
            return "copy_of_seed"
        digest = hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
        if digest in self._seen:
            return "duplicate"
        self._seen.add(digest)
        return None

    def _give_up_if_hopeless(self) -> None:
        taken, kept = self.counts["samples"], self.counts["kept"]
        if taken >= self.config.judged_after and kept < self.config.min_kept_share * taken:
            dropped = ", ".join(f"{self.counts[reason]} {reason}" for reason in REASONS)
            raise CorpusError(
                f"the screen kept {kept} of {taken} samples ({dropped}): the synthesizer is unfit"
            )
