"""Documents, and corpora of tokenised documents in one flat array that is memory-mapped from disk."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import StoreError
from sbp_bayes.corpus.files import (
    COLUMNS,
    ROWS_TOGETHER,
    Column,
    corpus_fingerprint,
    documents_batch,
    open_columns,
    read_meta,
    token_dtype,
    writing_corpus,
)
from sbp_bayes.corpus.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """One text and where it comes from.

    Attributes:
        id: stable and unique, for instance "shard_0.jsonl.zst:12" (file relative to the root, line).
        text: the text, encodable as UTF-8.
        source: name of the collection, for instance "wikipedia".
        label: topic or category, where the source gives one; scores a pairing.
        url: address of the original, where known.
        metadata: further fields of JSON types.
    """

    id: str
    text: str
    source: str
    label: str | None = None
    url: str | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus(ArrayRecord):
    """N tokenised documents.

    Attributes:
        ids, texts, sources, labels, metadata: one entry a document; a document's `url` is in its metadata.
        tokens: all documents' tokens end to end, without EOS; uint16 (or uint32 for large vocabularies).
        offsets: int64 (N + 1,); document i is tokens[offsets[i]:offsets[i + 1]].
        num_bytes: int64 (N,), UTF-8 bytes of each text.
        complete: bool (N,); False where the document was cut, so that no EOS follows its last token.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    sources: Sequence[str]
    labels: Sequence[str | None]
    metadata: Sequence[Mapping[str, Any]]
    tokens: np.ndarray
    offsets: np.ndarray
    num_bytes: np.ndarray
    complete: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def document(self, index: int) -> np.ndarray:
        """Return the tokens of document `index`, int64 (n,), without EOS."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]].astype(np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document without EOS, int64 (N,)."""
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        """Σ (n + 1): the documents' tokens and one EOS each."""
        return int(self.offsets[-1]) + len(self)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits (SHA-256) of ids, tokens and where documents end."""
        return corpus_fingerprint(self.ids, [self.tokens], self.tokens.dtype, self.offsets, self.complete)

    @classmethod
    def from_tokens(
        cls,
        documents: Sequence[Document],
        tokens: Sequence[np.ndarray],
        *,
        vocab_size: int,
        complete: Sequence[bool] | None = None,
    ) -> "Corpus":
        """Build a corpus of documents whose tokens are known, for instance sampled ones.

        Args:
            documents: their ids, texts and the rest.
            tokens: token ids of each document, without EOS.
            vocab_size: decides the width of the stored integers.
            complete: False where a document was cut at a length limit; all True by default.
        """
        assert len(documents) == len(tokens)
        dtype = token_dtype(vocab_size)
        return cls(
            ids=[d.id for d in documents],
            texts=[d.text for d in documents],
            sources=[d.source for d in documents],
            labels=[d.label for d in documents],
            metadata=[stored_metadata(d) for d in documents],
            tokens=np.concatenate([np.zeros(0, dtype), *(np.asarray(t, dtype) for t in tokens)]),
            offsets=_offsets(np.array([len(t) for t in tokens], np.int64)),
            num_bytes=np.array([len(d.text.encode()) for d in documents], np.int64),
            complete=np.ones(len(documents), bool) if complete is None else np.asarray(complete, bool),
        )

    @classmethod
    def build(cls, documents: Iterable[Document | str], tokenizer: Tokenizer) -> "Corpus":
        """Tokenise `documents`; plain strings get the ids "text:0", "text:1", …"""
        records = [
            Document(id=f"text:{i}", text=d, source="text") if isinstance(d, str) else d
            for i, d in enumerate(documents)
        ]
        tokens = tokenizer.encode([d.text for d in records])
        return cls.from_tokens(records, tokens, vocab_size=tokenizer.vocab_size)

    def texts_at(self, indices: np.ndarray) -> Sequence[str]:
        """Return the texts at `indices`, int64 (M,); those of a corpus on disk stay there until asked for."""
        return _taken(self.texts, indices)

    def select(self, indices: Iterable[int] | np.ndarray) -> "Corpus":
        """Return the documents at `indices`, in that order."""
        rows = np.asarray(list(indices) if not isinstance(indices, np.ndarray) else indices, np.int64)
        parts = [self.tokens[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        return Corpus(
            **{name: _taken(getattr(self, name), rows) for name in COLUMNS},
            tokens=np.concatenate([self.tokens[:0], *parts]),
            offsets=_offsets(self.lengths[rows]),
            num_bytes=self.num_bytes[rows],
            complete=self.complete[rows],
        )

    @classmethod
    def concatenate(cls, corpora: Sequence["Corpus"]) -> "Corpus":
        """Join `corpora` (one or more) end to end."""
        assert corpora
        return cls(
            **{name: [x for c in corpora for x in getattr(c, name)] for name in COLUMNS},
            tokens=np.concatenate([c.tokens for c in corpora]),
            offsets=_offsets(np.concatenate([c.lengths for c in corpora])),
            num_bytes=np.concatenate([c.num_bytes for c in corpora]),
            complete=np.concatenate([c.complete for c in corpora]),
        )

    def save(self, directory: Path) -> None:
        """Write the corpus to `directory`, each file atomically and `meta.json` last.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        with writing_corpus(Path(directory), self.tokens.dtype, len(self.tokens)) as writer:
            writer.add_tokens(self.tokens)
            for start in range(0, len(self), ROWS_TOGETHER):
                part = slice(start, start + ROWS_TOGETHER)
                batch = documents_batch({name: getattr(self, name)[part] for name in COLUMNS})
                writer.add_documents(batch, self.lengths[part], self.complete[part])

    @classmethod
    def load(cls, directory: Path, *, verify: bool = False) -> "Corpus":
        """Read a corpus that `save` wrote; tokens, texts and metadata stay on disk, memory-mapped.

        Args:
            directory: of the corpus.
            verify: compare every file with its checksum, which reads all of them. Whoever opens a corpus
                first does it; without, files are held against their sizes, and the fingerprint is that of
                `meta.json`.

        Raises:
            StoreError: a file is missing or damaged; the message names it.
        """
        directory = Path(directory)
        meta = read_meta(directory, verify=verify)
        try:
            corpus = cls(**open_columns(directory))
        except (ValueError, OSError) as error:  # pyarrow's errors are both
            raise StoreError(f"{directory}: damaged ({error})") from error
        vars(corpus)["fingerprint"] = meta["fingerprint"]
        return corpus


def stored_metadata(document: Document) -> dict[str, Any]:
    """Return a document's metadata as a corpus keeps them: with its url."""
    return dict(document.metadata) | ({"url": document.url} if document.url else {})


def _taken(values: Sequence[Any], rows: np.ndarray) -> Sequence[Any]:
    return values.take(rows) if isinstance(values, Column) else [values[i] for i in rows]


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
