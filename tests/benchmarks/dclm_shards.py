"""Shards of DCLM-baseline's folders and schema: random words, with planted duplicates across shards.

`python tests/benchmarks/dclm_shards.py FOLDER --mebibytes 1024` writes 1 GiB of text. A document is a
function of the seed and its number: 2% are exact duplicates of another one, and 3% near duplicates, in which
one word in 100 is another (their Jaccard similarity is at least 0.8).
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

NUM_WORDS = 50_000
SHORTEST = 60
MEDIAN_WORDS = 300
EXACT_SHARE, NEAR_SHARE = 0.02, 0.03
BLOCK = 1000
"""Documents drawn together; a duplicate is of one in its own block."""

NAME = "global-shard_{:02}_of_10/local-shard_{}_of_10/shard_{:08}_processed.jsonl.zst"


@dataclasses.dataclass
class Written:
    """Documents, bytes of their texts, and how many of them are planted duplicates."""

    documents: int = 0
    bytes: int = 0
    exact: int = 0
    near: int = 0


def vocabulary(seed: int) -> np.ndarray:
    random = np.random.default_rng([seed, 0])
    syllables = np.array([a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"])
    draws = ("".join(random.choice(syllables, random.integers(1, 5))) for _ in range(2 * NUM_WORDS))
    return np.array(list(itertools.islice(dict.fromkeys(draws), NUM_WORDS)), object)


def block_of_documents(
    words: np.ndarray, seed: int, block: int, median_words: int
) -> Iterator[tuple[str, str]]:
    """Yield (kind, text): kind is "new", "exact" or "near"."""
    random = np.random.default_rng([seed, 1, block])
    lengths = np.maximum(SHORTEST, random.lognormal(np.log(median_words), 0.8, BLOCK)).astype(int)
    total = int(lengths.sum())
    zipf = (len(words) ** random.random(total)).astype(int) - 1
    documents = np.split(zipf, np.cumsum(lengths)[:-1])
    chances, originals = random.random(BLOCK), random.random(BLOCK)
    for i in range(BLOCK):
        kind = "new"
        if i and chances[i] < EXACT_SHARE + NEAR_SHARE:
            documents[i] = documents[int(originals[i] * i)]
            kind = "exact" if chances[i] < EXACT_SHARE else "near"
        if kind == "near":
            number = len(documents[i])
            others = (documents[i] + random.integers(1, len(words), number)) % len(words)
            documents[i] = np.where(np.arange(number) % 100 == number // 2 % 100, others, documents[i])
        yield kind, " ".join(words[documents[i]])


def dclm_record(number: int, text: str) -> dict[str, Any]:
    url = f"http://example.org/{number}"
    metadata = {
        "Content-Length": str(10 * len(text)),
        "Content-Type": "application/http; msgtype=response",
        "WARC-Date": "2014-03-13T14:49:13Z",
        "WARC-Identified-Payload-Type": None,
        "WARC-Record-ID": f"<urn:uuid:55042cfb-1487-48d0-9c6a-{number:012}>",
        "WARC-Target-URI": url,
        "WARC-Truncated": None,
        "WARC-Type": "response",
    }
    return {
        "bff_contained_ngram_count_before_dedupe": 20,
        "language_id_whole_page_fasttext": {"en": 0.94},
        "metadata": metadata,
        "previous_word_count": text.count(" ") + 1,
        "text": text,
        "url": url,
        "warcinfo": "robots: classic\r\nsoftware: Nutch 1.6 (CC)/CC WarcExport 1.0",
        "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_prob": 0.08555358648300171,
    }


def open_shard(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return zstandard.open(path, "wt", encoding="utf-8")


def write_shards(
    folder: Path,
    *,
    num_documents: int | None = None,
    num_bytes: int | None = None,
    num_shards: int = 16,
    seed: int = 0,
    median_words: int = MEDIAN_WORDS,
) -> Written:
    """Write shards until there are so many documents, or bytes of text."""
    words, written = vocabulary(seed), Written()
    with ExitStack() as files:
        shards = []
        for k in range(num_shards):
            path = folder / NAME.format(1 + k % 2, k // 2 % 10, k // 20)
            shards.append(files.enter_context(open_shard(path)))
        for block in itertools.count():
            for kind, text in block_of_documents(words, seed, block, median_words):
                if written.documents == num_documents or (
                    num_bytes is not None and written.bytes >= num_bytes
                ):
                    return written
                line = json.dumps(dclm_record(written.documents, text), ensure_ascii=False)
                shards[written.documents % num_shards].write(line + "\n")
                written.documents += 1
                written.bytes += len(text)
                written.exact += kind == "exact"
                written.near += kind == "near"
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        write_shards(
            arguments.folder,
            num_bytes=arguments.mebibytes << 20,
            num_shards=arguments.shards,
            seed=arguments.seed,
        )
    )


if __name__ == "__main__":
    main()
