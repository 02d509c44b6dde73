"""Documents, and corpora of tokenised documents in one flat array that is memory-mapped from disk."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.corpus.tokenizer import Tokenizer

TOKENS, OFFSETS, DOCUMENTS, META = "tokens.npy", "offsets.npy", "documents.parquet", "meta.json"


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


@dataclasses.dataclass(frozen=True)
class Corpus:
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
        digest = hashlib.sha256(json.dumps(list(self.ids)).encode())
        for array in (self.tokens, self.offsets, self.complete):
            digest.update(array.dtype.str.encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

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
        dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        return cls(
            ids=[d.id for d in documents],
            texts=[d.text for d in documents],
            sources=[d.source for d in documents],
            labels=[d.label for d in documents],
            metadata=[dict(d.metadata) | ({"url": d.url} if d.url else {}) for d in documents],
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

    def select(self, indices: Iterable[int] | np.ndarray) -> "Corpus":
        """Return the documents at `indices`, in that order."""
        rows = np.asarray(list(indices) if not isinstance(indices, np.ndarray) else indices, np.int64)
        parts = [self.tokens[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        return Corpus(
            **{name: [getattr(self, name)[i] for i in rows] for name in _COLUMNS},
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
            **{name: [x for c in corpora for x in getattr(c, name)] for name in _COLUMNS},
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
        directory = Path(directory)
        for name, array in ((TOKENS, self.tokens), (OFFSETS, self.offsets)):
            with atomic_path(directory / name) as temporary, open(temporary, "wb") as file:
                np.save(file, array)
        self._save_table(directory / DOCUMENTS)
        files = {name: _sha256(directory / name) for name in (TOKENS, OFFSETS, DOCUMENTS)}
        sizes = {"num_documents": len(self), "num_tokens": self.num_tokens}
        write_json(directory / META, sizes | {"fingerprint": self.fingerprint, "files": files})

    def _save_table(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        strings = {name: pa.array(list(getattr(self, name)), pa.large_string()) for name in _COLUMNS[:-1]}
        numbers = {"num_bytes": pa.array(self.num_bytes), "complete": pa.array(self.complete)}
        extra = [json.dumps(dict(m), ensure_ascii=False) for m in self.metadata]
        table = pa.table(strings | {"metadata": pa.array(extra, pa.large_string())} | numbers)
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, directory: Path) -> "Corpus":
        """Read a corpus that `save` wrote; its tokens stay on disk, memory-mapped.

        Raises:
            StoreError: a file is missing or damaged (checksums are verified); the message names it.
        """
        directory = Path(directory)
        _verify(directory)
        tokens, offsets = (np.asarray(np.load(directory / n, mmap_mode="r")) for n in (TOKENS, OFFSETS))
        return cls(**_load_table(directory / DOCUMENTS), tokens=tokens, offsets=offsets)


_COLUMNS = ("ids", "texts", "sources", "labels", "metadata")


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(directory: Path) -> None:
    meta = read_json(directory / META)
    known = meta.get("files") if isinstance(meta, dict) else None
    if not isinstance(known, dict):
        raise StoreError(f"{directory / META}: damaged, it lists no files")
    for name in (TOKENS, OFFSETS, DOCUMENTS):
        try:
            found = _sha256(directory / name)
        except OSError as error:
            raise StoreError(f"{directory / name}: cannot be read ({error.strerror})") from error
        if found != known.get(name):
            raise StoreError(f"{directory / name}: damaged, or of another corpus (its SHA-256 differs)")


def _load_table(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns: dict[str, Any] = {name: table[name].to_pylist() for name in _COLUMNS}
    columns["metadata"] = [json.loads(m) for m in columns["metadata"]]
    return columns | {name: table[name].to_numpy() for name in ("num_bytes", "complete")}
