"""A world's documents as corpora, pairs and a tokenizer: what the library's stages read."""

import dataclasses
import functools

import numpy as np
import tokenizers
import torch
from tokenizers import models, pre_tokenizers
from torch import Tensor

from experiments.toy_validation.config import ToyConfig
from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.seeds import derive_seed, numpy_generator, torch_generator
from sbp_bayes.concept import ConceptModel, FiniteConceptModel
from sbp_bayes.corpus import Corpus, Document, Tokenizer
from sbp_bayes.corpus.tokenizer import SPECIAL_TOKENS
from sbp_bayes.synthesizer import IndexPairs
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL
from toy_worlds import make_world


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ToyData(ArrayRecord):
    """One seed's world and documents.

    Attributes:
        world: of which every probability is known.
        tokenizer: spells a document as its tokens' numbers.
        unique: D_unique, `documents_per_concept` of each concept.
        unique_concepts: concept number of each document, int64 (N,).
        oracle: `oracle_multiple` times as many, D_unique among them.
        validation, test: other documents d ~ P(d).
        paired: validation documents, two of each concept in a row, for pairs.
        paired_test: the same for the measures of a synthesizer.
    """

    world: ConceptModel
    tokenizer: Tokenizer
    unique: Corpus
    unique_concepts: np.ndarray
    oracle: Corpus
    validation: Corpus
    test: Corpus
    paired: Corpus
    paired_test: Corpus


def make_data(config: ToyConfig, seed: int) -> ToyData:
    """Draw everything of one seed; equal arguments give equal data.

    Raises:
        ConfigError: an unknown world or parameter, or one out of its range.
    """
    world = make_world(config.world, **config.parameters, seed=derive_seed(seed, "world") % 2**31)
    groups, num_groups = _concept_groups(world, config, seed)
    oracle = _documents(world, groups, config.documents_per_concept, "pool", seed)

    def fresh(name: str, number: int, per_concept: int = 1) -> Corpus:
        concepts = world.sample_concept(number, torch_generator(seed, name, "concepts"))
        return _documents(world, concepts, per_concept, name, seed)

    return ToyData(
        world=world,
        tokenizer=world_tokenizer(world.vocab_size),
        unique=oracle.select(np.arange(num_groups * config.documents_per_concept)),
        unique_concepts=np.repeat(np.arange(num_groups), config.documents_per_concept),
        oracle=oracle,
        validation=fresh("validation", config.num_validation),
        test=fresh("test", config.num_test),
        paired=fresh("paired", config.num_validation, 2),
        paired_test=fresh("paired_test", config.num_validation, 2),
    )


def repetitions(config: ToyConfig) -> float:
    """Return how often the budget repeats D_unique: their tokens' ratio, EOS included."""
    world = make_world(config.world, **config.parameters)
    num_groups = world.num_concepts if isinstance(world, FiniteConceptModel) else config.drawn_concepts
    return config.budget_tokens / (num_groups * config.documents_per_concept * (world.doc_length + 1))


def world_tokens(corpus: Corpus) -> Tensor:
    """Return a corpus of documents of one length as the world's tokens, int64 (N, doc_length)."""
    return torch.from_numpy(corpus.tokens.astype(np.int64).reshape(len(corpus), -1)) - NUM_SPECIAL


def corpus_of(documents_NT: Tensor, name: str, tokenizer: Tokenizer) -> Corpus:
    """Return a world's documents as a corpus; ids are "name:0", "name:1", …"""
    records = [
        Document(id=f"{name}:{i}", text=" ".join(map(str, row)), source=name)
        for i, row in enumerate(documents_NT.tolist())
    ]
    tokens = list((documents_NT + NUM_SPECIAL).numpy())
    return Corpus.from_tokens(records, tokens, vocab_size=tokenizer.vocab_size)


def concept_pairs(corpus: Corpus, concepts: np.ndarray, per_document: int, seed: int) -> IndexPairs:
    """Pair each document with up to `per_document` others of its concept, drawn at random, as (d1, d2)."""
    generator = numpy_generator(seed, "pairs")
    members = {c: np.flatnonzero(concepts == c) for c in np.unique(concepts)}
    first, second = [], []
    for index, concept in enumerate(concepts):
        others = members[concept][members[concept] != index]
        chosen = generator.permutation(others)[:per_document]
        first += [index] * len(chosen)
        second += chosen.tolist()
    return IndexPairs(np.array(first), np.array(second), corpus.fingerprint)


def consecutive_pairs(corpus: Corpus) -> IndexPairs:
    """Pair documents 2i and 2i + 1, which have one concept, in this order."""
    return IndexPairs(np.arange(0, len(corpus), 2), np.arange(1, len(corpus), 2), corpus.fingerprint)


@functools.cache
def world_tokenizer(vocab_size: int) -> Tokenizer:
    """Return the tokenizer that reads and writes a document as its tokens' decimal numbers."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *map(str, range(vocab_size))))}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[0]))
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend)


def _concept_groups(world: ConceptModel, config: ToyConfig, seed: int) -> tuple[Tensor, int]:
    """Return the concepts of the oracle's groups of documents, and how many groups are D_unique.

    Finitely many concepts come again, with further documents; a continuous P(c) gives others.
    """
    finite = isinstance(world, FiniteConceptModel)
    num_groups = world.num_concepts if isinstance(world, FiniteConceptModel) else config.drawn_concepts
    number = round(num_groups * config.oracle_multiple)
    if finite:
        return torch.arange(number) % num_groups, num_groups
    return world.sample_concept(number, torch_generator(seed, "concepts")), num_groups


def _documents(world: ConceptModel, concepts: Tensor, per_concept: int, name: str, seed: int) -> Corpus:
    drawn = world.sample(
        concepts.repeat_interleave(per_concept, dim=0), torch_generator(seed, name, "documents")
    )
    return corpus_of(drawn, name, world_tokenizer(world.vocab_size))
