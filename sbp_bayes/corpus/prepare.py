"""From paths to a tokenised, de-duplicated and split corpus: the stage `corpus`."""

import dataclasses
import functools
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.config import fingerprint
from sbp_bayes.base.errors import CorpusError, StoreError
from sbp_bayes.base.progress import progress, say
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import (
    Folder,
    Manifest,
    Outcome,
    Place,
    StageFolder,
    Workspace,
    as_place,
    plan_stage,
    run_stage,
)
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.base.workers import side_by_side, usable_cores
from sbp_bayes.corpus.config import CorpusConfig
from sbp_bayes.corpus.hashes import hash_files
from sbp_bayes.corpus.hub import PREFIX as HUB
from sbp_bayes.corpus.hub import hub_fingerprint
from sbp_bayes.corpus.listing import LeftOut, list_files, shown
from sbp_bayes.corpus.merge import remove_duplicates, tokenizer_texts, write_split
from sbp_bayes.corpus.packaged import PREFIX as PACKAGED
from sbp_bayes.corpus.packaged import packaged_fingerprint
from sbp_bayes.corpus.reading import source_name
from sbp_bayes.corpus.records import Corpus
from sbp_bayes.corpus.rejects import report
from sbp_bayes.corpus.shards import Shard, list_shards, read_shard, tokenise_shard
from sbp_bayes.corpus.splits import SPLITS
from sbp_bayes.corpus.tokenizer import TOKENIZER, Tokenizer, train_tokenizer

REJECTS, INPUTS, SCRATCH = "rejects.jsonl", "inputs.json", "shards"
HASHES = ".hashes.json"
"""Beside the stage's output, or in the workspace: hashes of input files that were read before."""

BYTES_PER_WORKER = 32_000_000
LARGE_METADATA = 4
"""Metadata are large where they take so many times the bytes of their texts."""

Content = tuple[str, int, str]
"""A file's name relative to its path, its size and its hash."""


