"""Samples that another engine drew for our requests, through the screen of our own sampler.

Files are sorted into shards first, each file by itself: a part of the work that is there after a kill is
not done again. Then shards are screened in the order of their samples, whatever the order of the files.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sbp_bayes.base.config import encode, fingerprint, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.base.workers import side_by_side
from sbp_bayes.corpus.hashes import hash_files
from sbp_bayes.corpus.json_lines import read_json_lines_of
from sbp_bayes.corpus.listing import list_files, shown
from sbp_bayes.lm import Generated
from sbp_bayes.synthesis.collect import SHARDS, collect, shard_name
from sbp_bayes.synthesis.generate import SynthesisConfig
from sbp_bayes.synthesis.requests import RequestFolder, read_requests
from sbp_bayes.synthesis.screen import Screen, ScreenConfig
from sbp_bayes.synthesis.shards import Shard
from sbp_bayes.synthesis.sources import Prompt

SAMPLES = "samples"
"""Folder of the files in what `vllm.sample_requests` wrote."""

PARTS = "parts"
KEYS = ("sample", "model", "seed", "token_ids", "finish_reason")
"""What the line of a sample holds, besides what its engine adds."""
SPECIAL = (("EOS", EOS), ("SEP", SEP))
LINES_TOGETHER = 8192
"""Lines of a file that are held at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What is kept of samples that are there.

    Attributes:
        num_tokens: tokens wanted after screening, one EOS a document included.
        screen: which samples pass.
    """

    num_tokens: int
    screen: ScreenConfig = dataclasses.field(default_factory=ScreenConfig)

    def __post_init__(self) -> None:
        require(self.num_tokens >= 1, "num_tokens", self.num_tokens, "at least 1")


def import_samples(
    config: ImportConfig,
    requests: Path,
    paths: Sequence[Path],
    directory: Place,
    *,
    num_workers: int | None = None,
) -> Manifest:
    """Write the synthetic corpus that the samples in `paths` make: a stage like that of `synthesize`.

    Samples that are equal to our own sampler's give the same corpus, to the byte.

    Args:
        config: how much is wanted, and which samples pass.
        requests: the folder of `write_requests` that the samples answer.
        paths: files of JSON lines, folders of them, or what `vllm.sample_requests` wrote, in any order; see
            `requests` for what a line holds.
        directory: see `synthesize`.
        num_workers: processes that share the files; by default the usable cores.

    Raises:
        CorpusError: a sample of another model or of other requests, one that is repeated or missing, or
            that holds a token outside the vocabulary; or the samples are too few. The message names the
            file and the sample.
        StoreError: `directory` holds another plan's output, or the disk is full.
    """
    asked = RequestFolder.open(Path(requests))
    settings = {key: value for key, value in encode(asked.config).items() if key != "num_samples"}
    synthesis = SynthesisConfig(num_tokens=config.num_tokens, screen=config.screen, **settings)
    folders = [path / SAMPLES if (path / SAMPLES).is_dir() else path for path in map(Path, paths)]
    files = [file for folder in folders for file in list_files(folder)]
    hashes = [found.sha256 for found in hash_files(files)]
    order = sorted(range(len(files)), key=hashes.__getitem__)
    inputs = {**asked.inputs, "samples": fingerprint(sorted(hashes))}
    plan = plan_stage("synthesize", synthesis, inputs, __name__)
    return run_stage(plan, directory, _Import(synthesis, asked, [files[i] for i in order], num_workers))


@dataclasses.dataclass(frozen=True)
class _Import:
    """The stage's work: sort the files into shards, and screen these in order."""

    config: SynthesisConfig
    requests: RequestFolder
    files: Sequence[Path]
    num_workers: int | None

    def __call__(self, folder: StageFolder) -> Outcome:
        check = _Check.of(self.requests)
        calls = [
            functools.partial(_sort_file, file, folder.path / PARTS / f"{number:06d}", check)
            for number, file in enumerate(self.files)
        ]
        parts: dict[int, list[tuple[Path, Path]]] = defaultdict(list)
        for file, written in zip(self.files, side_by_side(calls, self.num_workers), strict=True):
            for first, path in written:
                parts[first].append((file, path))
        screen = Screen(self.config.screen, self.config.num_tokens)
        with closing(self._shards(folder, screen, parts)) as shards:
            outcome = collect(
                shards, screen, folder, tokenizer=self.requests.tokenizer, model=self.requests.model
            )
        return dataclasses.replace(outcome, scratch=(PARTS,))

    def _shards(
        self, folder: StageFolder, screen: Screen, parts: Mapping[int, Sequence[tuple[Path, Path]]]
    ) -> Generator[tuple[Shard, list[Prompt]], None, None]:
        """Yield shards until `screen` is full, each with its samples' prompts."""
        for first, asked in self.requests.shards():
            prompts = [request.prompt for request in read_requests(asked)]
            samples = _read_samples(parts.get(first, ()))
            missing = next((i for i in range(len(prompts)) if first + i not in samples), None)
            prompts = prompts[:missing]
            for number, prompt in enumerate(prompts, start=first):
                if samples[number].seed != prompt.stream_seed:
                    raise CorpusError(
                        f"{samples[number].place}: sample {number} was drawn with seed "
                        f"{samples[number].seed}, and not {prompt.stream_seed}: it answers other requests"
                    )
            shard = Shard.of(first, [samples[number].drawn for number in range(first, first + len(prompts))])
            shard.save(folder.path / SHARDS / f"{shard_name(first)}.npz")
            yield shard, prompts
            if screen.is_full:
                return
            if missing is not None:
                later = len(samples) > missing or any(start > first for start in parts)
                raise CorpusError(self._too_few(screen, asked, first + missing, later))
        raise CorpusError(self._too_few(screen, asked, self.requests.config.num_samples, False))

    def _too_few(self, screen: Screen, asked: Path, missing: int, later: bool) -> str:
        if later:
            return f"{asked}: sample {missing} is missing in the files given, which hold later ones"
        return (
            f"{self.requests.manifest.directory}: the first {missing:,} samples hold {screen.kept_tokens:,} "
            f"tokens that pass the screen, and {screen.num_tokens:,} are wanted: more of the "
            f"{self.requests.config.num_samples:,} requests, or more requests, are needed"
        )


