"""The screen keeps what it should, in order, however samples are cut into shards."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, CorpusError, StoreError
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.corpus.repetition import RepetitionRule
from sbp_bayes.lm import Generated
from sbp_bayes.synthesis import Screen, ScreenConfig, Shard

LOOSE = ScreenConfig(repetition=RepetitionRule(ngram=2, max_share=0.5), min_kept_share=0.0)
REAL = Corpus.from_tokens(
    [Document(id=f"real:{i}", text="", source="real") for i in range(2)],
    [np.array([2, 3, 4]), np.array([5, 6])],
    vocab_size=10,
)
samples = st.lists(st.lists(st.integers(2, 6), max_size=6), min_size=1, max_size=12)


def shard(first: int, texts: list[list[int]]) -> Shard:
    return Shard.of(first, [Generated(np.array(t, np.int64), len(t) % 2 == 0) for t in texts])


def take(screen: Screen, texts: list[list[int]], shard_size: int) -> list[int]:
    kept = []
    for first in range(0, len(texts), shard_size):
        part = shard(first, texts[first : first + shard_size])
        kept += [
            first + i for i in screen.take(part, [REAL.document((first + i) % 2) for i in range(len(part))])
        ]
    return kept


def test_each_reason() -> None:
    looping = [7, 8, 7, 8, 7, 8]
    texts = [[2, 3, 4], [], looping, [8, 9], [8, 9], [2, 3], [5], [5, 6, 7]]
    screen = Screen(LOOSE, num_tokens=100)
    assert take(screen, texts, 8) == [3, 5, 6, 7]  # 5 and 6 begin the other document, not their own
    assert screen.counts == {
        "samples": 8,
        "kept": 4,
        "cut": 3,
        "empty": 1,
        "repetitive": 1,
        "copy_of_seed": 1,
        "duplicate": 1,
    }
    assert screen.kept_tokens == (2 + 2 + 1 + 3) + 4


@settings(deadline=None)
@given(texts=samples, shard_size=st.integers(1, 12), num_tokens=st.integers(1, 40))
def test_shards_do_not_matter(texts: list[list[int]], shard_size: int, num_tokens: int) -> None:
    whole, cut = Screen(LOOSE, num_tokens), Screen(LOOSE, num_tokens)
    assert take(whole, texts, len(texts)) == take(cut, texts, shard_size)
    assert (whole.counts, whole.kept_tokens) == (cut.counts, cut.kept_tokens)


@settings(deadline=None)
@given(texts=samples, num_tokens=st.integers(1, 40))
def test_stops_at_the_first_sample_that_is_enough(texts: list[list[int]], num_tokens: int) -> None:
    screen = Screen(LOOSE, num_tokens)
    kept = take(screen, texts, len(texts))
    sizes = [len(texts[i]) + 1 for i in kept]
    assert sum(sizes) == screen.kept_tokens
    assert sum(sizes[:-1]) < num_tokens
    assert screen.is_full == (sum(sizes) >= num_tokens)
    assert screen.counts["samples"] == (kept[-1] + 1 if screen.is_full else len(texts))


def test_gives_up_when_hardly_anything_passes() -> None:
    config = dataclasses.replace(LOOSE, min_kept_share=0.5, judged_after=4)
    with pytest.raises(CorpusError, match=r"kept 1 of 4 samples \(3 empty"):
        take(Screen(config, 100), [[], [], [7], [], [8], [9]], 6)


@pytest.mark.parametrize("name", ["min_kept_share", "judged_after"])
def test_settings_out_of_range(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ScreenConfig(**{name: -1})


@settings(deadline=None)
@given(texts=samples)
def test_shards_survive_the_disk(tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]]) -> None:
    path = tmp_path_factory.mktemp("shard") / "0.npz"
    written = shard(3, texts)
    written.save(path)
    read = Shard.load(path)
    assert (read.first, [read.sample(i).tolist() for i in range(len(read))]) == (3, texts)
    assert np.array_equal(read.finished, written.finished)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "replaced"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "0000000000.npz"
    shard(0, [[2, 3, 4] * 50]).save(path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[content.index(np.array([2, 3, 4], np.uint32).tobytes())] ^= 1
    path.write_bytes({"truncated": content[:-40], "flipped": content, "replaced": b"hello"}[damage])
    with pytest.raises(StoreError, match=r"0000000000\.npz: damaged"):
        Shard.load(path)


def test_only_the_reasons_that_are_asked_for_count() -> None:
    texts = [[2, 3, 4], [], [8, 9], [8, 9]]
    screen = Screen(dataclasses.replace(LOOSE, reasons=("empty",)), num_tokens=100)
    assert take(screen, texts, 2) == [0, 2, 3]
    assert screen.counts["duplicate"] == screen.counts["copy_of_seed"] == 0
    with pytest.raises(ConfigError, match="reasons"):
        ScreenConfig(reasons=("dull",))
