"""A judge behind HTTP: any server that speaks OpenAI's chat completions, by the standard library."""

import dataclasses
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from sbp_bayes.base.config import encode, require
from sbp_bayes.base.errors import ConfigError, JudgeError
from sbp_bayes.base.progress import say
from sbp_bayes.base.seeds import derive_seed
from sbp_bayes.evaluation.judge.judges import Meter, Reply, one_line
from sbp_bayes.evaluation.judge.questions import Message

KEY = "SBP_JUDGE_KEY"
"""Environment variable that holds the key of the endpoint, where it wants one. It is written nowhere."""

REFUSED = (400, 413, 422)
"""Statuses that concern one prompt, for instance one that is too long."""

PASSING = (408, 409, 425, 429)
"""Statuses, besides those from 500, after which the same request is made again."""

BYTES_TOGETHER = 1 << 16
MOST_BYTES = 1 << 24
"""Size of a response beyond which it is no reply."""

PARAMETERS = {"temperature": 0, "max_tokens": 512}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """A server and how it is asked.

    Attributes:
        url: base address, for instance http://localhost:8000/v1; "/chat/completions" is added.
        model: name of the model, as the server has it.
        parameters: further fields of a request's body. Models that want max_completion_tokens in place of
            max_tokens, or no temperature, are given their own.
        timeout_seconds: longest time for one request, from its begin to the last byte of its response.
        tries: requests for one prompt, where they time out, fail on the way or in the server.
        first_wait_seconds: pause before the second request, doubled before each further one, up to
            `max_wait_seconds`; less a random half, so that threads do not come back together. A server's
            Retry-After counts where it is longer.
    """

    url: str
    model: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(PARAMETERS))
    timeout_seconds: float = 120.0
    tries: int = 5
    first_wait_seconds: float = 1.0
    max_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"judge URL {self.url!r}: expected http://HOST[:PORT]/v1 or https://…")
        if parts.username is not None or parts.password is not None or parts.query:
            raise ConfigError(f"judge URL at {parts.hostname}: give its key as {KEY}, not in the URL")
        require(self.tries >= 1, "tries", self.tries, "at least 1")
        for key in ("timeout_seconds", "first_wait_seconds", "max_wait_seconds"):
            require(getattr(self, key) > 0, key, getattr(self, key), "above 0")


class _TryAgain(Exception):
    """A request that failed in a way that may pass."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as the error that it is here: it would carry the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class EndpointJudge:
    """A judge behind an endpoint; see `Judge`. Requests may be made from several threads."""

    def __init__(self, config: EndpointConfig) -> None:
        """Read the key; nothing is asked yet.

        Raises:
            JudgeError: a key that HTTP cannot carry.
        """
        self.config = config
        self._key = os.environ.get(KEY, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise JudgeError(f"{KEY} holds characters that no key has")
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._address = config.url.removesuffix("/").removesuffix("/chat/completions") + "/chat/completions"

    @property
    def settings(self) -> dict[str, Any]:
        """Model and parameters."""
        return {"kind": "endpoint", "model": self.config.model, "parameters": encode(self.config.parameters)}

    @property
    def source(self) -> str:
        """The address that is asked."""
        return self._address

    def reply(self, messages: Sequence[Message], meter: Meter) -> Reply:
        """Ask until there is a reply, at most `tries` times."""
        body = {**self.config.parameters, "model": self.config.model, "messages": list(messages)}
        content = json.dumps(body).encode()
        config = self.config
        for attempt in range(config.tries):
            meter.request()
            try:
                return dataclasses.replace(self._asked(content), requests=attempt + 1)
            except _TryAgain as failure:
                reason = failure
            if attempt + 1 < config.tries:
                chance = derive_seed(attempt, content.decode()) / (1 << 63)
                wait = min(config.first_wait_seconds * 2**attempt, config.max_wait_seconds) * (1 - chance / 2)
                wait = max(wait, min(reason.wait_seconds, config.max_wait_seconds))
                say(f"judge: {reason}; asked again in {wait:.1f} s")
                time.sleep(wait)
        raise JudgeError(f"judge at {self._address}: no reply after {config.tries} tries ({reason})")

    def _asked(self, content: bytes) -> Reply:
        """Make one request."""
        try:
            return _reply_of(self._posted(content))
        except urllib.error.HTTPError as error:
            with error:
                said = self._said_by(error)
            if error.code in REFUSED:
                return Reply(text=None, error=said)
            if error.code in PASSING or error.code >= 500:
                raise _TryAgain(said, _seconds(error.headers.get("Retry-After", ""))) from error
            raise JudgeError(f"judge at {self._address}: {said}") from error
        except urllib.error.URLError as error:
            raise _TryAgain(one_line(str(error.reason))) from error
        except (http.client.HTTPException, OSError) as error:
            raise _TryAgain(one_line(str(error)) or type(error).__name__) from error

    def _posted(self, content: bytes) -> bytes:
        """Return a response's body, all of it within the time that a request has."""
        end = time.monotonic() + self.config.timeout_seconds
        headers = {"Content-Type": "application/json", "User-Agent": "sbp_bayes"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._address, content, headers, method="POST")
        parts = []
        with self._opener.open(request, timeout=self.config.timeout_seconds) as response:
            while part := response.read1(BYTES_TOGETHER):
                parts.append(part)
                if time.monotonic() > end:
                    raise TimeoutError("timed out")
                if len(parts) * BYTES_TOGETHER > MOST_BYTES and sum(map(len, parts)) > MOST_BYTES:
                    raise _TryAgain(f"a response of more than {MOST_BYTES:,} bytes")
            if response.length:
                raise _TryAgain(f"a response that ends {response.length:,} bytes too early")
        return b"".join(parts)

    def _said_by(self, error: urllib.error.HTTPError) -> str:
        """Return the status and what a server says of it, without the key, which some of them repeat."""
        try:
            said = error.read(BYTES_TOGETHER).decode(errors="replace")
        except (http.client.HTTPException, OSError):
            said = ""
        message = _message(said) or said
        if self._key:
            message = message.replace(self._key, "…")
        return f"HTTP {error.code}: {one_line(message) or error.reason}"


def _reply_of(body: bytes) -> Reply:
    """Read a chat completion; a body that is none may be one the next time."""
    try:
        response = json.loads(body)
        choice = response["choices"][0]
        text = choice["message"]["content"]
        usage = response.get("usage") or {}
        tokens = usage.get("total_tokens")
        if not isinstance(text, str | None):
            raise TypeError("content that is no text")
        return Reply(
            text=_encodable(text or ""),  # none of a model that was still thinking at its limit
            model=_encodable(str(response.get("model", ""))),
            finish=_encodable(str(choice.get("finish_reason", ""))),
            tokens=tokens if isinstance(tokens, int) else None,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        start = one_line(body[:200].decode(errors="replace"))
        raise _TryAgain(f"not a chat completion: {start or 'an empty response'}") from error


def _encodable(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold, lone surrogates, as JSON escapes."""
    return text.encode(errors="backslashreplace").decode()


def _message(said: str) -> str:
    """Return the message within an error's JSON, "" where there is none."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After header; 0 for a date."""
    return float(text) if text.strip().isdecimal() else 0.0
