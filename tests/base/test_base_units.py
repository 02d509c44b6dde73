"""Units, progress lines, and how a program is stopped."""

import io
import math
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sbp_bayes.base import progress as progress_module
from sbp_bayes.base.progress import progress, use_display
from sbp_bayes.base.records import LossTotals
from sbp_bayes.base.units import bits_per_byte, perplexity


def test_a_uniform_byte_costs_eight_bits():
    assert bits_per_byte(1000 * math.log(256), 1000) == pytest.approx(8, rel=1e-12)
    assert perplexity(math.log(50)) == pytest.approx(50, rel=1e-12)
    assert LossTotals(loss_nats=12.0, num_tokens=4).nats_per_token == 3


@pytest.fixture(autouse=True)
def own_display() -> Iterator[None]:
    use_display(None)
    yield
    use_display(None)


def test_progress_is_plain_lines_where_there_is_no_terminal(monkeypatch):
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("tuning", 4000, "tokens") as advance:
        for _ in range(4):
            clock[0] += 6
            advance(1000)
    assert stream.getvalue().splitlines() == [
        "tuning: 2,000 of 4,000 tokens, 12 s",
        "tuning: 4,000 tokens in 24.0 s",
    ]


def test_a_week_of_work_is_a_bounded_number_of_lines(monkeypatch):
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", stream)
    seconds = 7 * 24 * 3600
    with progress("pretraining", seconds, "steps") as advance:
        for _ in range(seconds // 5):
            clock[0] += 5
            advance(5)
    lines = stream.getvalue().splitlines()
    assert [line.split(", ")[-1] for line in lines[:3]] == ["10 s", "20 s", "30 s"]
    assert seconds / 300 <= len(lines) < seconds / 300 + 100


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("tuning", 40, "tokens") as advance:
        advance(40)
    assert "40/40" in stream.getvalue()


def test_two_works_on_a_terminal_share_the_screen(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("tuning", 40, "tokens") as advance, progress("pairing", 7, "blocks") as advance_inner:
        advance(30)
        advance_inner(7)
    assert "30/40" in stream.getvalue()
    assert "7/7" in stream.getvalue()


def test_sigterm_becomes_an_interrupt_and_threads_are_told_to_sleep():
    script = """
import os, signal
os.environ.pop("OMP_WAIT_POLICY", None)
from sbp_bayes.base.runtime import configure_runtime
configure_runtime()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
except KeyboardInterrupt:
    print("in order", os.environ["OMP_WAIT_POLICY"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "in order PASSIVE\n"), signal.strsignal(-done.returncode)
