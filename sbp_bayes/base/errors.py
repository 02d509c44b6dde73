"""Errors that a user can cause, each with a message of one line that says what is wrong and where.

The command line prints such an error on stderr and exits with code 2; a violated invariant of our
own stays an `AssertionError` with its traceback.
"""


class SbpError(ValueError):
    """Base of every mistake of a user's that the library names."""


class ConfigError(SbpError):
    """An unknown or mistyped configuration key, or a value out of its range."""


class Stopped(KeyboardInterrupt):
    """A work stopped on request (SIGTERM), its state saved; the message says where it stands."""


class CorpusError(SbpError):
    """A missing path, an unreadable file, a bad line, or too little text for what was asked."""


class PairingError(SbpError):
    """Vectors that cannot be indexed, or documents that cannot be paired."""


class NoPairsError(PairingError):
    """Documents among which no pair meets the rules, or too few of which can be compared."""


class CheckpointError(SbpError):
    """A checkpoint that is missing, damaged, or of another shape or plan."""


class TrainingError(SbpError):
    """A loss that is not finite, a source of tokens that ran dry, or a step that memory does not hold."""


class WorkerError(SbpError):
    """A worker process that was ended before its work was done, mostly because memory ran out."""


class StoreError(SbpError):
    """State on disk that is damaged, belongs to another plan, or cannot be written (disk full)."""


class ConceptError(SbpError):
    """Documents that a concept model does not know, or that it gives probability 0 and conditions on."""


class JudgeError(SbpError):
    """A judge that cannot be reached, refuses what it is asked, or does not speak its protocol."""


class LimitReached(JudgeError):
    """A judge's limit of requests or tokens; what was answered before stays."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an exhausted memory from other errors.

    PyTorch raises RuntimeErrors: "can't allocate memory" for the CPU, "out of memory" for a GPU.
    """
    words = ("allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in words)
    )