def prepare_corpus(config: CorpusConfig, directory: Place, *, num_workers: int | None = None) -> Manifest:
    """Read, clean, de-duplicate, split and tokenise the documents of `config.paths` into `directory`.

    Writes `tokenizer.json` (trained on the unique pool documents alone), the corpora `pool/`,
    `validation/` and `test/`, `rejects.jsonl` (each rejected record's file, line and reason),
    `duplicates.parquet` (each removed document and its survivor), and a manifest whose counts say what
    became of every document read. A finished directory of the same plan is returned as it is; an
    interrupted one goes on with the shards that are not done.

    Args:
        config: what to make.
        directory: the stage's folder, or a workspace.
        num_workers: processes that share the shards; by default the usable cores, and fewer for less
            than 32 MB a process. Changes no result.

    Raises:
        CorpusError: bad input (see `read_documents`), two documents of one id, an empty split, or a
            directory inside the input (or around it).
        StoreError: the directory holds another plan's output, or cannot be written.
    """
    left_out = LeftOut()
    shards = list_shards(config, Path(), left_out)  # as they are now: stamped first, then fingerprinted
    place = as_place(directory)
    _refuse_own_output(shards, place)
    contents = _contents_of(config, place.root / HASHES)
    plan = plan_stage("corpus", config, _fingerprints(contents), __name__)
    if num_workers is None:
        num_bytes = sum(size for shard in shards for size, _ in shard.stamps)
        num_workers = min(usable_cores(), 1 + num_bytes // BYTES_PER_WORKER)

    def work(folder: StageFolder) -> Outcome:
        write_json(folder.path / INPUTS, contents)
        return _prepare(config, shards, folder, num_workers, left_out)

    try:
        return run_stage(plan, place, work)
    except StoreError as error:
        changed = _changed_files(place.folder(plan), contents)
        raise StoreError(f"{error}{changed}") from error


def load_corpus_inputs(config: CorpusConfig) -> dict[str, str]:
    """Return, for each path of `config`, a fingerprint of its files' names, sizes and contents.

    Raises:
        CorpusError: a path is missing or unreadable.
    """
    return _fingerprints(_contents_of(config, None))


def choose_unique(pool: Corpus, num_tokens: int, seed: int) -> Corpus:
    """Return a random subset of whole documents of at most `num_tokens` tokens, EOS included.

    Documents are taken in a random order of `seed` until the next one does not fit, so a smaller
    budget's subset lies within a larger one's. They come back in the pool's order.

    Raises:
        CorpusError: the pool holds fewer than `num_tokens` tokens, or not even one document fits.
    """
    if pool.num_tokens < num_tokens:
        raise CorpusError(f"the pool holds {pool.num_tokens:,} tokens, fewer than the {num_tokens:,} needed")
    order = numpy_generator(seed, "unique").permutation(len(pool))
    count = int((pool.lengths[order] + 1).cumsum().searchsorted(num_tokens, side="right"))
    if count == 0:
        raise CorpusError(f"{num_tokens:,} tokens are fewer than the first document chosen has")
    chosen = order[:count]
    chosen.sort()
    return pool.select(chosen)


def _refuse_own_output(shards: list[Shard], place: Folder | Workspace) -> None:
    """Raise a `CorpusError` where the output would be input of the next run, or the reverse."""
    out = place.root.resolve()
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{shown(out)}: the output folder's name is not UTF-8: choose another one"
        ) from error
    paths = {shard.path for shard in shards if shard.files != (None,)}
    folders = {file.parent for shard in shards for file in shard.files if file is not None}
    for path in sorted(paths):
        text = Path(path).resolve()
        if text.is_dir() and out.is_relative_to(text):
            raise CorpusError(
                f"{shown(path)}: the output folder {shown(out)} lies inside it: choose another one"
            )
        if text.is_relative_to(out) and not isinstance(place, Workspace):
            raise CorpusError(f"{shown(path)} lies inside the output folder {shown(out)}: choose another one")
    for folder in sorted(folders):
        if folder.resolve().is_relative_to(out) and not isinstance(place, Workspace):
            raise CorpusError(
                f"{shown(folder)} leads into the output folder {shown(out)}: choose another one"
            )


def _prepare(
    config: CorpusConfig, shards: list[Shard], folder: StageFolder, num_workers: int, left_out: LeftOut
) -> Outcome:
    scratch = folder.path / SCRATCH
    shards = [dataclasses.replace(shard, folder=scratch) for shard in shards]
    markers = _read(config, shards, num_workers)
    _join_rejects(shards, folder.path / REJECTS)
    counts = _counts(markers, left_out)
    for line in report(counts):
        say(line)
    folder.tick()
    if not any(marker["documents"] for marker in markers):
        raise CorpusError(f"no documents in {len(shards)} files are left after cleaning")
    duplicates = remove_duplicates(shards, config, folder.path, num_workers, folder.tick)
    folder.tick()
    _refuse_empty_splits(shards, config)
    path = folder.path / TOKENIZER
    if not path.exists():
        train_tokenizer(tokenizer_texts(shards, config.tokenizer_bytes), config.vocab_size).save(path)
    vocab_size = Tokenizer.load(path).vocab_size
    folder.tick()
    with progress("tokenising", len(shards), "shards") as advance:
        calls = [functools.partial(tokenise_shard, shard, path) for shard in shards]
        num_tokens = side_by_side(calls, num_workers, lambda _: advance(1))
    sizes = {}
    for name in SPLITS:
        total = sum(tokens[name] for tokens in num_tokens)
        sizes[name] = write_split(shards, name, total, vocab_size, folder.path / name)
    counts |= duplicates | {"vocab_size": vocab_size, "splits": sizes}
    return Outcome(counts=counts, scratch=(SCRATCH,))


