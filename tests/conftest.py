"""Settings that every test shares."""

import os

import hypothesis
import jaxtyping
import pytest
import shape_checks

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A busy machine is no failure.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    """Check shapes at the library's borders, but not while benchmarks run."""
    if not config.getoption("benchmark_only"):
        jaxtyping.install_import_hook(shape_checks.PACKAGES, "shape_checks.only_arrays")
