"""Real documents in the company of others: neighbours in one context, and samples behind their seed document.

Both return corpora in which a document is several, one after the other with EOS between them, so that a row
of training reads across them. Tokens and EOS are those of the single documents: positions stay as many.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sbp_bayes.base.records import EOS, Pairs
from sbp_bayes.corpus import Corpus, Document


def packed_neighbours(corpus: Corpus, pairs: Pairs, vocab_size: int) -> Corpus:
    """Put related documents into one context, each document once (in-context pretraining, arXiv 2310.10638).

    Algorithm 1 of that paper: a path starts at the document of fewest neighbours that was not visited, and
    goes on to the nearest neighbour that was not, until there is none.

    Args:
        corpus: N documents.
        pairs: of related documents, the nearest d2 of each d1 first; taken both ways.
        vocab_size: of the tokens.
    """
    neighbours: defaultdict[int, dict[int, None]] = defaultdict(dict)
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        neighbours[first].setdefault(second)
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        neighbours[second].setdefault(first)
    visited: set[int] = set()
    paths: list[list[int]] = []
    for start in sorted(range(len(corpus)), key=lambda document: (len(neighbours[document]), document)):
        here: int | None = start if start not in visited else None
        if here is not None:
            paths.append([])
        while here is not None:
            paths[-1].append(here)
            visited.add(here)
            here = next((other for other in neighbours[here] if other not in visited), None)
    return _joined([[(corpus, i, None) for i in path] for path in paths], "neighbours", vocab_size)


def stitched(synthetic: Corpus, unique: Corpus, max_document_tokens: int, vocab_size: int) -> Corpus:
    """Put the samples of each seed document behind it, as one document (megadocuments, arXiv 2603.18534).

    Args:
        synthetic: samples whose metadata name their seed document.
        unique: the documents that they were sampled from.
        max_document_tokens: d1 is cut to so many, as the synthesizer has read it.
        vocab_size: of the tokens.
    """
    by_seed: defaultdict[int, list[int]] = defaultdict(list)
    for sample, metadata in enumerate(synthetic.metadata):
        by_seed[metadata["seed_index"]].append(sample)
    groups = [
        [(unique, seed, max_document_tokens), *((synthetic, i, None) for i in samples)]
        for seed, samples in by_seed.items()
    ]
    return _joined(groups, "stitched", vocab_size)


def _joined(groups: Sequence[Sequence[tuple[Corpus, int, int | None]]], name: str, vocab_size: int) -> Corpus:
    """Return one document for each group of (corpus, document, most tokens), with EOS between its parts."""
    documents, tokens, complete = [], [], []
    for number, group in enumerate(groups):
        parts = [np.append(corpus.document(i)[:most], EOS) for corpus, i, most in group]
        last_corpus, last, _ = group[-1]
        documents.append(
            Document(
                id=f"{name}:{number}",
                text="\n\n".join(corpus.texts[i] for corpus, i, _ in group),
                source=name,
            )
        )
        tokens.append(np.concatenate(parts)[:-1])
        complete.append(bool(last_corpus.complete[last]))
    return Corpus.from_tokens(documents, tokens, vocab_size=vocab_size, complete=complete)
