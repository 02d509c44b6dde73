"""Bad input, counted and logged: rejected records, files that break off, and what else is left out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import append_json_line
from sbp_bayes.corpus.listing import LeftOut, shown


class BadFileError(CorpusError):
    """A file that is truncated or damaged, or in which too many records are bad; `reason` says which."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return BadFileError, (str(self), self.reason)


class Rejected(Exception):
    """Why one record is no document."""


class RejectLog:
    """Counts records and appends each rejected one to a file as {"file", "line", "reason"}.

    Attributes:
        num_records: records seen in all files, rejected and empty ones included.
        num_empty: records whose text is empty, white space or null: no documents, but no mistakes either.
        reasons: number of rejected records by reason.
        first: where the first record of each reason is, as "file:line".
        lost_values: number of metadata values that could not be kept, by field.
        left_out: files that are not read.
    """

    def __init__(self, path: Path | None = None, max_bad_share: float = 0.01) -> None:
        """Prepare the log.

        Args:
            path: file to append to; None counts only.
            max_bad_share: a file with a larger share of rejected records stops the reading: at its end,
                at every 1,000th record, and after its first 100 where all of these are bad.
        """
        self.path = path
        self.max_bad_share = max_bad_share
        self.num_records = self.num_empty = 0
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.lost_values: Counter[str] = Counter()
        self.left_out = LeftOut()
        self.begin_file("", None)

    @property
    def num_rejected(self) -> int:
        """Records rejected so far, in all files."""
        return self.reasons.total()

    def counts(self) -> dict[str, Any]:
        """Return what was counted, in JSON types, as `report` takes it."""
        return {
            "read": self.num_records,
            "rejected": dict(self.reasons),
            "first_rejected": dict(self.first),
            "cleaned_away": {"empty text": self.num_empty} if self.num_empty else {},
            "lost_values": dict(self.lost_values),
            "files_left_out": self.left_out.record(),
        }

    def begin_file(self, name: str, path: Path | None) -> None:
        """Start on the records of the file that documents' ids call `name`; `path` is where it lies."""
        self._file, self._place, self.records_of_file, self._bad = name, shown(path or name), 0, 0

    def count(self, line: int, reason: str | None = None) -> None:
        """Count the record at `line` (from 1) of the current file, rejected if `reason` is given.

        Raises:
            CorpusError: too many of the file's records are bad.
        """
        self.num_records += 1
        self.records_of_file += 1
        if reason is not None:
            self._reject(line, reason)
        if self.records_of_file % 1000 == 0 or self.records_of_file == self._bad == 100:
            self.check_share()

    def break_off(self, reason: str) -> None:
        """Count the rest of the current file as one rejected record, at the line after the last one read."""
        self.num_records += 1
        self.records_of_file += 1
        self._reject(self.records_of_file, reason)

    def _reject(self, line: int, reason: str) -> None:
        self._bad += 1
        self.reasons[reason] += 1
        self.first.setdefault(reason, f"{self._file}:{line}")
        if self.path is not None:
            append_json_line(self.path, {"file": self._file, "line": line, "reason": reason})

    def check_share(self) -> None:
        """Raise a `CorpusError` if too many of the current file's records were rejected."""
        if self._bad > self.max_bad_share * self.records_of_file:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.reasons.most_common(3))
            raise BadFileError(
                f"{self._place}: {self._bad} of {self.records_of_file} records rejected, more than "
                f"max_bad_share = {self.max_bad_share:g}; most often: {reasons}",
                "rest left out after too many bad records",
            )


def report(counts: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for a person: what of the text that was read is left out, and where it begins."""
    of_all = f"of {counts['read']:,} records"
    for reason, number in counts["rejected"].items():
        yield f"rejected: {reason}, {number:,} {of_all}, first {counts['first_rejected'][reason]}"
    for reason, number in counts["cleaned_away"].items():
        yield f"left out: {reason}, {number:,} {of_all}"
    for field, number in counts["lost_values"].items():
        yield f"left out: {number:,} values of the field {field!r}, which JSON cannot hold"
    for ending, entry in counts["files_left_out"].items():
        names = ", ".join(entry["first"]) + ", …" * (entry["files"] > len(entry["first"]))
        yield f"not read: {entry['files']:,} {ending} ({names})"
