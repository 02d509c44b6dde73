"""Files of JSON lines: written compressed by zstd and atomically, read in any compression."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import atomic_path
from sbp_bayes.corpus.compressed import Decompressed
from sbp_bayes.corpus.listing import kind_of, shown

ENDING = ".jsonl.zst"
LEVEL = 3
"""Level of zstd's compression, its own default."""


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one line per record to `path`, compressed and with a checksum; the file is there whole or not.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, write_checksum=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as file,
        compressor.stream_writer(file) as stream,
    ):
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def read_json_lines_of(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line from 1, value) for every line of a file that is not blank.

    Args:
        path: a file of JSON lines, plain or compressed by gzip or zstd, as its name says.

    Raises:
        CorpusError: a file that is missing, damaged or of another kind, or a line that is not JSON; the
            message names file and line.
    """
    kind = kind_of(path.name)
    if kind is None or kind.content != "lines":
        raise CorpusError(f"{shown(path)}: expected JSON lines (.jsonl, also with .gz or .zst)")
    number = 0
    try:
        with _opened(path, kind.compression) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except FileNotFoundError as error:
        raise CorpusError(f"{shown(path)}: no such file") from error
    except OSError as error:
        raise CorpusError(f"{shown(path)}:{number + 1}: unreadable from here ({error})") from error
    except ValueError as error:
        raise CorpusError(f"{shown(path)}:{number}: not JSON ({error})") from error


def _opened(path: Path, compression: str | None) -> BinaryIO:
    if compression is None:
        return open(path, "rb")
    return cast(BinaryIO, io.BufferedReader(Decompressed(path, compression)))
