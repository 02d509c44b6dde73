"""Sentences of biographies: words, text, statements, and the part of their probability that no fact changes.

Shapes: N documents, T time, S sentences, F attributes, M templates of each, V values of each, R words.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept.documents import PAD, check_documents
from toy_worlds.knowledge.biography_words import ATTRIBUTES, NAMES

SENTENCE = 4
"""Words of a sentence: the person's name, a phrase of two words, the value."""


class Statement(NamedTuple):
    """What one sentence says: the value that an attribute of the subject has."""

    subject: str
    attribute: str
    value: str


class BiographyGrammar:
    """Which documents are sequences of sentences, and how probable their attributes and phrases are.

    Each sentence states an attribute that no earlier one stated, uniformly, by a uniform one of its phrases.
    Whose facts they are, and whether they are true, is not the grammar's matter.

    Args:
        num_names: names that may be subjects. num_attributes, num_values, num_templates: how many of the
        attributes, and of the values and phrases of
            each, are used; the first ones are.

    Attributes:
        words: the vocabulary; a token is a place in it.
        value_FV: token of each value.
    """

    def __init__(self, num_names: int, num_attributes: int, num_values: int, num_templates: int) -> None:
        self.names, self.attributes = NAMES[:num_names], ATTRIBUTES[:num_attributes]
        self.num_templates = num_templates
        phrases_FM = [
            [tuple(phrase.split()) for phrase in known.phrases[:num_templates]] for known in self.attributes
        ]
        of_phrases = dict.fromkeys(word for phrases in phrases_FM for phrase in phrases for word in phrase)
        self._values = {known.name: known.values[:num_values] for known in self.attributes}
        values = [value for of_attribute in self._values.values() for value in of_attribute]
        self.words = (*self.names, *of_phrases, *values)
        self._token = {word: token for token, word in enumerate(self.words)}
        self._attribute_of_phrase = {
            phrase: known.name
            for known, phrases in zip(self.attributes, phrases_FM, strict=True)
            for phrase in phrases
        }
        self.value_FV = torch.arange(len(self.words))[-len(values) :].view(num_attributes, num_values)
        self._phrases_FM2 = torch.tensor(
            [[[self._token[word] for word in phrase] for phrase in phrases] for phrases in phrases_FM]
        )
        self._attribute_of_phrase_RR = torch.full((len(self.words),) * 2, PAD)
        self._attribute_of_value_R = torch.full((len(self.words),), PAD)
        self._phrases_beginning_RF = torch.zeros(len(self.words), num_attributes, dtype=torch.int64)
        for attribute, phrases_M2 in enumerate(self._phrases_FM2):
            self._attribute_of_phrase_RR[phrases_M2[:, 0], phrases_M2[:, 1]] = attribute
            self._attribute_of_value_R[self.value_FV[attribute]] = attribute
            self._phrases_beginning_RF[:, attribute] = phrases_M2[:, 0].bincount(minlength=len(self.words))

    def spell(self, name_N: Tensor, attribute_NS: Tensor, template_NS: Tensor, value_NS: Tensor) -> Tensor:
        """Return the documents that state these values in these words, int64 (N, 4 · S)."""
        subject_NS1 = name_N[:, None, None].expand(*attribute_NS.shape, 1)
        phrase_NS2 = self._phrases_FM2[attribute_NS, template_NS]
        value_NS1 = self.value_FV[attribute_NS, value_NS][:, :, None]
        return torch.cat([subject_NS1, phrase_NS2, value_NS1], dim=2).flatten(1)

    def attributes_stated(self, d_NT: Tensor) -> Tensor:
        """Return the attribute of each sentence's phrase, int64 (N, S), `PAD` where there is none."""
        sentences_NS4 = _sentences(d_NT)
        # Padding, −1, indexes the last word, which is a value and in no phrase.
        return self._attribute_of_phrase_RR[sentences_NS4[:, :, 1], sentences_NS4[:, :, 2]]

    def token_log_probs(self, d_NT: Tensor) -> Tensor:
        """Return the log of what the grammar says of d_t given d_<t, (N, T); 0 at fitting names and values.

        Before a phrase's first word w with s sentences behind it, (phrases beginning with w of attributes not
        stated yet) / (M · (F − s)); before its second word one over that number of phrases.
        """
        sentences_NS4 = _sentences(d_NT)
        name_NS, first_NS, _, value_NS = sentences_NS4.clamp(min=0).unbind(dim=2)
        attribute_NS = self.attributes_stated(d_NT)
        stated_NSF = attribute_NS[:, :, None] == torch.arange(len(self.attributes))
        left_NSF = stated_NSF.long().cumsum(dim=1) - stated_NSF.long() == 0
        sentence_S = torch.arange(sentences_NS4.shape[1])
        phrases_left_S = self.num_templates * (len(self.attributes) - sentence_S).clamp(min=1)
        going_on_NS = (self._phrases_beginning_RF[first_NS] * left_NSF).sum(dim=2).double()
        log_first_NS = going_on_NS.log() - phrases_left_S.double().log()
        log_second_NS = -going_on_NS.clamp(min=1).log()
        is_new_NS = (stated_NSF & left_NSF).any(dim=2)
        fits_NS = self._attribute_of_value_R[value_NS] == attribute_NS
        log_probs_NS4 = torch.stack(
            [
                _log_one_if((name_NS < len(self.names)) & (sentence_S < len(self.attributes))),
                log_first_NS,
                log_second_NS.masked_fill(~is_new_NS, -torch.inf),
                _log_one_if(fits_NS),
            ],
            dim=2,
        )
        return log_probs_NS4.flatten(1)[:, : d_NT.shape[1]].masked_fill(d_NT == PAD, 0.0)

    def to_text(self, document: Tensor | Sequence[int]) -> str:
        """Return a document as English text, a full stop behind every whole sentence.

        Raises:
            ConceptError: a token outside the vocabulary.
        """
        tokens = torch.as_tensor(document, dtype=torch.int64)[None]
        check_documents(tokens, len(self.words))
        words = [self.words[token] for token in tokens[tokens != PAD].tolist()]
        sentences = [" ".join(words[start : start + SENTENCE]) for start in range(0, len(words), SENTENCE)]
        whole = len(words) // SENTENCE
        return " ".join([f"{sentence}." for sentence in sentences[:whole]] + sentences[whole:])

    def from_text(self, text: str) -> Tensor:
        """Return the tokens of a text's words, int64 (T,); full stops count for nothing.

        Raises:
            ConceptError: a word outside the vocabulary.
        """
        words = text.replace(".", " ").split()
        for word in words:
            if word not in self._token:
                raise ConceptError(f"unknown word {word!r}: no name, phrase or value of this world has it")
        return torch.tensor([self._token[word] for word in words], dtype=torch.int64)

    def parse(self, document: str | Tensor | Sequence[int]) -> list[Statement | None]:
        """Return what each sentence of a document states, None for a sentence that is none.

        Args:
            document: a text, whose sentences end with full stops (the last one's may be missing); or tokens,
                whose sentences are four each. Words and tokens that are unknown are allowed.
        """
        if isinstance(document, str):
            sentences = [sentence.split() for sentence in document.split(".")]
            return [self._statement(words) for words in (sentences if sentences[-1] else sentences[:-1])]
        tokens = torch.as_tensor(document).tolist()
        while tokens and tokens[-1] == PAD:
            tokens.pop()
        words = [self.words[token] if 0 <= token < len(self.words) else "" for token in tokens]
        return [self._statement(words[start : start + SENTENCE]) for start in range(0, len(words), SENTENCE)]

    def _statement(self, words: list[str]) -> Statement | None:
        """Return what a sentence states; its subject may be an unknown word with a capital."""
        if len(words) != SENTENCE:
            return None
        subject, *phrase, value = words
        attribute = self._attribute_of_phrase.get(tuple(phrase))
        is_name = subject in self.names or (subject not in self._token and subject[:1].isupper())
        if not is_name or attribute is None or value not in self._values[attribute]:
            return None
        return Statement(subject, attribute, value)


def _sentences(d_NT: Tensor) -> Tensor:
    """Return documents a sentence at a time, the last one padded, int64 (N, S, 4)."""
    missing = -d_NT.shape[1] % SENTENCE
    return torch.nn.functional.pad(d_NT, (0, missing), value=PAD).unflatten(1, (-1, SENTENCE))


def _log_one_if(condition: Tensor) -> Tensor:
    return torch.zeros(condition.shape, dtype=torch.float64).masked_fill(~condition, -torch.inf)
