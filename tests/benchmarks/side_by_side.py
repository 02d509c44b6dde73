"""Roads to the same result timed in turn, so that a busy machine slows all alike, and their ratios."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

IS_SMALL = os.environ.get("SBP_BENCH") == "small"
"""Whether to try the benchmarks on little work, to see that they run; their numbers mean nothing then."""

ROUNDS = 1 if IS_SMALL else 7


@contextmanager
def torch_threads(number: int = 2) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of repeats, and the lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:,.4g} [{self.low:,.4g}, {self.high:,.4g}]"


class SideBySide:
    """Roads that each do some work and return how much; a round is one turn of each.

    `speeds` has each road's work a second, round by round.
    """

    def __init__(self, roads: Mapping[str, Callable[[], float]]) -> None:
        self.roads = roads
        self.speeds: dict[str, list[float]] = {name: [] for name in roads}

    def round(self) -> None:
        for name, road in self.roads.items():
            start = time.perf_counter()
            work = road()
            self.speeds[name].append(work / (time.perf_counter() - start))

    def run(self, benchmark: BenchmarkFixture, rounds: int = ROUNDS) -> None:
        """Time `rounds` rounds after one that is thrown away; the benchmark's own time is of whole rounds."""
        self.round()
        for values in self.speeds.values():
            values.clear()
        benchmark.pedantic(self.round, rounds=rounds)

    def ratio(self, first: str, second: str) -> Spread:
        """How many times as fast as `second` the road `first` is, by round."""
        pairs = zip(self.speeds[first], self.speeds[second], strict=True)
        return Spread.of([one / other for one, other in pairs])


class Report:
    """Lines for a person, printed in spite of pytest's capture, and the same in the benchmark's record."""

    def __init__(self, benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
        self.benchmark, self.capsys = benchmark, capsys
        self.say(f"\n{benchmark.group}" + (" (small: no measurement)" if IS_SMALL else ""))

    def say(self, text: str) -> None:
        with self.capsys.disabled():
            print(text)

    def value(self, name: str, spread: Spread, unit: str) -> None:
        self.benchmark.extra_info[name] = dataclasses.asdict(spread)
        self.say(f"  {name}: {spread} {unit}")

    def bar(self, name: str, spread: Spread, bar: float, *, most: bool = False) -> None:
        """Report a ratio beside its bar: at least, or with `most` at most. A bar that is missed is said."""
        met = spread.median <= bar if most else spread.median >= bar
        self.benchmark.extra_info[name] = dataclasses.asdict(spread) | {"bar": bar, "met": met}
        sign = "≤" if most else "≥"
        self.say(f"  {name}: {spread}, bar {sign} {bar:g}: {'met' if met else 'MISSED'}")

    def speeds(self, roads: SideBySide, unit: str) -> None:
        for name, values in roads.speeds.items():
            self.value(name, Spread.of(values), unit)
