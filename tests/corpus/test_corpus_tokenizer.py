"""The tokenizer: lossless, deterministic, and special tokens only where we put them."""

import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, StoreError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.corpus import Tokenizer, train_tokenizer
from sbp_bayes.corpus.tokenizer import LONGEST_RUN, _pieces

TEXTS = [f"the cat number {i} sat on the mat; der Hund saß daneben" for i in range(50)]
TOKENIZER = train_tokenizer(TEXTS, 320)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_text_decodes_to_itself(text):
    (tokens,) = TOKENIZER.encode([text])
    assert TOKENIZER.decode(tokens) == text
    assert not set(tokens) & {EOS, SEP}


@pytest.mark.parametrize("special", ["<|endoftext|>", "<|sep|>", "a <|endoftext|><|sep|> b"])
def test_text_that_spells_a_special_token_is_text(tmp_path, special):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    for tokenizer in (TOKENIZER, Tokenizer.load(tmp_path / "tokenizer.json")):
        (tokens,) = tokenizer.encode([special])
        assert tokens.min() > SEP
        assert tokenizer.decode(tokens) == special


def test_decode_leaves_out_special_tokens():
    (tokens,) = TOKENIZER.encode(["the cat"])
    assert TOKENIZER.decode([EOS, *tokens, SEP, *tokens, EOS]) == "the catthe cat"


def test_batches_do_not_change_the_tokens():
    many = [f"text {i}" for i in range(2500)]
    together = TOKENIZER.encode(many)
    assert all(np.array_equal(a, TOKENIZER.encode([t])[0]) for a, t in zip(together, many, strict=True))


def test_merges_shorten_the_training_text():
    assert TOKENIZER.vocab_size == 320
    assert len(TOKENIZER.encode(TEXTS[:1])[0]) < len(TEXTS[0]) / 2


def test_too_little_text_gives_a_smaller_vocabulary():
    assert train_tokenizer(["ab"], 4096).vocab_size == 259


@pytest.mark.parametrize("alphabet", ["abcdefghij", "-=+*", "日本語漢字", "0123456789"])
def test_training_time_grows_linearly_with_a_word(alphabet):
    random = np.random.default_rng(0)

    def seconds(length):
        word = "".join(random.choice(list(alphabet), size=length))
        start = time.process_time()
        tokenizer = train_tokenizer([word, *TEXTS], 400)
        spent = time.process_time() - start
        assert tokenizer.decode(tokenizer.encode([word])[0]) == word
        return spent

    # The square would be 16 times: 1.0 s and 23.8 s of the processor were measured when words were whole.
    assert seconds(200_000) < 8 * max(seconds(50_000), 0.05)


def test_texts_without_long_runs_are_learnt_from_whole():
    """The vocabulary is the library's own of the same texts; a long run is learnt from in pieces."""
    texts = ["a" * (LONGEST_RUN - 1) + " " + "-" * (LONGEST_RUN - 1) + " " * (LONGEST_RUN - 1) + "b"]
    assert list(_pieces(texts[0])) == texts
    pieces = list(_pieces("word " + "é" * (2 * LONGEST_RUN + 5) + " end"))
    assert pieces == ["word " + "é" * LONGEST_RUN, "é" * LONGEST_RUN, "é" * 5 + " end"]


@given(st.text(alphabet="ab1_-é日 \n", max_size=40).map(lambda text: "".join(c * 90 for c in text)))
@settings(max_examples=50, deadline=None)
def test_pieces_are_the_text_without_a_long_run(text):
    pieces = list(_pieces(text))
    assert "".join(pieces) == text
    assert not any(
        re.search(rf"[^\W_]{{{LONGEST_RUN + 1}}}|\s{{{LONGEST_RUN + 1}}}", piece) for piece in pieces
    )


def test_training_is_deterministic_across_processes():
    code = (
        "from sbp_bayes.corpus import train_tokenizer\n"
        "texts = [f'the cat number {i} sat on the mat; der Hund saß daneben' for i in range(50)]\n"
        "print(train_tokenizer(texts, 320).fingerprint)"
    )
    for hash_seed in "1", "2":
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "TOKENIZERS_PARALLELISM": "false"}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert out.stdout.decode().strip() == TOKENIZER.fingerprint


def test_save_and_load(tmp_path):
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    loaded = Tokenizer.load(path)
    assert loaded.fingerprint == TOKENIZER.fingerprint
    assert np.array_equal(loaded.encode(TEXTS[:1])[0], TOKENIZER.encode(TEXTS[:1])[0])


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"version": "1.0"}', b"[1, 2"])
def test_a_bad_file_raises_a_store_error(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"tokenizer\.json"):
        Tokenizer.load(path)


def test_a_tokenizer_of_other_special_tokens_is_refused(tmp_path):
    import tokenizers

    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(StoreError, match="ids 0 and 1"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(ConfigError, match="vocab_size = 257"):
        train_tokenizer(TEXTS, 257)