class _Sample(NamedTuple):
    """A sample as its line has it, and where that is."""

    number: int
    line: int
    seed: int
    drawn: Generated
    file: Path | None = None

    @property
    def place(self) -> str:
        return f"{shown(self.file or '')}:{self.line}"


@dataclasses.dataclass(frozen=True)
class _Check:
    """What a line must hold in order to answer a request."""

    model: str
    vocab_size: int
    num_samples: int
    limit: int
    shard_size: int

    @classmethod
    def of(cls, requests: RequestFolder) -> "_Check":
        config = requests.config
        vocab_size, model = requests.model.vocab_size, requests.inputs["model"]
        return cls(model, vocab_size, config.num_samples, config.max_document_tokens, config.shard_size)

    def sample(self, line: int, record: Any) -> _Sample:
        """Return the sample of a line.

        Raises:
            CorpusError: what is wrong with it, without its file.
        """
        missing = [key for key in KEYS if key not in record] if isinstance(record, dict) else list(KEYS)
        if missing:
            raise CorpusError(f"{missing[0]} is missing: a sample has {', '.join(KEYS)}")
        number, seed = record["sample"], record["seed"]
        if not _is_whole(number) or not 0 <= number < self.num_samples:
            raise CorpusError(f"sample {number!r} was not asked for: there are {self.num_samples:,} requests")
        if record["model"] != self.model:
            raise CorpusError(f"sample {number} is of model {record['model']!r}, not of {self.model!r}")
        if not _is_whole(seed):
            raise CorpusError(f"sample {number} has the seed {seed!r}: expected a whole number")
        tokens = self._tokens(number, record["token_ids"])
        return _Sample(number, line, seed, self._drawn(number, tokens, record["finish_reason"]))

    def _tokens(self, number: int, ids: Any) -> np.ndarray:
        if not isinstance(ids, list) or not all(map(_is_whole, ids)):
            raise CorpusError(f"sample {number} has token_ids that are no list of whole numbers")
        unknown = next((token for token in ids if not 0 <= token < self.vocab_size), None)
        if unknown is not None:
            raise CorpusError(
                f"sample {number} holds token {unknown}, but the vocabulary has {self.vocab_size:,}"
            )
        return np.array(ids, np.int64)

    def _drawn(self, number: int, tokens: np.ndarray, reason: Any) -> Generated:
        """Return the document of a sample: without EOS, and cut at the limit where it did not end there."""
        ended = len(tokens) > 0 and tokens[-1] == EOS
        document = tokens[:-1] if ended else tokens
        within = next((name for name, token in SPECIAL if token in document), None)
        if within is not None:
            raise CorpusError(f"sample {number} holds {within} within the document")
        if reason not in ("stop", "length") or (ended and reason == "length"):
            expected = "'stop', since it ends with EOS" if ended else "'stop' or 'length'"
            raise CorpusError(f"sample {number} has finish_reason = {reason!r}: expected {expected}")
        limit, length = self.limit, len(document)
        if length > limit + (reason == "length"):
            raise CorpusError(f"sample {number} has {length} tokens: expected {limit} at most")
        if reason == "length" and length < limit:
            raise CorpusError(f"sample {number} was cut after {length} tokens: the limit is {limit}")
        return Generated(document[:limit], reason == "stop")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _sort_file(file: Path, folder: Path, check: _Check) -> list[tuple[int, Path]]:
    """Check the samples of `file` and write them by shard; return each part's first sample and file.

    The marker that names the parts is written last.
    """
    marker = folder / "parts.json"
    if not marker.exists():
        written: list[tuple[int, str]] = []
        lines = read_json_lines_of(file)
        while block := [
            _sample_of(file, line, record, check) for line, record in islice(lines, LINES_TOGETHER)
        ]:
            block.sort(key=lambda sample: sample.number)
            for shard, samples in groupby(block, key=lambda sample: sample.number // check.shard_size):
                name = f"{len(written):06d}.npz"
                _write_samples(list(samples), folder / name)
                written.append((shard * check.shard_size, name))
        write_json(marker, written)
    return [(first, folder / name) for first, name in read_json(marker)]


def _sample_of(file: Path, line: int, record: Any, check: _Check) -> _Sample:
    try:
        return check.sample(line, record)
    except CorpusError as error:
        raise CorpusError(f"{shown(file)}:{line}: {error}") from error


def _write_samples(samples: Sequence[_Sample], path: Path) -> None:
    shard = Shard.of(0, [sample.drawn for sample in samples])
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            numbers=np.array([sample.number for sample in samples], np.int64),
            lines=np.array([sample.line for sample in samples], np.int64),
            seeds=np.array([sample.seed for sample in samples], np.int64),
            **dataclasses.asdict(shard),
        )


def _read_samples(parts: Sequence[tuple[Path, Path]]) -> dict[int, _Sample]:
    """Return the samples of a shard by their numbers.

    Args:
        parts: each part's origin and its file.
    """
    samples: dict[int, _Sample] = {}
    for origin, path in parts:
        shard = Shard.load(path)
        with np.load(path) as arrays:
            numbers, lines, seeds = (arrays[name].tolist() for name in ("numbers", "lines", "seeds"))
        for i, (number, line, seed) in enumerate(zip(numbers, lines, seeds, strict=True)):
            drawn = Generated(shard.sample(i), bool(shard.finished[i]))
            sample = _Sample(number, line, seed, drawn, origin)
            if number in samples:
                raise CorpusError(
                    f"{sample.place}: sample {number} is repeated, it is in {samples[number].place} already"
                )
            samples[number] = sample
    return samples
