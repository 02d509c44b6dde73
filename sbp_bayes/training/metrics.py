"""The append-only record of a training, cut back to its checkpoint when the training resumes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CheckpointError
from sbp_bayes.base.store import writing_to


class MetricsLog:
    """JSON lines held in memory until `flush`; on leaving the block what is held is written too.

    Args:
        path: the file.
        num_bytes: length of the file at the checkpoint that is resumed (0 at the start); what an
            interrupted attempt wrote after it is cut off.
        writes: whether to touch the file at all; of several processes one does.

    Raises:
        CheckpointError: the file is shorter than it was at the checkpoint.
        StoreError: the file cannot be written.
    """

    def __init__(self, path: Path, num_bytes: int, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes
        self._held: list[str] = []
        if not writes:
            return
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                found = file.tell()
                if found >= num_bytes:
                    file.truncate(num_bytes)
        if found < num_bytes:
            raise CheckpointError(
                f"{path}: {found:,} bytes, but {num_bytes:,} when the checkpoint was written"
            )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def append(self, record: Mapping[str, Any]) -> None:
        """Hold one record for the next `flush`."""
        self._held.append(json.dumps(record) + "\n")

    def flush(self) -> int:
        """Write what is held, to the disk, and return the file's length in bytes (0 if it is not ours)."""
        if not self._writes:
            self._held.clear()
            return 0
        with writing_to(self.path), open(self.path, "ab") as file:
            file.write("".join(self._held).encode())
            self._held.clear()
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
