"""Scripts without spaces: which characters they have, and what becomes of other text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbp_bayes.corpus.scripts import RANGES, unspaced_share, with_spaces

NAMES = (
    "CJK UNIFIED",
    "HIRAGANA LETTER",
    "KATAKANA LETTER",
    "BOPOMOFO LETTER",
    "YI SYLLABLE",
    "THAI CHARACTER",
    "LAO LETTER",
    "TIBETAN LETTER",
    "MYANMAR LETTER",
    "KHMER LETTER",
    "TAI THAM LETTER",
    "JAVANESE LETTER",
    "HALFWIDTH KATAKANA LETTER",
    "TANGUT IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
)
SPACED = (
    "LATIN",
    "GREEK",
    "CYRILLIC",
    "HANGUL",
    "ARABIC",
    "HEBREW",
    "DEVANAGARI",
    "ETHIOPIC",
    "GEORGIAN",
    "FULLWIDTH",
    "DIGIT",
    "TAMIL",
    "MONGOLIAN",
    "CHEROKEE",
)


def is_in_ranges(code):
    return any(first <= code <= last for first, last in RANGES)


def test_the_ranges_hold_the_letters_of_these_scripts_and_none_of_others():
    for code in range(0x40000):
        name = unicodedata.name(chr(code), "")
        if name.startswith(NAMES):
            assert is_in_ranges(code), name
        elif name.startswith(SPACED):
            assert not is_in_ranges(code), name


def test_ranges_ascend_and_do_not_meet():
    codes = [code for pair in RANGES for code in pair]
    assert sorted(set(codes[::2])) == sorted(codes[::2])
    assert all(first <= last for first, last in RANGES)
    assert len({code for first, last in RANGES for code in range(first, last + 1)}) == sum(
        last - first + 1 for first, last in RANGES
    )


@given(st.text(st.characters(max_codepoint=0x24F), max_size=40))
def test_text_with_spaces_stays(text):
    assert with_spaces(text) == text
    assert unspaced_share(text) == 0


@pytest.mark.parametrize(
    ("text", "words", "share"), [("日本x語", 4, 3 / 4), ("한국 a", 2, 0), ("", 0, 0), ("ก", 1, 1)]
)
def test_each_character_is_a_word(text, words, share):
    assert len(with_spaces(text).split()) == words
    assert unspaced_share(text) == share
