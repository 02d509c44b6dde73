"""Scripts that are written without spaces between words.

Where words are compared (shingles, LSA), each character of such a script counts as a word of its own: a whole
sentence as one word would meet nothing but its copies. Hangul has spaces, and its words are split at them.
"""

import re

RANGES = (
    *((0x0E00, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF)),
    *((0xA980, 0xA9FF), (0xAA60, 0xAADF)),
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x312F), (0x31A0, 0x31BF)),
    *((0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0xA4CF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D)),
    *((0x16FE0, 0x18DFF), (0x1AFF0, 0x1B2FF), (0x20000, 0x3FFFF)),
)
"""First and last code points of ranges: Thai, Lao, Tibetan, Myanmar, Khmer and Tai, then Javanese and more of
Myanmar, then Han, kana, Bopomofo and Yi, which have three lines.
"""

UNSPACED = "".join(f"{chr(first)}-{chr(last)}" for first, last in RANGES)
"""The same as a class of a regular expression has them."""

_CHARACTER = re.compile(f"[{UNSPACED}]")


def unspaced_share(text: str) -> float:
    """Return the share of the characters of `text` that are of scripts without spaces; 0 for no text."""
    return 0.0 if text.isascii() else len(_CHARACTER.findall(text)) / len(text)


def with_spaces(text: str) -> str:
    """Return `text` with a space on both sides of each character of a script without spaces."""
    return text if text.isascii() else _CHARACTER.sub(r" \g<0> ", text)
