"""What a judge is, and what it may spend."""

import dataclasses
import textwrap
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import JudgeError, LimitReached
from sbp_bayes.evaluation.judge.questions import Message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """What a judge says to one prompt.

    Attributes:
        text: its words as they came; None where it refused this prompt.
        error: why it refused, on one line; "" where it did not.
        model: the name that the judge gives itself.
        finish: why the reply ends, for instance "stop" or "length".
        tokens: tokens of prompt and reply together; None where the judge does not count them.
        requests: requests that it took.
    """

    text: str | None
    error: str = ""
    model: str = ""
    finish: str = ""
    tokens: int | None = None
    requests: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a judge may spend on all questions of one folder, earlier commands included.

    Attributes:
        max_requests: requests, those that failed included; None for no limit.
        max_tokens: tokens of prompts and replies. They are known afterwards, so that the requests under way
            may exceed it; None for no limit.
    """

    max_requests: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for key in ("max_requests", "max_tokens"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "at least 1")


class Meter:
    """Counts what is spent, from several threads."""

    def __init__(self, limits: Limits, requests: int = 0, tokens: int = 0) -> None:
        """Go on from what was spent before."""
        self._limits, self.requests, self.tokens = limits, requests, tokens
        self._lock = threading.Lock()

    def request(self) -> None:
        """Count a request that is about to be made.

        Raises:
            LimitReached: it may not be made.
        """
        limits = self._limits
        with self._lock:
            if limits.max_requests is not None and self.requests >= limits.max_requests:
                raise LimitReached(f"the limit of {limits.max_requests:,} requests is reached")
            if limits.max_tokens is not None and self.tokens >= limits.max_tokens:
                raise LimitReached(f"the limit of {limits.max_tokens:,} tokens is reached")
            self.requests += 1

    def read(self, reply: Reply) -> None:
        """Count the tokens of a reply.

        Raises:
            JudgeError: tokens are limited, and the judge does not count them.
        """
        with self._lock:
            self.tokens += reply.tokens or 0
        if self._limits.max_tokens is not None and reply.text is not None and reply.tokens is None:
            raise JudgeError("the judge does not count tokens: limit requests instead")


class Judge(Protocol):
    """Answers prompts in words."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its answers depend on besides the prompt, as JSON types: model and sampling."""
        ...

    @property
    def source(self) -> str:
        """Where it is, for the record; no answer depends on it."""
        ...

    def reply(self, messages: Sequence[Message], meter: Meter) -> Reply:
        """Return what it says to a prompt, after as many requests as that takes.

        Raises:
            JudgeError: it cannot be reached, or does not speak its protocol.
            LimitReached: the meter allows no further request.
        """
        ...


def one_line(text: object) -> str:
    """Return what a server or library says on one line of at most 200 characters."""
    return textwrap.shorten(str(text), 200, placeholder="…")
