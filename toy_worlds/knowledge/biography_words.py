"""Words of the biographies: persons' names, and for each attribute its phrases and its values.

A sentence is a name, a phrase of two words and a value, so that every sentence has four words. No word is
both a name, part of a phrase and a value, and no phrase belongs to two attributes.
"""

from typing import NamedTuple


class Attribute(NamedTuple):
    """One column of the table of facts.

    Attributes:
        name: what the attribute is called.
        phrases: two words each, between the person's name and the value; each is a template.
        values: one word each.
    """

    name: str
    phrases: tuple[str, ...]
    values: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Ada Alan Albert Alice Amos Anna Arthur Astrid Barbara Basil Beatrice Bella Boris Bruno Carl "
    "Carmen Cecil Celia Clara Conrad Cora Cyril Daisy Daniel Daphne David Diana Doris Edgar Edith "
    "Edwin Elena Eliza Elsa Emil Emma Enid Ernest Esther Eva Felix Fiona Flora Frank Frida George "
    "Gerda Gilbert Grace Greta Gustav Hannah Harold Hector Helen Henry Hilda Hugo Ida Igor Ingrid "
    "Irene Isaac Ivan Jacob James Jane Jonas Julia Karen Kurt Laura Leon Lily Louis Lucy Magnus Marie "
    "Martin Maud Max Mildred Miriam Nadia Nina Nora Olga Oscar Otto Paula Peter Rosa Ruth Simon Sofia "
    "Stella Thomas Vera Victor Walter"
)
"""Names of persons, a hundred."""

ATTRIBUTES = (
    Attribute(
        "birthplace",
        ("hails from", "comes from", "is from"),
        _words("Boston Cairo Delhi Dublin Kyoto Lima Oslo Perth Prague Quito Rome Tunis"),
    ),
    Attribute(
        "home",
        ("lives in", "resides in", "dwells in"),
        _words("Athens Berlin Geneva Havana Lisbon Madrid Nairobi Paris Seoul Sydney Toronto Vienna"),
    ),
    Attribute(
        "occupation",
        ("is a", "became a", "remains a"),
        _words("baker banker chemist farmer judge lawyer nurse painter pilot sailor tailor teacher"),
    ),
    Attribute(
        "instrument",
        ("plays the", "practises the", "teaches the"),
        _words("banjo cello clarinet drum flute guitar harp oboe organ piano trumpet violin"),
    ),
    Attribute(
        "language",
        ("speaks fluent", "writes fluent", "dreams in"),
        _words("Arabic Basque Danish Dutch Finnish Greek Hindi Korean Polish Swahili Turkish Welsh"),
    ),
    Attribute(
        "subject",
        ("graduated in", "majored in", "excelled in"),
        _words(
            "algebra anatomy astronomy botany economics geology history logic philosophy physics "
            "theology zoology"
        ),
    ),
    Attribute(
        "employer",
        ("works for", "works at", "reports to"),
        _words(
            "Bluewater Eastwick Goldcrest Greenfield Ironbridge Northgate Oakwood Redstone Silverline "
            "Southbank Stonehill Westbrook"
        ),
    ),
    Attribute(
        "pet",
        ("owns a", "keeps a", "has a"),
        _words("canary cat dog donkey ferret goldfish goose hamster parrot pony rabbit tortoise"),
    ),
)
"""Attributes of a person, eight, with three phrases and twelve values each."""
