"""What a synthesizer reads before it writes: EOS d1 SEP, in token ids."""

import numpy as np
from jaxtyping import Int, Int64

from sbp_bayes.base.records import EOS, SEP


def prompt_tokens(
    d1: Int[np.ndarray, " T1"], max_document_tokens: int | None = None
) -> Int64[np.ndarray, " T"]:
    """Return the prompt EOS d1 SEP of one document, int64 (n + 2,).

    An engine that samples from an exported synthesizer is given these ids, not text: in text, a document
    that spells "<|sep|>" cannot be told from the prompt's end.

    Args:
        d1: token ids, int64 (n,), as `Tokenizer.encode` or `Corpus.document` gives them.
        max_document_tokens: d1 is cut to so many, as in tuning; None leaves it whole.
    """
    return np.concatenate([[EOS], np.asarray(d1)[:max_document_tokens], [SEP]]).astype(np.int64)