def _read(config: CorpusConfig, shards: list[Shard], num_workers: int) -> list[dict[str, Any]]:
    num_files = sum(len(shard.files) for shard in shards)
    bad: list[str] = []
    warned = False
    with progress("reading and cleaning", len(shards), "shards") as advance:

        def on_done(marker: dict[str, Any]) -> None:
            nonlocal warned
            bad.extend(marker["bad"])
            if len(bad) > config.max_bad_files * num_files:
                cap = f"more than max_bad_files = {config.max_bad_files:g}"
                raise CorpusError(f"{bad[0]}; {len(bad)} of {num_files} files are bad, {cap}")
            for message in marker["bad"]:
                say(f"bad file: {message}")
            if not warned and marker["metadata_bytes"] > LARGE_METADATA * marker["text_bytes"]:
                warned = True
                _warn_of_metadata(marker)
            advance(1)

        calls = [functools.partial(read_shard, shard, config) for shard in shards]
        return side_by_side(calls, num_workers, on_done)


def _warn_of_metadata(marker: dict[str, Any]) -> None:
    times = marker["metadata_bytes"] / marker["text_bytes"]
    say(
        f"metadata take {times:.0f} times the bytes of their texts, most of it the field "
        f"{marker['largest_field']!r}: --drop-fields and --keep-fields leave some out"
    )


def _join_rejects(shards: list[Shard], path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as joined:
        for shard in shards:
            if shard.file(REJECTS).exists():
                with open(shard.file(REJECTS), "rb") as part:
                    shutil.copyfileobj(part, joined)


def _refuse_empty_splits(shards: list[Shard], config: CorpusConfig) -> None:
    kept = np.concatenate([shard.index["split"][shard.kept] for shard in shards])
    for name, count in zip(SPLITS, np.bincount(kept, minlength=len(SPLITS)), strict=True):
        if not count and config.split_shares.get(name, 1) > 0:
            raise CorpusError(f"no document in the {name} split: only {len(kept)} unique documents")


def _counts(markers: list[dict[str, Any]], left_out: LeftOut) -> dict[str, Any]:
    sums = {
        name: dict(sum((Counter(marker[name]) for marker in markers), Counter()))
        for name in ("rejected", "cleaned_away", "lost_values")
    }
    first_rejected: dict[str, str] = {}
    for marker in markers:
        first_rejected = marker["first_rejected"] | first_rejected
        left_out.add_record(marker["files_left_out"])
    return {
        "read": sum(marker["read"] for marker in markers),
        **sums,
        "first_rejected": first_rejected,
        "empty_shards": sum(marker["read"] == 0 for marker in markers),
        "bad_files": sum(len(marker["bad"]) for marker in markers),
        "files_left_out": left_out.record(),
        "metadata_bytes": sum(marker["metadata_bytes"] for marker in markers),
    }


def _fingerprints(contents: dict[str, list[Content]]) -> dict[str, str]:
    return {path: fingerprint(known) for path, known in contents.items()}


def _contents_of(config: CorpusConfig, memory: Path | None) -> dict[str, list[Content]]:
    return {path: _contents(config, path, memory) for path in config.paths}


def _contents(config: CorpusConfig, path: str, memory: Path | None) -> list[Content]:
    if path.startswith(PACKAGED):
        return [(path, 0, packaged_fingerprint(path.removeprefix(PACKAGED)))]
    if path.startswith(HUB):
        streaming = config.limit_documents is not None
        return [(path, 0, hub_fingerprint(path.removeprefix(HUB), streaming=streaming))]
    files = list_files(Path(path))
    return [
        (source_name(path, file), content.num_bytes, content.sha256)
        for file, content in zip(files, hash_files(files, memory), strict=True)
    ]


def _changed_files(directory: Path, contents: dict[str, list[Content]]) -> str:
    """Say which files differ from those that `directory` was made from; nothing if none or unknown."""
    if not (directory / INPUTS).exists():
        return ""
    before = {(p, *c) for p, known in read_json(directory / INPUTS).items() for c in known}
    now = {(p, *c) for p, known in contents.items() for c in known}
    changed = sorted({name for path, name, _, _ in before ^ now if path in contents})
    more = f" and {len(changed) - 3} others" if len(changed) > 3 else ""
    return f"; changed since then: {', '.join(changed[:3])}{more}" if changed else ""
