"""Settings that every test shares."""

import os
import sys

import hypothesis
import shape_checks

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Shapes at the library's borders are checked, from before a conftest below imports it; benchmarks go without.
if "--benchmark-only" not in sys.argv:
    shape_checks.install()

# A busy machine is no failure.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
