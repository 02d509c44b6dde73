"""Progress of long work, side by side where several processes work: bars on a terminal, lines elsewhere.

Everything goes to stderr. A worker process hands its progress to the process that started it.
"""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0
"""Time between two lines of progress, which grows with the time taken so far: see `Lines`."""


class Display(Protocol):
    """Shows works in progress; `key` names one of them."""

    def open(self, key: str, description: str, total: int, unit: str) -> None:
        """Begin to show a work of `total` units."""
        ...

    def advance(self, key: str, n: int) -> None:
        """Show `n` more units as done."""
        ...

    def close(self, key: str) -> None:
        """Show the work as finished or broken off."""
        ...

    def say(self, line: str) -> None:
        """Show one line, once."""
        ...


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show the progress of `total` units of work; yields a function that advances it by n units.

    Args:
        description: what is being done, for instance "pretraining baseline".
        total: units in the whole work, those that an earlier attempt finished included.
        unit: plural name of the unit, for instance "tokens".
    """
    key = str(next(_numbers))
    show_event(("open", key, description, total, unit))
    try:
        yield lambda n: show_event(("advance", key, n))
    finally:
        show_event(("close", key))


def say(line: str) -> None:
    """Show one line beside the progress of what goes on."""
    show_event(("say", line))


def current_display() -> Display:
    """Return the process's display, chosen at its first use."""
    global _display  # noqa: PLW0603 - one terminal, one display
    if _display is None:
        _display = _Bars(sys.stderr) if sys.stderr.isatty() else Lines()
    return _display


def use_display(display: Display | None) -> None:
    """Show progress on `display` from now on; None chooses anew at the next use."""
    global _display  # noqa: PLW0603 - one terminal, one display
    _display = display


class Remote:
    """A display that hands everything to `send`, for `show_event` of another process.

    Args:
        name: of this process, unique among those that share the other's display.
        send: takes one event.
    """

    def __init__(self, name: str, send: Callable[[tuple[Any, ...]], None]) -> None:
        self.name, self.send = name, send

    def open(self, key: str, description: str, total: int, unit: str) -> None:
        """See `Display`."""
        self.send(("open", f"{self.name}.{key}", description, total, unit))

    def advance(self, key: str, n: int) -> None:
        """See `Display`."""
        self.send(("advance", f"{self.name}.{key}", n))

    def close(self, key: str) -> None:
        """See `Display`."""
        self.send(("close", f"{self.name}.{key}"))

    def say(self, line: str) -> None:
        """See `Display`."""
        self.send(("say", line))


def show_event(event: tuple[Any, ...]) -> None:
    """Show a call of a `Display`, as a `Remote` of another process sends it.

    A display that fails, for instance because its terminal has gone, is given up after one line that says
    why: work does not end with its display.
    """
    try:
        method, key, *arguments = event
        if method == "open":
            _shown[key] = arguments[0]
        elif method == "close":
            _shown.pop(key, None)
        getattr(current_display(), method)(key, *arguments)
    except Exception as error:  # whatever a terminal or an event can raise
        stop_showing(error)


def stop_showing(error: Exception) -> None:
    """Show no more progress, and say why in one line, once, if that can be said at all."""
    if isinstance(_display, _Nothing):
        return
    use_display(_Nothing())
    with contextlib.suppress(OSError, ValueError):
        _say(f"progress is shown no longer: {type(error).__name__}: {error}")


def works_of_others() -> list[str]:
    """Return the descriptions of what other processes are working on, as far as they show it."""
    return [description for key, description in _shown.items() if not key.isdecimal()]


class _Bars:
    """A bar a work, as long as any work goes on."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._live: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def open(self, key: str, description: str, total: int, unit: str) -> None:
        if self._live is None:
            self._live = self._start()
        self._tasks[key] = self._live.add_task(description, total=total, unit=unit)

    def advance(self, key: str, n: int) -> None:
        if self._live is not None:
            self._live.advance(self._tasks[key], n)

    def close(self, key: str) -> None:
        self._tasks.pop(key)
        if self._live is not None and not self._tasks:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        if self._live is None:
            print(line, file=self._terminal, flush=True)
        else:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _start(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        live = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=self._terminal),
            refresh_per_second=4,
        )
        live.start()
        return live


class Both:
    """Shows everything on two displays."""

    def __init__(self, first: Display, second: Display) -> None:
        self.displays = (first, second)

    def open(self, key: str, description: str, total: int, unit: str) -> None:
        """See `Display`."""
        for display in self.displays:
            display.open(key, description, total, unit)

    def advance(self, key: str, n: int) -> None:
        """See `Display`."""
        for display in self.displays:
            display.advance(key, n)

    def close(self, key: str) -> None:
        """See `Display`."""
        for display in self.displays:
            display.close(key)

    def say(self, line: str) -> None:
        """See `Display`."""
        for display in self.displays:
            display.say(line)


class _Line:
    """What is told of one work."""

    def __init__(self, description: str, total: int, unit: str, say: Callable[[str], None]) -> None:
        self.description, self.total, self.unit, self.say = description, total, unit, say
        self.done = 0
        self.started = self.last = time.monotonic()

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        taken = now - self.started
        pause = min(max(SECONDS_BETWEEN_LINES, taken / 20), 30 * SECONDS_BETWEEN_LINES)
        if now - self.last >= pause and self.done < self.total:
            self.last = now
            self.say(f"{self.description}: {self.done:,} of {self.total:,} {self.unit}, {taken:.0f} s")

    def close(self) -> None:
        taken = time.monotonic() - self.started
        self.say(f"{self.description}: {self.done:,} {self.unit} in {taken:.1f} s")


class _Nothing:
    """What is left of a display that failed."""

    def open(self, key: str, description: str, total: int, unit: str) -> None:
        pass

    def advance(self, key: str, n: int) -> None:
        pass

    def close(self, key: str) -> None:
        pass

    def say(self, line: str) -> None:
        pass


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Lines:
    """A line now and then, for logs: every 10 seconds at first, every 5 minutes of what takes hours.

    Args:
        say: takes a line; prints it on stderr by default.
    """

    def __init__(self, say: Callable[[str], None] = _say) -> None:
        self._say = say
        self._lines: dict[str, _Line] = {}

    def open(self, key: str, description: str, total: int, unit: str) -> None:
        """See `Display`."""
        self._lines[key] = _Line(description, total, unit, self._say)

    def advance(self, key: str, n: int) -> None:
        """See `Display`."""
        self._lines[key].advance(n)

    def close(self, key: str) -> None:
        """See `Display`."""
        self._lines.pop(key).close()

    def say(self, line: str) -> None:
        """See `Display`."""
        self._say(line)


_display: Display | None = None
_shown: dict[str, str] = {}
"""Key → description of every work that is open here."""
_numbers = itertools.count()
