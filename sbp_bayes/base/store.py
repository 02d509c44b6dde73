"""Atomic files: a reader sees the old content or the new, whatever kills the writer."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sbp_bayes.base.errors import StoreError

REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EROFS,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
)
"""No space, a limit, no permission, or a file where a folder should be (and the reverse)."""

TAIL_BYTES = 1 << 16
"""Bytes of a file's end that are searched together for the last whole line."""


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals under this block into a `StoreError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StoreError(f"cannot write {path}: {os.strerror(error.errno)}") from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`; on leaving, flush it to disk and rename it to `path`.

    The file has the permissions that the umask leaves, whatever the program that fills it would set. On an
    exception the temporary file is removed and `path` stays as it was.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(b"")
            permissions = temporary.stat().st_mode
            yield temporary
            _permit(temporary, permissions)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path, *, known: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on leaving, flush its files and rename it to `path`.

    Its files have the permissions that the umask leaves, as in `atomic_path`. A folder that is there already
    is replaced whole, if it holds nothing but entries called `known`. On an exception `path` stays as it
    was. A kill between the two renames of a replacement leaves no folder at `path` (the former one lies
    beside it), never a mixture.

    Raises:
        StoreError: `path` is a file or holds other entries, the disk is full, or it cannot be written.
    """
    path = Path(path).resolve()
    temporary, former = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    with writing_to(path):
        foreign = sorted({entry.name for entry in path.iterdir()} - set(known)) if path.exists() else []
        if foreign:
            raise StoreError(f"cannot write {path}: it holds other files already, {foreign[0]} for one")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            # A folder's permissions are those of a file and the search bit.
            permissions = temporary.stat().st_mode & 0o666
            for file in temporary.iterdir():
                _permit(file, permissions)
                with open(file, "rb+") as opened:
                    os.fsync(opened.fileno())
            if path.exists():
                os.replace(path, former)
            os.replace(temporary, path)
            shutil.rmtree(former, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _permit(file: Path, permissions: int) -> None:
    """Set a file's permissions where they differ: a library may have made it for its owner alone."""
    if stat.S_IMODE(file.stat().st_mode) != stat.S_IMODE(permissions):
        file.chmod(stat.S_IMODE(permissions))


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON, also names of files that are not UTF-8."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text.encode(errors="backslashreplace").decode())  # JSON escapes surrogates like Python


def read_json(path: Path) -> Any:
    """Read JSON from `path`.

    Raises:
        StoreError: the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: damaged, not JSON ({error})") from error


def append_json_line(path: Path, value: Any) -> None:
    """Append one JSON line to `path` with a single write, so that a kill leaves at most a torn tail.

    A torn tail that an earlier kill left is cut off first: it is no line, and would spoil this one.
    """
    with writing_to(path), open(path, "a+b") as file:
        _cut_torn_tail(file)
        file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())


def _cut_torn_tail(file: BinaryIO) -> None:
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - TAIL_BYTES) if end < size else end - 1  # most files end with a whole line
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        file.truncate(end)


def read_json_lines(path: Path) -> list[Any]:
    """Read a file that `append_json_line` wrote, without the torn last line a kill may have left.

    Raises:
        StoreError: another line is not JSON; the message names file and line.
    """
    if not Path(path).exists():
        return []
    values = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], start=1):
        try:
            values.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}:{number}: damaged, not JSON ({error})") from error
    return values


def folder_fingerprint(folder: Path) -> str:
    """Return 16 hexadecimal digits (SHA-256) of a folder's files and their names, hidden ones left out.

    Raises:
        StoreError: a file cannot be read.
    """
    digest = hashlib.sha256()
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in names:
        if any(part.startswith(".") for part in name.parts):
            continue
        try:
            with open(folder / name, "rb") as file:
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
        except OSError as error:
            raise StoreError(f"{folder / name}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()[:16]
