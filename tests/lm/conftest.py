"""The library that exports are compared with, and a tokenizer to export."""

from types import ModuleType

import pytest
from hf_models import SMALL, TEXTS

from sbp_bayes.corpus import Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """The library, imported where it is needed alone: that takes seconds."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, SMALL.vocab_size)
