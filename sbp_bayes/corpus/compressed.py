"""Compressed files as streams of bytes: gzip and zstd, of one or more members, in bounded memory."""

import io
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

PIECE_BYTES = 1 << 16
MAGIC_BYTES = 4
ZSTD_HEADER_BYTES = 18
LARGEST_WINDOW = 1 << 31
"""Bytes of the largest zstd window, as `zstd --long=31` writes it."""


class Decompressed(io.RawIOBase):
    """The content of a compressed file: its members end to end, up to the place where it breaks.

    Zeros after a member are padding (tapes and block devices leave them) and are skipped.

    Attributes:
        has_rubbish: whether other bytes than zeros followed the last member; known at the end.

    Raises (when read):
        OSError: the file is empty, truncated, damaged or of another kind.
    """

    def __init__(self, path: Path, compression: str) -> None:
        """Prepare to read `path`; nothing is opened before the first byte is asked for.

        Args:
            path: the file.
            compression: "gzip" or "zstd".
        """
        self.has_rubbish = False
        self._pieces = self._read(path, compression)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the next piece of the content goes, and return how far that is."""
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self._pieces.close()
        super().close()

    def _read(self, path: Path, compression: str) -> Any:
        """Yield the content in pieces, none of them empty."""
        member, magics = _FORMATS[compression]
        with open(path, "rb", PIECE_BYTES) as file:
            start = file.read(MAGIC_BYTES)
            if not start:
                raise OSError("an empty file is no compressed stream")
            if not _may_begin(start, magics):
                raise OSError(f"not {compression}")
            while start and _may_begin(start, magics):
                file.seek(-len(start), os.SEEK_CUR)
                yield from member(file)
                start = _skip_padding(file)
            if start and _holds_any(file, magics):
                raise OSError("other bytes between two members")
            self.has_rubbish = bool(start)


def _gzip_member(file: BinaryIO) -> Iterator[bytes]:
    """Yield a member's content in pieces of at most `PIECE_BYTES`, and leave `file` at its end."""
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    while not member.eof:
        data = chunk = file.read(PIECE_BYTES)
        before, num_given = member.copy(), 0
        while not member.eof and (data or not num_given):
            try:
                piece = member.decompress(data, PIECE_BYTES)
            except zlib.error as error:  # this call's content is lost with it, hence the chunk once more
                yield from itertools.islice(_byte_by_byte(before, chunk), num_given, None)
                raise OSError(str(error)) from error
            if not piece:
                break
            yield piece
            num_given += len(piece)
            data = member.unconsumed_tail
        if not chunk and not num_given:
            raise OSError("truncated")
    file.seek(-len(member.unused_data), os.SEEK_CUR)


def _byte_by_byte(member: Any, data: bytes) -> Iterator[bytes]:
    """Yield a member's content up to the damage that is known to be in `data`."""
    try:
        while True:
            yield from filter(None, [member.decompress(data, 1)])
            data = member.unconsumed_tail
    except zlib.error:
        return


def _zstd_frame(file: BinaryIO) -> Iterator[bytes]:
    """Yield a frame's content block by block, of at most 128 KiB each, and leave `file` at its end.

    The frame is taken apart here (RFC 8878, section 3.1) since zstandard's own interfaces bound no output
    or do not tell a truncated frame from a whole one.
    """
    import zstandard

    head = file.read(ZSTD_HEADER_BYTES)
    if head[:MAGIC_BYTES] in _SKIPPABLE:
        file.seek(8 - len(head) + int.from_bytes(head[4:8], "little"), os.SEEK_CUR)
        if len(head) < 8 or file.tell() > os.fstat(file.fileno()).st_size:
            raise OSError("truncated")
        return
    try:
        header = head[: zstandard.frame_header_size(head)]
        file.seek(len(header) - len(head), os.SEEK_CUR)
        frame = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
        frame.decompress(header)
        is_last = False
        while not is_last:
            block_header = _exactly(file, 3)
            bits = int.from_bytes(block_header, "little")
            is_last, is_run = bool(bits & 1), bits >> 1 & 3 == 1
            block = frame.decompress(block_header + _exactly(file, 1 if is_run else bits >> 3))
            if block:
                yield block
        if zstandard.get_frame_parameters(header).has_checksum:
            frame.decompress(_exactly(file, 4))
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise OSError("truncated")
    return data


def _may_begin(data: bytes, magics: tuple[bytes, ...]) -> bool:
    return any(magic.startswith(data[: len(magic)]) for magic in magics)


def _skip_padding(file: BinaryIO) -> bytes:
    """Move `file` over zeros; return the bytes that it has then moved on by, or b"" at the end."""
    while rest := file.read(PIECE_BYTES):
        if start := rest.lstrip(b"\0"):
            file.seek(-len(start), os.SEEK_CUR)
            return file.read(MAGIC_BYTES)
    return b""


def _holds_any(file: BinaryIO, magics: tuple[bytes, ...]) -> bool:
    """Tell whether a member may begin anywhere in what is left of `file`."""
    overlap = b""
    while data := file.read(PIECE_BYTES):
        data = overlap + data
        if any(magic in data for magic in magics):
            return True
        overlap = data[1 - MAGIC_BYTES :]
    return False


class _Format(NamedTuple):
    read_member: Callable[[BinaryIO], Iterator[bytes]]
    magics: tuple[bytes, ...]
    """First bytes of a member; zstd's may be a frame that is to be skipped."""


_SKIPPABLE = tuple(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))
_FORMATS = {
    "gzip": _Format(_gzip_member, (b"\x1f\x8b\x08",)),
    "zstd": _Format(_zstd_frame, (b"\x28\xb5\x2f\xfd", *_SKIPPABLE)),
}
