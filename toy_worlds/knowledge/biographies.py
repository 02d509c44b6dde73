"""Biographies: documents that state, in English sentences, some of the facts known of one person.

Shapes: N documents, T time, S sentences, F attributes, V values, R words, C concepts of one chunk, K all
concepts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConceptError
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.documents import PAD, check_documents, document_lengths
from toy_worlds.knowledge.biography_grammar import SENTENCE, BiographyGrammar, Statement
from toy_worlds.knowledge.biography_words import ATTRIBUTES, NAMES
from toy_worlds.tables import TableWorld
from toy_worlds.world import Table, require_count, require_integers, require_number, require_seed

MOST_VALUES = min(len(attribute.values) for attribute in ATTRIBUTES)
"""Number of values that every attribute has."""

MOST_TEMPLATES = min(len(attribute.phrases) for attribute in ATTRIBUTES)
"""Number of phrases that every attribute has."""


class _Persons(TableWorld):
    """Biographies for any P(value | attribute, c); person c has the name number c modulo the names.

        P(d | c) = P(attributes, phrases) · Π_s 1{name_s = name_c} · P(value_s | attribute_s, c)

    Args:
        grammar: of the sentences.
        value_KFV: P(value | attribute, c).
        num_stated: sentences of a document.
    """

    def __init__(self, grammar: BiographyGrammar, value_KFV: Tensor, num_stated: int) -> None:
        num_concepts, num_names = len(value_KFV), len(grammar.names)
        self.grammar, self.value_KFV, self.num_stated = grammar, value_KFV, num_stated
        self.words = grammar.words
        self.name_K = torch.arange(num_concepts) % num_names
        log_table_RK = torch.zeros(len(grammar.words), num_concepts, dtype=torch.float64)
        is_name_KR = torch.nn.functional.one_hot(self.name_K, num_names) == 1
        log_table_RK[:num_names].masked_fill_(~is_name_KR.T, -torch.inf)
        log_table_RK[grammar.value_FV.flatten()] = value_KFV.log().flatten(1).T
        super().__init__(log_table_RK, len(grammar.words), SENTENCE * num_stated)

    def _rows(self, d_NT: Tensor) -> Tensor:
        return d_NT

    def _log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return super()._log_likelihood(d_NT, concepts_C) + self._log_grammar(d_NT)[:, None]

    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        log_grammar_NT = self.grammar.token_log_probs(d_NT)
        return super()._token_log_likelihood(d_NT, concepts_C) + log_grammar_NT[:, :, None]

    def log_prob_given(self, d: Tensor, c: Tensor) -> Tensor:
        """Return log P(d | c) of each document under its own concept, (N,)."""
        return super().log_prob_given(d, c) + self._log_grammar(d)

    def _log_grammar(self, d_NT: Tensor) -> Tensor:
        # A running sum adds one token behind the other, so that padding changes no bit.
        log_probs_NT = torch.nn.functional.pad(self.grammar.token_log_probs(d_NT), (1, 0))
        return log_probs_NT.cumsum(dim=1)[:, -1]

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        num_attributes = self.value_KFV.shape[1]
        order_NF = torch.rand((len(c_N), num_attributes), dtype=torch.float64, generator=generator).argsort()
        attribute_NS = order_NF[:, : self.num_stated]
        template_NS = torch.randint(self.grammar.num_templates, attribute_NS.shape, generator=generator)
        stated_NSV = self.value_KFV[c_N[:, None], attribute_NS]
        value_NS = torch.multinomial(stated_NSV.flatten(0, 1), 1, generator=generator).view_as(attribute_NS)
        return self.grammar.spell(self.name_K[c_N], attribute_NS, template_NS, value_NS)


class Biographies(_Persons):
    """A concept is a person with F = num_attributes facts; a document states some of them in sentences.

    A person has a name and, for each attribute, one of V = num_values values. A document states S =
    num_stated distinct attributes in random order, one sentence each: the name, one of M = num_templates
    phrases, the value ("Ada hails from Rome. Ada owns a dog."). With probability `noise` a uniformly random
    value stands in place of the table's:

        P(d | c) = (F − S)! / F! · Π_s (1 / M) · 1{name_s = name_c}
                   · [(1 − noise) · 1{value_s = table_c[attribute_s]} + noise / V]

    and 0 if an attribute comes again or a sentence is none. A prefix sums this over the attributes and
    phrases that go on as it does ("Ada is …" is a birthplace or an occupation). Documents of up to F
    sentences are scored likewise (the random order goes on), and longer ones have probability 0. The tables
    are uniform, from the seed; P(c) = 1 / num_concepts.

    Tokens are words without full stops; `to_text` and `parse` go between documents, text and statements.
    Where every person has a name of their own a document tells its person, so I(d1; d2) = log num_concepts,
    and what is left to learn is the table, of which no document states more than S facts. Of namesakes the
    stated facts tell which one is meant.

    Source: after the data set bioS of "Physics of language models: part 3.1" (arXiv 2309.14316).

    Args:
        num_concepts: persons, at least 1, and at most 100 where `num_names` is None.
        num_attributes: F, from 1 to 8.
        num_values: V, from 1 to 12.
        num_stated: S, from 1 to F.
        num_templates: M, phrases of each attribute, from 1 to 3.
        noise: in [0, 1].
        num_names: distinct names, from 1 to num_concepts and 100; person c has the name number c modulo
            num_names. None gives every person a name of their own.
        seed: draws the tables.
        vocab_size: number of words, if it is given at all: names, words of phrases, and F · V values.
        doc_length: 4 · S if it is given at all.
        tables: each person's value of every attribute in place of drawn ones, (num_concepts, num_attributes).

    Example: F = 2, V = 2, S = 1, M = 1, noise = 0.2; Ada has values (0, 0), Alan (0, 1). "Ada hails from
    Boston" has P(d) = ½ · ½ · 0.9, given itself ½ · 0.9; behind "Ada" both attributes are equally probable.

        >>> world = Biographies(num_concepts=2, num_attributes=2, num_values=2, num_stated=1, num_templates=1,
        ...                     noise=0.2, tables=[[0, 0], [0, 1]])
        >>> d = world.from_text("Ada hails from Boston.")[None]
        >>> round(world.log_prob(d).exp().item(), 4), round(world.log_prob_pair(d, given=d).exp().item(), 4)
        (0.225, 0.45)
        >>> world.next_token_log_probs(d[:, :1]).exp()[0, world.from_text("hails lives")]
        tensor([0.5000, 0.5000], dtype=torch.float64)
        >>> world.parse("Ada hails from Boston. Alan Boston.")
        [Statement(subject='Ada', attribute='birthplace', value='Boston'), None]
    """

    def __init__(
        self,
        *,
        num_concepts: int = 100,
        num_attributes: int = 8,
        num_values: int = 12,
        num_stated: int = 3,
        num_templates: int = 3,
        noise: float = 0.02,
        num_names: int | None = None,
        seed: int = 0,
        vocab_size: int | None = None,
        doc_length: int | None = None,
        tables: Table | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        self.num_attributes = _count("num_attributes", num_attributes, len(ATTRIBUTES))
        self.num_values = _count("num_values", num_values, MOST_VALUES)
        _count("num_stated", num_stated, num_attributes)
        self.num_templates = _count("num_templates", num_templates, MOST_TEMPLATES)
        self.noise, self.seed = require_number("noise", noise, 0.0, 1.0), require_seed(seed)
        self.num_names = num_names
        if num_names is None:
            names = _count("num_concepts", num_concepts, len(NAMES))
        else:
            names = _count("num_names", num_names, min(num_concepts, len(NAMES)))
        grammar = BiographyGrammar(names, num_attributes, num_values, num_templates)
        words, length = len(grammar.words), SENTENCE * num_stated
        require(vocab_size in (None, words), "vocab_size", vocab_size, f"the number of words, {words}")
        require(doc_length in (None, length), "doc_length", doc_length, f"4 · num_stated = {length}")
        self.tables, shape = tables, (num_concepts, num_attributes)
        if tables is None:
            self.tables_KF = torch.randint(num_values, shape, generator=torch_generator(seed, "biographies"))
        else:
            self.tables_KF = require_integers("tables", tables, shape, num_values)
        true_KFV = torch.nn.functional.one_hot(self.tables_KF, num_values).double()
        super().__init__(grammar, (1.0 - noise) * true_KFV + noise / num_values, num_stated)

    def to_text(self, document: Tensor | Sequence[int]) -> str:
        """Return a document's tokens (T,) as English text.

        Raises:
            ConceptError: a token outside the vocabulary.
        """
        return self.grammar.to_text(document)

    def from_text(self, text: str) -> Tensor:
        """Return the tokens of a text's words, int64 (T,); full stops count for nothing.

        Raises:
            ConceptError: a word outside the vocabulary.
        """
        return self.grammar.from_text(text)

    def parse(self, document: str | Tensor | Sequence[int]) -> list[Statement | None]:
        """Return what each sentence of a text, or of tokens (T,), states; None for what is no sentence."""
        return self.grammar.parse(document)

    def persons(self, name: str) -> list[int]:
        """Return the concepts that have a name, none where nobody has it."""
        return [c for c, own in enumerate(self.name_K.tolist()) if self.grammar.names[own] == name]

    def fact(self, person: int, attribute: str) -> str:
        """Return the value that the table has for an attribute of a concept."""
        place = [known.name for known in self.grammar.attributes].index(attribute)
        return self.grammar.attributes[place].values[int(self.tables_KF[person, place])]

    def told(self, person: int) -> str:
        """Return all facts of a concept in sentences, each by the attribute's first phrase."""
        places = torch.arange(self.num_attributes)[None]
        values_1F = self.tables_KF[person][None]
        document = self.grammar.spell(self.name_K[[person]], places, torch.zeros_like(places), values_1F)
        return self.to_text(document[0])

    def fact_question(self, d: Tensor, statement: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return documents up to a sentence's value, the values that may stand there, and each person's.

        Args:
            d: whole documents, int64 (N, T).
            statement: the sentence, from 0.

        Returns:
            prefixes, int64 (N, 4 · statement + 3); candidate tokens (N, V); the place among them of each
            concept's own value, (N, K).
        """
        attribute_N = self.grammar.attributes_stated(d)[:, statement]
        prefix_NT = d[:, : SENTENCE * (statement + 1) - 1]
        return prefix_NT, self.grammar.value_FV[attribute_N], self.tables_KF.T[attribute_N]


class BiographiesGivenDocuments(_Persons):
    """What is known of biographies by who has read some of them, and knows all of the world but its tables.

    The tables are uniform, and one value's law says nothing of another's, so given documents D

        P(table_c[f] = v | D) ∝ Π_{s in D about c and f} [(1 − noise) · 1{value_s = v} + noise / V]

    and P(value | attribute, c, D) = (1 − noise) · P(table_c[f] = value | D) + noise / V. A document states an
    attribute once, so P(d | D) has the form of the world's P(d). No model that learns from D alone has a
    lower loss on average over tables.

    Args:
        world: every person of which has a name of their own.
        documents: D, int64 (N, T), of whole sentences.

    Raises:
        ConceptError: namesakes, of whom D does not tell which one is meant, or a document that the world
            cannot produce.
    """

    def __init__(self, world: Biographies, documents: Tensor) -> None:
        if len(world.grammar.names) < world.num_concepts:
            raise ConceptError("of namesakes, documents do not tell which one they are about")
        if (world.log_prob(documents) == -torch.inf).any() or (document_lengths(documents) % SENTENCE).any():
            raise ConceptError("documents read must be whole sentences that the world can produce")
        self.world, self.documents = world, check_documents(documents, world.vocab_size)
        attribute_NS = world.grammar.attributes_stated(documents)
        said = attribute_NS != PAD
        person_M = documents[:, ::SENTENCE][said]
        value_M = documents[:, SENTENCE - 1 :: SENTENCE][said] - world.grammar.value_FV[attribute_NS[said], 0]
        times_KFV = torch.zeros(world.value_KFV.shape, dtype=torch.float64)
        times_KFV.index_put_((person_M, attribute_NS[said], value_M), times_KFV.new_ones(()), accumulate=True)
        noise = torch.tensor(world.noise, dtype=torch.float64)
        uniform = noise / world.num_values
        others_KFV = times_KFV.sum(dim=2, keepdim=True) - times_KFV
        log_posterior_KFV = times_KFV.xlogy(1.0 - noise + uniform) + others_KFV.xlogy(uniform)
        value_KFV = (1.0 - noise) * log_posterior_KFV.softmax(dim=2) + uniform
        super().__init__(world.grammar, value_KFV, world.num_stated)


def _count(key: str, value: int, most: int) -> int:
    """Return `value` if it is an integer from 1 to `most`; else raise a `ConfigError`."""
    require_count(key, value)
    require(value <= most, key, value, f"at most {most}")
    return value
