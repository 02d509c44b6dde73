"""What tests of corpora share."""

from collections.abc import Iterator

import pytest

from sbp_bayes.base.progress import Lines, use_display


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that are shown on stderr."""
    lines: list[str] = []
    use_display(Lines(lines.append))
    yield lines
    use_display(None)
