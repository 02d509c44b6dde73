"""Text: reading, cleaning, de-duplication, splits, tokenisation and packing into rows."""

from sbp_bayes.corpus.cleaning import clean_documents, clean_text
from sbp_bayes.corpus.config import CorpusConfig
from sbp_bayes.corpus.dedup import DedupReport, deduplicate
from sbp_bayes.corpus.packing import EpochStream, Window, rows_of
from sbp_bayes.corpus.prepare import choose_unique, load_corpus_inputs, prepare_corpus
from sbp_bayes.corpus.reading import read_documents
from sbp_bayes.corpus.records import Corpus, Document
from sbp_bayes.corpus.rejects import RejectLog
from sbp_bayes.corpus.splits import load_split, split_of
from sbp_bayes.corpus.tokenizer import TOKENIZER, Tokenizer, train_tokenizer

__all__ = [
    "TOKENIZER",
    "Corpus",
    "CorpusConfig",
    "DedupReport",
    "Document",
    "EpochStream",
    "RejectLog",
    "Tokenizer",
    "Window",
    "choose_unique",
    "clean_documents",
    "clean_text",
    "deduplicate",
    "load_corpus_inputs",
    "load_split",
    "prepare_corpus",
    "read_documents",
    "rows_of",
    "split_of",
    "train_tokenizer",
]
