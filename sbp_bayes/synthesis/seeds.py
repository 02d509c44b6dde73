"""Which document sample j starts from, and its random stream: functions of (seed, j) alone."""

from sbp_bayes.base.seeds import derive_seed


def seed_document(seed: int, sample: int, num_documents: int) -> int:
    """Return the index of the document that sample `sample` is conditioned on, uniform over all.

    Section 2 of the paper draws d1 uniformly from the real documents, with replacement.
    """
    return derive_seed(seed, "seed document", sample) % num_documents  # off uniform by less than N / 2^63


def is_left_out(seed: int, sample: int, share: float) -> bool:
    """Return whether sample `sample` is drawn without its seed document; its probability is `share`."""
    return derive_seed(seed, "left out", sample) < share * 2**63


def stream_seed(seed: int, document_id: str, sample: int) -> int:
    """Return the seed of the random numbers that draw sample `sample`.

    A stream for each sample: prompts that shared one would meet the same noise, and samples of one
    document would not be independent draws of P(d2 | d1).
    """
    return derive_seed(seed, "sample", document_id, sample)
