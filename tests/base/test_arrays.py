"""Records of arrays compare by content, and never raise."""

import dataclasses

import numpy as np
import pytest
import torch

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.records import Batch
from sbp_bayes.corpus import Corpus, Document


@dataclasses.dataclass(frozen=True, eq=False)
class Record(ArrayRecord):
    array: np.ndarray | None
    tensor: torch.Tensor | None = None
    parts: tuple[np.ndarray, ...] = ()
    name: str = ""


def test_equal_content_is_equal() -> None:
    def record() -> Record:
        return Record(np.array([1.0, np.nan]), torch.tensor([np.nan, 2.0]), (np.arange(3),), "a")

    assert record() == record()


@pytest.mark.parametrize(
    "other",
    [
        Record(np.array([1.0, 2.5])),
        Record(np.array([1.0, 2.0, 3.0])),
        Record(np.array([1, 2])),
        Record(None),
        Record(np.array([1.0, 2.0]), torch.zeros(1)),
        Record(np.array([1.0, 2.0]), None, (np.arange(2),)),
        Record(np.array([1.0, 2.0]), name="b"),
    ],
)
def test_another_entry_shape_format_or_field_is_not(other: Record) -> None:
    record = Record(np.array([1.0, 2.0]))
    assert record != other
    assert other != record
    assert record != "record"


def test_a_record_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Record(None))


def test_batches_and_corpora_compare(tmp_path) -> None:
    batches = [Batch(*(torch.arange(4).reshape(2, 2) + i for _ in range(3))) for i in (0, 0, 1)]
    assert batches[0] == batches[1] != batches[2]
    documents = [Document(id=f"d{i}", text="ab", source="s", metadata={"n": i}) for i in range(2)]
    corpus = Corpus.from_tokens(documents, [np.array([5, 6]), np.array([7])], vocab_size=10)
    corpus.save(tmp_path)
    assert Corpus.load(tmp_path) == corpus != corpus.select([0])
