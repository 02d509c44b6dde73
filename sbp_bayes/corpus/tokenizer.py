"""Byte-level byte-pair encoding, trained on the project's own text; every text decodes to itself."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.store import write_text

TOKENIZER = "tokenizer.json"
"""Name of the tokenizer's file beside a corpus and in the folder of every stage that writes a model."""

SPECIAL_TOKENS = ("<|endoftext|>", "<|sep|>")
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
LONGEST_RUN = 256
"""Characters of a run of letters, of signs or of white space; training learns from longer ones in pieces."""
CHARS_TOGETHER = 1 << 19
"""Of texts that are encoded at once: the library holds a hundred bytes and more for each of their tokens."""

_LONG_RUN = re.compile(rf"[^\W_]{{{LONGEST_RUN}}}|(?:[^\w\s]|_){{{LONGEST_RUN}}}|\s{{{LONGEST_RUN}}}")


class Tokenizer:
    """A byte-level BPE vocabulary: ids 0 (EOS) and 1 (SEP), 256 bytes, then merges.

    Text never encodes to EOS or SEP, not even text that spells "<|endoftext|>".
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        assert [backend.token_to_id(token) for token in SPECIAL_TOKENS] == [EOS, SEP]
        self._backend = backend
        self._backend.encode_special_tokens = True
        self._backend.post_processor = None  # an export's, which puts EOS before a text for other programs

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._backend.get_vocab_size()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits (SHA-256) of the vocabulary and merges."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return each text's token ids, int64 (n,), without EOS."""
        tokens: list[np.ndarray] = []
        for batch in _batches(texts):
            encoded = self._backend.encode_batch_fast(batch, add_special_tokens=False)
            tokens += [np.array(encoding.ids, np.int64) for encoding in encoded]
        return tokens

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of `ids` without EOS and SEP; bytes that are no UTF-8 become U+FFFD."""
        return self._backend.decode([int(token) for token in ids], skip_special_tokens=True)

    def save(self, path: Path) -> None:
        """Write the tokenizer to the file `path` (Hugging Face's `tokenizer.json`), atomically."""
        write_text(path, self._backend.to_str(pretty=True))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read the file that `save` wrote.

        Raises:
            StoreError: the file is missing, damaged, or not a tokenizer of this library.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise StoreError(f"{path}: no such file") from error
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}: cannot be read as a tokenizer ({error})") from error
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except AssertionError as error:
            raise StoreError(f"{path}: ids 0 and 1 are not {' and '.join(SPECIAL_TOKENS)}") from error
        except Exception as error:  # the Rust binding raises bare Exception
            raise StoreError(f"{path}: damaged, not a tokenizer ({error})") from error


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_chars = 0
    for text in texts:
        batch.append(text)
        num_chars += len(text)
        if num_chars >= CHARS_TOGETHER:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer (GPT-2's splitting) on `texts`; deterministic.

    The time of training grows with the square of the longest word, so a word of more than `LONGEST_RUN`
    characters (of text without spaces, or data) is learnt from in pieces of that length.

    Args:
        texts: training texts; only unique pool documents, so that validation text stays unseen.
        vocab_size: ids wanted, at least 258. Texts with too few repeated pairs yield fewer.

    Raises:
        ConfigError: `vocab_size` is too small for the special tokens and the 256 bytes.
    """
    require(vocab_size >= SMALLEST_VOCABULARY, "vocab_size", vocab_size, f"at least {SMALLEST_VOCABULARY}")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
    return Tokenizer(backend)


def _pieces(text: str) -> Iterator[str]:
    """Yield the text in pieces: a cut comes after each `LONGEST_RUN` characters of one kind in a row."""
    start = 0
    for run in _LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]
