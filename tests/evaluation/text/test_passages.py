"""Passages that synthetic text shares with real text, as places in it."""

import numpy as np

from sbp_bayes.corpus import Corpus, Tokenizer, train_tokenizer
from sbp_bayes.evaluation import overlapping_passages
from sbp_bayes.evaluation.text.passages import _place


def tokenizer() -> Tokenizer:
    return train_tokenizer(["the quick brown fox jumps over the lazy dog " * 20], vocab_size=300)


def test_passages_of_d1_and_of_other_documents():
    own = tokenizer()
    real = Corpus.build(["abcdefgh", "zvwxyz", "nothing"], own)
    synthetic = Corpus.build(["12 abcdef 34 zvwxy 56 nothin 78 abcd"], own)
    text = synthetic.texts[0]
    (found,) = overlapping_passages(synthetic, np.array([0]), real, own, min_tokens=4)
    shown = [(text[p.start : p.end], p.source) for p in found]
    assert shown == [("abcdef", "first"), ("zvwxy", "unique"), ("nothin", "unique"), ("abcd", "first")]
    (none,) = overlapping_passages(synthetic, np.array([0]), real, own, min_tokens=40)
    assert none == []


def test_a_place_within_a_character_is_its_beginning():
    own, text = tokenizer(), "aé日b"
    tokens = own.encode([text])[0]
    places = [_place(text, tokens, bound, own) for bound in range(len(tokens) + 1)]
    assert places == [0, 1, 1, 2, 2, 2, 3, 4]
