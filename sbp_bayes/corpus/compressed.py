"""Compressed files as streams of bytes: gzip, zstd, bz2 and xz, of one or more members, in bounded memory."""

import bz2
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

READ_BYTES = 1 << 14
PIECE_BYTES = 1 << 16
MAGIC_BYTES = 6
ZSTD_HEADER_BYTES = 18
LARGEST_WINDOW = 1 << 31
"""Bytes of the largest zstd window, as `zstd --long=31` writes it."""


class DamagedMemberError(OSError):
    """Bytes within a member that its decompressor refuses."""


class _GzipMember:
    """A zlib decompressor with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data


_SKIPPABLE = tuple(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))
_MAGICS = {
    "gzip": (b"\x1f\x8b\x08",),
    "bz2": (b"BZh",),
    "xz": (b"\xfd7zXZ\0",),
    "zstd": (b"\x28\xb5\x2f\xfd", *_SKIPPABLE),
}
"""First bytes of a member (zstd: of a frame, which may be one to be skipped)."""

_DECOMPRESSORS: Mapping[str, Callable[[], Any]] = {
    "gzip": _GzipMember,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}
"""What reads one member, but for zstd, whose own Python interfaces bound no output or hide truncation."""


class Decompressed(io.RawIOBase):
    """The content of a compressed file: its members end to end, up to the place where it breaks.

    Zeros after a member are padding (tapes and block devices leave them) and are skipped. A decompressor
    that meets damage drops what it has decompressed in that call; the file is then read again up to that
    call, and byte by byte from there, so that nothing before the damage is lost.

    Attributes:
        has_rubbish: whether other bytes than zeros followed the last member; known at the end.

    Raises (when read):
        OSError: the file is empty, truncated, damaged or of another kind.
    """

    def __init__(self, path: Path, compression: str) -> None:
        self._path, self._compression = path, compression
        self._most = PIECE_BYTES
        self._pieces: Any = self._read()
        self._num_pieces = 0
        self._left = memoryview(b"")
        self.has_rubbish = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(self._next_piece())
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        self._pieces.close()
        super().close()

    def _next_piece(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
        except DamagedMemberError:
            if self._most == 1:
                raise
            self._pieces = self._read()
            for _ in range(self._num_pieces):
                next(self._pieces)
            self._most = 1
            return self._next_piece()
        self._num_pieces += 1
        return piece

    def _read(self) -> Iterator[bytes]:
        """Yield the content in pieces, none of them empty."""
        magics = _MAGICS[self._compression]
        member = self._zstd_frames() if self._compression == "zstd" else self._member
        with open(self._path, "rb", PIECE_BYTES) as file:
            start = file.read(MAGIC_BYTES)
            if not start:
                raise OSError("an empty file is no compressed stream")
            if not _may_begin(start, magics):
                raise OSError(f"not {self._compression}")
            while start and _may_begin(start, magics):
                file.seek(-len(start), os.SEEK_CUR)
                yield from filter(None, member(file))
                start = _skip_padding(file)
            if start and _holds_any(file, magics):
                raise OSError("other bytes between two members")
            self.has_rubbish = bool(start)

    def _member(self, file: BinaryIO) -> Iterator[bytes]:
        decompressor = _DECOMPRESSORS[self._compression]()
        data, ended = b"", False
        while not decompressor.eof:
            if decompressor.needs_input:
                data = file.read(READ_BYTES)
                ended = not data
            try:
                piece = decompressor.decompress(data, self._most)
            except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
                raise DamagedMemberError(str(error)) from error
            if ended and not piece:
                raise OSError("truncated")
            data = b""
            yield piece
        file.seek(-len(decompressor.unused_data), os.SEEK_CUR)

    @staticmethod
    def _zstd_frames() -> Callable[[BinaryIO], Iterator[bytes]]:
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)

        def frame(file: BinaryIO) -> Iterator[bytes]:
            head = file.read(ZSTD_HEADER_BYTES)
            if head[:4] in _SKIPPABLE:
                file.seek(8 - len(head) + int.from_bytes(head[4:8], "little"), os.SEEK_CUR)
                if len(head) < 8 or file.tell() > os.fstat(file.fileno()).st_size:
                    raise OSError("truncated")
                return
            try:
                size = zstandard.frame_header_size(head)
                has_checksum = zstandard.get_frame_parameters(head).has_checksum
                file.seek(size - len(head), os.SEEK_CUR)
                yield from _zstd_blocks(file, decompressor.decompressobj(), head[:size], has_checksum)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error

        return frame


def _zstd_blocks(file: BinaryIO, frame: Any, header: bytes, has_checksum: bool) -> Iterator[bytes]:
    """Yield a frame's content block by block, of at most 128 KiB each (RFC 8878, section 3.1.1)."""
    yield frame.decompress(header)
    is_last = False
    while not is_last:
        block_header = _exactly(file, 3)
        bits = int.from_bytes(block_header, "little")
        is_last, is_run = bool(bits & 1), bits >> 1 & 3 == 1
        yield frame.decompress(block_header + _exactly(file, 1 if is_run else bits >> 3))
    if has_checksum:
        frame.decompress(_exactly(file, 4))


def _may_begin(data: bytes, magics: tuple[bytes, ...]) -> bool:
    return any(magic.startswith(data[: len(magic)]) for magic in magics)


def _skip_padding(file: BinaryIO) -> bytes:
    """Move `file` over zeros; return the bytes that it has then moved on by, or b"" at the end."""
    while rest := file.read(READ_BYTES):
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


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise OSError("truncated")
    return data
