"""The settings of the corpus stage."""

import dataclasses

from sbp_bayes.base.config import require
from sbp_bayes.corpus.cleaning import LANGUAGE_FIELDS
from sbp_bayes.corpus.fields import Fields
from sbp_bayes.corpus.reading import MAX_DOCUMENT_BYTES
from sbp_bayes.corpus.tokenizer import SMALLEST_VOCABULARY


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How to make a corpus.

    Attributes:
        paths: files, folders or "packaged:…" and "hf:…" names, as `read_documents` takes them.
        vocab_size: ids of the tokenizer, at least 258.
        text_field: the field (column) that holds the text.
        min_chars: shorter documents are left out.
        languages: where a record says its language, only these are kept; empty keeps all.
        dedup_threshold: Jaccard similarity of word 5-grams from which documents are duplicates.
        dedup_verify: compute the similarity of candidates exactly; False trusts MinHash (see `Bands`).
        validation_share, test_share: shares of the unique documents that are held out.
        max_bad_share: a file with a larger share of bad records is a bad file, and its rest is left out.
        max_bad_files: a larger share of bad files (damaged ones, too) stops the reading.
        max_document_bytes: longer records are rejected.
        limit_documents: read at most this many documents of each path; None reads all. A Hugging Face
            dataset is then streamed.
        keep_fields: metadata fields that are read, besides url and label; dots lead into nested fields.
            None reads all, () none.
        drop_fields: fields that are not read, also within those that `keep_fields` names.
        tokenizer_bytes: the tokenizer is trained on the pool, or a part of it of about this size that
            the documents' hashes choose.
        seed: of the split and of the MinHash permutations.
    """

    paths: tuple[str, ...]
    vocab_size: int
    text_field: str = "text"
    min_chars: int = 200
    languages: tuple[str, ...] = ()
    dedup_threshold: float = 0.8
    dedup_verify: bool = True
    validation_share: float = 0.03
    test_share: float = 0.03
    max_bad_share: float = 0.01
    max_bad_files: float = 0.01
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    limit_documents: int | None = None
    keep_fields: tuple[str, ...] | None = None
    drop_fields: tuple[str, ...] = ()
    tokenizer_bytes: int = 1 << 28
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.paths) > 0, "paths", self.paths, "at least one path")
        least = f"at least {SMALLEST_VOCABULARY}"
        require(self.vocab_size >= SMALLEST_VOCABULARY, "vocab_size", self.vocab_size, least)
        require(0 < self.dedup_threshold <= 1, "dedup_threshold", self.dedup_threshold, "in (0, 1]")
        for key in ("validation_share", "test_share", "max_bad_share", "max_bad_files"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "in [0, 1)")
        held_out = self.validation_share + self.test_share
        require(held_out < 1, "validation_share + test_share", held_out, "below 1")
        for key in ("min_chars", "max_document_bytes", "tokenizer_bytes"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        limit = self.limit_documents
        require(limit is None or limit >= 1, "limit_documents", limit, "at least 1")
        dropped = [name for name in LANGUAGE_FIELDS if self.languages and name in self.drop_fields]
        require(not dropped, "drop_fields", dropped, "not what says the language, while languages are set")
        text_is_read = not any(self.text_field == name for name in self.drop_fields)
        require(text_is_read, "drop_fields", self.text_field, "other fields than the text's")

    @property
    def fields(self) -> Fields:
        """The fields that are read; what says the language is among them where `languages` are set."""
        keep = self.keep_fields
        if keep is not None and self.languages:
            keep = (*keep, *LANGUAGE_FIELDS)
        return Fields(keep, self.drop_fields)

    @property
    def split_shares(self) -> dict[str, float]:
        """Share of each split but the pool, as `split_of` takes them."""
        return {"validation": self.validation_share, "test": self.test_share}
