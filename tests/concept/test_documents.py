"""Documents of a concept model: padding, prefixes, extensions, and what is refused."""

import pytest
import torch

from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept import PAD, document_lengths, pad_documents, prefixes
from sbp_bayes.concept.documents import check_documents, extensions


def test_documents_of_several_lengths_are_padded_behind_their_end():
    d = pad_documents([torch.tensor([2, 0]), torch.tensor([1]), torch.tensor([], dtype=torch.int64)])
    assert d.tolist() == [[2, 0], [1, PAD], [PAD, PAD]]
    assert document_lengths(d).tolist() == [2, 1, 0]
    assert torch.equal(check_documents(d, 3), d)


def test_prefixes_by_hand():
    expected = [[[PAD, PAD], [2, PAD], [2, 0]], [[PAD, PAD], [1, PAD], [1, PAD]]]
    assert prefixes(torch.tensor([[2, 0], [1, PAD]])).tolist() == expected


def test_extensions_by_hand():
    longer = extensions(torch.tensor([[1, PAD], [0, 1]]), 2)
    assert longer.tolist() == [[[1, 0, PAD], [1, 1, PAD]], [[0, 1, 0], [0, 1, 1]]]
    assert extensions(torch.empty(1, 0, dtype=torch.int64), 2).tolist() == [[[0], [1]]]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (torch.tensor([[0, 1], [0, 3]]), "document 1 has token 3 at position 1: expected 0 to 2"),
        (torch.tensor([[0, -2]]), "document 0 has token -2 at position 1"),
        (torch.tensor([[PAD, 0]]), "document 0 has token 0 at position 1"),
        (torch.tensor([[0.0]]), "torch.float32"),
        (torch.tensor([0]), r"shape \(1,\)"),
    ],
)
def test_what_is_no_document_is_named(documents, message):
    with pytest.raises(ConceptError, match=message):
        check_documents(documents, 3)
