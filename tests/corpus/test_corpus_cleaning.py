"""Cleaning: what it changes, what it leaves, and that doing it twice changes nothing."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.corpus import Document, clean_documents, clean_text

AWKWARD = "e\u0301\u212b\u2000\u00a0\u200b\ufeff\r\n\t\v\f\x00\x07\x1c\x85\u2028\u1100\u1161 a"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
        ("cafe\u0301", "café"),
        ("e\x00\u0301", "é"),
        ("a\x00b\u200bc\ufeff\x9fd\x7f", "abcd"),
        ("a\u00a0b\u2003c", "a b c"),
        ("  a  b \t\n\n\n\n    c\n ", "a  b\n\n    c"),
        ("\ttab stays\there", "tab stays\there"),
        (" \x00\u200b\n", ""),
    ],
)
def test_examples(text, cleaned):
    assert clean_text(text) == cleaned


@given(st.text() | st.text(alphabet=AWKWARD))
@settings(max_examples=500, deadline=None)
def test_cleaning_twice_changes_nothing(text):
    once = clean_text(text)
    assert clean_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not [c for c in once if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert "\n\n\n" not in once


@given(st.text(alphabet="abc .,\n", min_size=1))
@settings(max_examples=100, deadline=None)
def test_words_stay(text):
    assert clean_text(text).split() == text.split()


def test_short_documents_are_counted():
    texts = ["long enough", "short", "\x00 ", "x" * 10, " short with spaces      "[:14]]
    reasons: Counter[str] = Counter()
    documents = [Document(id=str(i), text=t, source="s", label="l") for i, t in enumerate(texts)]
    kept = list(clean_documents(documents, 10, reasons))
    assert [(d.id, d.label) for d in kept] == [("0", "l"), ("3", "l"), ("4", "l")]
    assert reasons == {"shorter than min_chars": 1, "empty after cleaning": 1}
