"""Texts with edited copies planted among them, and what a de-duplication found of these."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

THRESHOLD = 0.8
"""Jaccard similarity of word 5-grams from which two texts are near duplicates."""


class Planted(NamedTuple):
    """Texts, and {position of an edited one: (position of its original, exact Jaccard similarity)}."""

    texts: list[str]
    edited: dict[int, tuple[int, float]]


def shingles(text: str) -> set[str]:
    words = text.lower().split()
    width = min(5, len(words))
    return {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}


def similarity(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / max(1, len(first | second))


def plant(real_texts: Sequence[str], copies: int) -> Planted:
    """Copies in other words (so that they are no duplicates), and after each copy its edited documents.

    One document in eight comes again with one word in 100 to one in 10 replaced: its similarity is
    between 0.9 and 0.4, on both sides of the threshold.
    """
    texts: list[str] = []
    edited: dict[int, tuple[int, float]] = {}
    random = np.random.default_rng(0)
    for copy in range(copies):
        start = len(texts)
        texts += [" ".join(f"{word}{copy or ''}" for word in text.split()) for text in real_texts]
        for i in range(start, start + len(real_texts), 8):
            words = texts[i].split()
            places = random.random(len(words)) < random.choice([0.01, 0.02, 0.1])
            new = " ".join(f"{w}new{k}" if places[k] else w for k, w in enumerate(words))
            edited[len(texts)] = (i, similarity(texts[i], new))
            texts.append(new)
    return Planted(texts, edited)


class Removal(NamedTuple):
    """Share of the planted duplicates that was found, and of all documents removed below the threshold."""

    recall: float
    false: float

    @classmethod
    def of(cls, planted: Planted, duplicate_of: dict[int, int]) -> "Removal":
        alike = [i for i, (_, jaccard) in planted.edited.items() if jaccard >= THRESHOLD]
        found = sum(i in duplicate_of for i in alike)
        pairs = ((planted.texts[i], planted.texts[j]) for i, j in duplicate_of.items())
        false = sum(similarity(a, b) < THRESHOLD for a, b in pairs)
        return cls(found / len(alike), false / len(planted.texts))

    def __str__(self) -> str:
        return f"recall {self.recall:.4f}, false removals {self.false:.3%}"
